"""The machine of `TransformManyBlock`: one input, any number of outputs."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

import trio

from flowstore.blocks._engine import kick
from flowstore.blocks._functions import refuse_coroutine
from flowstore.blocks._inlet import STEP, Inlet
from flowstore.blocks._node import Node
from flowstore.blocks._outlet import Outlet
from flowstore.blocks._records import Record, Records
from flowstore.blocks._seat import Seat
from flowstore.blocks._workers import Workers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from flowstore.blocks._failures import ErrorHandler

__all__ = ["ManyNode"]


class ManyNode(Node):
    """Iterates over what the function gives for an item, pulling only what there is room for."""

    def __init__(
        self,
        name: str,
        capacity: float,
        function: Callable[[Any], Any],
        *,
        is_async: bool,
        parallelism: float,
        ordered: bool,
        on_error: ErrorHandler | None,
    ) -> None:
        super().__init__(name, capacity)
        self._inlet = Inlet(self)
        self.inlets = (self._inlet,)
        self._outlet = Outlet(self)
        self.outlet = self._outlet
        self._function = function
        self._is_async = is_async
        self._on_error = on_error
        self._records = Records(self, self._outlet.queue, ordered=ordered and parallelism > 1)
        self._paused: dict[Record, Seat] = {}
        self._workers = Workers(self, self._work, parallelism)

    def room(self) -> float:
        return self.capacity - len(self._inlet.queue) - self._records.load

    def counts(self) -> tuple[int, int, int]:
        return len(self._inlet.queue), self._records.held, self._records.done

    def clear(self) -> None:
        self._inlet.queue.clear()
        self._outlet.clear()
        self._records.clear()

    def left(self, count: int) -> None:
        self._records.left(count)

    def dropped(self) -> None:
        # An input that made several outputs, one of which was dropped, is through all the same.
        self._records.left(1)

    def drained(self) -> bool:
        return self.inside == 0 and not self._outlet.queue

    def begin(self) -> None:
        self._workers.begin()

    def arrived(self) -> None:
        self._workers.wake_one()

    def visited(self) -> None:
        for record, seat in tuple(self._paused.items()):
            if self._records.allowance(record, self.room()) > 0:
                seat.wake()
        if self._inlet.queue:
            self._workers.wake_one()

    def release(self) -> None:
        for seat in tuple(self._paused.values()):
            seat.wake()
        self._workers.wake_all()

    async def _work(self) -> None:
        """Be one worker: take an input, iterate over its outputs, until the block has ended."""
        queue, handled = self._inlet.queue, 0
        while not self.ended:
            if not queue:
                kick(self)
                if not queue and not self.ended:
                    await self._workers.rest()
                    handled = 0
                continue
            if handled >= STEP:
                handled = 0
                kick(self)
                await trio.lowlevel.checkpoint()
                continue
            item = queue.popleft()
            handled += 1
            if not self.soon:
                self.visit_soon()
            await self._run_one(item)

    async def _run_one(self, item: Any) -> None:
        """Make one input's outputs; whatever happens, its record is closed."""
        record = self._records.begin()
        failure: BaseException | None = None
        try:
            await self._make(record, item)
        except trio.Cancelled:
            self._discard()
            raise
        except Exception as error:  # noqa: BLE001  a user's function may raise anything
            failure = error
        except BaseException as error:  # noqa: BLE001  a user's function may raise anything
            self.failed += 1
            self.fail(error, item)
            return
        if self.ended:
            self._close_after_end(item, failure)
        elif failure is None:
            self._records.exhaust(record)
        elif self._on_error is None:
            self._records.exhaust(record, failed=True)
            self.fail(failure, item)
        else:
            try:
                await self._on_error.handle_later(self, item, failure)
            finally:
                self._close_failed(record)

    def _close_failed(self, record: Record) -> None:
        """Count an input as failed once its handler is done; the outputs it made stay."""
        if self.ended:
            self.failed += 1
            self.settle_completion()
        else:
            self._records.exhaust(record, failed=True)

    async def _make(self, record: Record, item: Any) -> None:
        outputs = self._function(item)
        if self._is_async:
            outputs = await outputs
        else:
            refuse_coroutine(outputs, self._function)
        if outputs is None:
            message = "the function of a TransformManyBlock has to return an iterable, not None"
            raise TypeError(message)
        if hasattr(outputs, "__aiter__"):
            await self._iterate_async(record, aiter(outputs))
        else:
            await self._iterate(record, iter(outputs))

    async def _iterate(self, record: Record, outputs: Iterator[Any]) -> None:
        """Pull outputs by the run, as many as there is room for."""
        handled = 0
        while not self.ended:
            if handled >= STEP:
                handled = 0
                await trio.lowlevel.checkpoint()
                continue
            allowance = self._records.allowance(record, self.room())
            if allowance < 1:
                if await self._pause(record):
                    handled = 0
                continue
            wanted = int(min(allowance, STEP - handled))
            run: list[Any] = []
            try:
                run.extend(islice(outputs, wanted))
            finally:
                if not self.ended:
                    self._records.put(record, run)
            if len(run) < wanted:
                return
            handled += wanted
            kick(self)

    async def _iterate_async(self, record: Record, outputs: AsyncIterator[Any]) -> None:
        """Pull one output at a time; a generator that isn't exhausted is closed."""
        handled = 0
        try:
            while not self.ended:
                if self._records.allowance(record, self.room()) < 1:
                    if await self._pause(record):
                        handled = 0
                    continue
                if handled >= STEP:
                    handled = 0
                    kick(self)
                    await trio.lowlevel.checkpoint()
                    continue
                handled += 1
                if not self.soon:
                    self.visit_soon()
                try:
                    output = await anext(outputs)
                except StopAsyncIteration:
                    return
                if not self.ended:
                    self._records.put(record, (output,))
        finally:
            close = getattr(outputs, "aclose", None)
            if close is not None:
                await close()

    async def _pause(self, record: Record) -> bool:
        """Wait for room, or for the record's turn; False if there was no need to."""
        kick(self)
        if self.ended or self._records.allowance(record, self.room()) > 0:
            return False
        assert self.host is not None  # noqa: S101  a worker runs in a network
        seat = self._paused[record] = Seat(self.host)
        try:
            await seat.wait()
        finally:
            del self._paused[record]
        return True

    def _close_after_end(self, item: Any, failure: BaseException | None) -> None:
        """Keep the books for an input whose block ended meanwhile."""
        if failure is None:
            self._discard()
            return
        self.failed += 1
        self.fail(failure, item)
        self.settle_completion()

    def _discard(self) -> None:
        self.discarded += 1
        self.settle_completion()
