"""The machine of `StreamBlock`: one async generator function over all inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio

from flowstore.blocks._engine import kick
from flowstore.blocks._inlet import STEP, Inlet
from flowstore.blocks._node import NO_ITEM, Node
from flowstore.blocks._outlet import Outlet
from flowstore.blocks._records import Record, Records
from flowstore.blocks._seat import Seat

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

__all__ = ["StreamNode"]


class StreamNode(Node):
    """Runs the function once, over an iterator of the inputs, and passes on what it yields.

    An input is worked on until the next one is asked for; outputs count as those of the input at
    hand. Outputs that are made before the first input belong to none.
    """

    def __init__(
        self,
        name: str,
        capacity: float,
        function: Callable[[AsyncIterator[Any]], AsyncIterator[Any]],
    ) -> None:
        super().__init__(name, capacity)
        self._inlet = Inlet(self)
        self.inlets = (self._inlet,)
        self._outlet = Outlet(self)
        self.outlet = self._outlet
        self._function = function
        self._records = Records(self, self._outlet.queue, ordered=False)
        self._current: Record | None = None
        self._item: Any = NO_ITEM
        self._over = False  # the function has returned
        self._seat: Seat | None = None
        self._handled = 0

    def room(self) -> float:
        return self.capacity - len(self._inlet.queue) - self._records.load

    def counts(self) -> tuple[int, int, int]:
        return len(self._inlet.queue), 0, self._records.done

    def clear(self) -> None:
        self._inlet.queue.clear()
        self._outlet.clear()
        self._records.clear()

    def left(self, count: int) -> None:
        self._records.left(count)

    def dropped(self) -> None:
        self._records.left(1)

    def drained(self) -> bool:
        return self._over and self.inside == 0 and not self._outlet.queue

    def begin(self) -> None:
        assert self.host is not None  # noqa: S101  start() has set it
        self._seat = Seat(self.host)
        self.host.spawn(self._work, self.name)

    def arrived(self) -> None:
        self.visited()

    def visited(self) -> None:
        if self._seat is not None:
            self._seat.wake()

    def release(self) -> None:
        self.visited()

    async def _work(self) -> None:
        """Run the function to its end."""
        self.tasks.add(trio.lowlevel.current_task())
        outputs = self._function(_Inputs(self))
        try:
            try:
                async for output in outputs:
                    await self._give(output)
                    if self.ended:
                        break
            finally:
                close = getattr(outputs, "aclose", None)
                if close is not None:
                    await close()
        except trio.Cancelled:
            self._lose_current()
            raise
        except BaseException as error:  # noqa: BLE001  a user's function may raise anything
            failed, self._current = self._current is not None, None
            self.failed += failed
            self.fail(error, self._item)
            self.settle_completion()
            return
        self._finish()

    def _finish(self) -> None:
        """Complete after the function has returned; inputs it left unread are a fault."""
        if self.ended:
            self._lose_current()
            return
        self._close_current()
        self._over = True
        for inlet in self.inlets:
            inlet.close()
        unread = len(self._inlet.queue)
        if unread:
            message = (
                f"the function of stream block {self.name!r} returned with {unread} accepted"
                " items unread: read its input to the end, or complete the block beforehand"
            )
            self.fail(RuntimeError(message))
        else:
            kick(self)

    async def _give(self, output: Any) -> None:
        """Put one output where it leaves from, once there is room."""
        owner = self._current
        if owner is None:
            owner = self._current = self._records.begin()
            owner.failed = True  # belongs to no input: counted by room only
        while not self.ended and self._records.allowance(owner, self.room()) < 1:
            kick(self)
            if self._records.allowance(owner, self.room()) < 1:
                await self._wait()
        if self.ended:
            return
        self._records.put(owner, (output,))
        if not self.soon:
            self.visit_soon()
        await self._be_fair()

    async def _be_fair(self) -> None:
        self._handled += 1
        if self._handled >= STEP:
            self._handled = 0
            kick(self)
            await trio.lowlevel.checkpoint()

    async def _wait(self) -> None:
        assert self._seat is not None  # noqa: S101  begin() has set it
        if not self.ended:
            self._handled = 0
            await self._seat.wait()

    def _close_current(self) -> None:
        """Take note that the input at hand makes no more outputs."""
        record, self._current, self._item = self._current, None, NO_ITEM
        if record is None or self.ended:
            return
        if record.failed:  # outputs that belong to no input
            record.exhausted = True
            self._records.load -= not record.unread
        else:
            self._records.exhaust(record)

    def _lose_current(self) -> None:
        record, self._current = self._current, None
        if record is not None and not record.failed:
            self.discarded += 1
        self.settle_completion()

    async def next_input(self) -> Any:
        """Give the function its next input; the one before is through with that.

        Raises:
            StopAsyncIteration: the block was completed and all inputs have been read.
        """
        self._close_current()
        queue = self._inlet.queue
        while not queue:
            if self.closed or self.ended:
                raise StopAsyncIteration
            kick(self)
            if not queue and not self.closed:
                await self._wait()
        await self._be_fair()
        if self.ended:
            raise StopAsyncIteration
        self._item = queue.popleft()
        self._current = self._records.begin()
        if not self.soon:
            self.visit_soon()
        return self._item


class _Inputs:
    """The async iterator that the function reads its inputs from."""

    __slots__ = ("_node",)

    def __init__(self, node: StreamNode) -> None:
        self._node = node

    def __aiter__(self) -> _Inputs:
        return self

    async def __anext__(self) -> Any:
        return await self._node.next_input()
