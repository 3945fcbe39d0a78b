"""Transform and action blocks of plain functions: whole runs in one scheduling step."""

from __future__ import annotations

from operator import length_hint
from types import CoroutineType
from typing import TYPE_CHECKING, Any

import trio

from flowstore.blocks._engine import kick
from flowstore.blocks._functions import refuse_coroutine
from flowstore.blocks._inlet import STEP, Inlet
from flowstore.blocks._node import NO_ITEM, Node
from flowstore.blocks._outlet import Outlet
from flowstore.blocks._seat import Seat

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from flowstore.blocks._failures import ErrorHandler

__all__ = ["PlainNode"]


class PlainNode(Node):
    """Calls a plain function an item, in one task, up to `STEP` items a scheduling step.

    A plain function can't be overtaken, so neither parallelism nor partitions change anything:
    order is the order of arrival. Neighbours are told once a step, not once an item; within a step
    no other task runs, so nobody can tell the difference.
    """

    def __init__(
        self,
        name: str,
        capacity: float,
        function: Callable[[Any], Any],
        *,
        gives: bool,
        key: Callable[[Any], Any] | None,
        on_error: ErrorHandler | None,
    ) -> None:
        super().__init__(name, capacity)
        self._inlet = Inlet(self)
        self.inlets = (self._inlet,)
        self._outlet = Outlet(self) if gives else None
        self.outlet = self._outlet
        self._function = function if key is None else self._keyed(function, key)
        self._on_error = on_error
        self._seat: Seat | None = None
        self._batch: list[Any] = []
        self._rest: Iterator[Any] = iter(())  # of the batch: what hasn't been begun

    def room(self) -> float:
        return self.capacity - self.inside

    def counts(self) -> tuple[int, int, int]:
        waiting = len(self._inlet.queue) + length_hint(self._rest)
        return waiting, 0, len(self._outlet.queue) if self._outlet is not None else 0

    def clear(self) -> None:
        self._inlet.queue.clear()
        self._batch.clear()  # ends the loop that runs over it
        if self._outlet is not None:
            self._outlet.clear()

    def begin(self) -> None:
        assert self.host is not None  # noqa: S101  start() has set it
        self._seat = Seat(self.host)
        self.host.spawn(self._work, self.name)

    def arrived(self) -> None:
        if self._seat is not None:
            self._seat.wake()

    def release(self) -> None:
        self.arrived()

    async def _work(self) -> None:
        assert self._seat is not None  # noqa: S101  begin() has set it
        queue = self._inlet.queue
        self.tasks.add(trio.lowlevel.current_task())
        while not self.ended:
            if not queue:
                await self._seat.wait()
                continue
            failure = self._step()
            if failure is not None:
                await self._handle_later(*failure)
            kick(self)
            if queue:
                await trio.lowlevel.checkpoint()

    async def _handle_later(self, item: Any, error: Exception) -> None:
        """Let an async handler see a failure; until then the item is inside."""
        assert self._on_error is not None  # noqa: S101  _failed() has asked for it
        kick(self)
        try:
            await self._on_error.handle_later(self, item, error)
        finally:
            self.failed += 1
            self.settle_completion()

    def _step(self) -> tuple[Any, Exception] | None:
        """Work on a run of items; returns a failure that an async handler has to see."""
        self._batch = self._take_run()
        self._rest = iter(self._batch)
        later: tuple[Any, Exception] | None = None
        while later is None and not self.ended:
            failure = self._run()
            if failure is None:
                break
            later = self._failed(*failure)
        if self.ended:
            self._discard_last()
        return later

    def _run(self) -> tuple[Any, BaseException] | None:
        """Call the function for the rest of the run; returns where and how it failed."""
        function, rest = self._function, self._rest
        item = NO_ITEM
        try:
            if self._outlet is None:
                for item in rest:
                    result = function(item)
                    if result is not None and type(result) is CoroutineType:
                        refuse_coroutine(result, function)
                    self.finished += 1
            else:
                put = self._outlet.queue.append
                for item in rest:
                    result = function(item)
                    if type(result) is CoroutineType:
                        refuse_coroutine(result, function)
                    put(result)
        except BaseException as error:  # noqa: BLE001  a user's function may raise anything
            return item, error
        return None

    def _take_run(self) -> list[Any]:
        queue = self._inlet.queue
        if len(queue) > STEP:
            take = queue.popleft
            return [take() for _ in range(STEP)]
        run = list(queue)
        queue.clear()
        return run

    def _failed(self, item: Any, error: BaseException) -> tuple[Any, Exception] | None:
        """Fault, or let the handler see it; returns what an async handler has to see later."""
        if isinstance(error, _KeyFault):
            self.failed += 1
            self.fail(error.error, item, "the partition key of item")
        elif self._on_error is None or self.ended or not isinstance(error, Exception):
            self.failed += 1
            self.fail(error, item)
        elif self._on_error.is_async:
            self._inlet.queue.extendleft(reversed(list(self._rest)))
            return item, error
        else:
            self._on_error.handle(self, item, error)
            self.failed += 1
        return None

    def _discard_last(self) -> None:
        """Give up the result of a function that ended its own block."""
        if self._outlet is not None:
            self._outlet.clear()
        self.discarded += self.inside
        self.settle_completion()

    @staticmethod
    def _keyed(function: Callable[[Any], Any], key: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """Ask for each item's key although it changes nothing: a broken one must be told."""

        def keyed(item: Any) -> Any:
            try:
                key(item)
            except Exception as error:
                raise _KeyFault(error) from error
            return function(item)

        return keyed


class _KeyFault(BaseException):
    """Carries what a key function raised past the error policy, which is about items only."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error
