"""Transform and action blocks of async functions: persistent workers, order by tickets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio

from flowstore.blocks._engine import kick
from flowstore.blocks._inlet import STEP, Inlet
from flowstore.blocks._intake import Fifo, KeyFault, Lanes
from flowstore.blocks._node import Node
from flowstore.blocks._outlet import Outlet
from flowstore.blocks._workers import Workers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from flowstore.blocks._failures import ErrorHandler

__all__ = ["AsyncNode"]

_SKIPPED = object()
"""Fills the place, in the restored order, of an item that gave no result."""


class AsyncNode(Node):
    """Awaits an async function an item, in up to `parallelism` persistent workers.

    A worker goes on from item to item as long as the function doesn't really wait; the neighbours
    are told when it does (by a visit in the scheduler's next round), not once an item. Order is
    restored by tickets drawn when an item is taken, each filled with a result or skipped.
    """

    def __init__(
        self,
        name: str,
        capacity: float,
        function: Callable[[Any], Awaitable[Any]],
        *,
        gives: bool,
        parallelism: float,
        ordered: bool,
        key: Callable[[Any], Any] | None,
        on_error: ErrorHandler | None,
    ) -> None:
        super().__init__(name, capacity)
        self._inlet = Inlet(self)
        self.inlets = (self._inlet,)
        self._outlet = Outlet(self) if gives else None
        self.outlet = self._outlet
        self._function = function
        self._on_error = on_error
        self._intake = Fifo(self._inlet.queue) if key is None else Lanes(self._inlet.queue, key)
        self._tickets = gives and ordered and key is None and parallelism > 1
        self._drawn = 0
        self._next = 0
        self._held: dict[int, Any] = {}
        self._workers = Workers(self, self._work, parallelism)

    def room(self) -> float:
        return self.capacity - self.inside

    def counts(self) -> tuple[int, int, int]:
        held = sum(result is not _SKIPPED for result in self._held.values())
        done = len(self._outlet.queue) if self._outlet is not None else 0
        return self._intake.waiting(), held, done

    def clear(self) -> None:
        self._intake.clear()
        self._held.clear()
        if self._outlet is not None:
            self._outlet.clear()

    def begin(self) -> None:
        self._workers.begin()

    def arrived(self) -> None:
        self._workers.wake_one()

    def visited(self) -> None:
        if self._intake.pending():
            self._workers.wake_one()

    def release(self) -> None:
        self._workers.wake_all()

    async def _work(self) -> None:
        """Be one worker: take, await, give, until the block has ended."""
        intake, function, handled = self._intake, self._function, 0
        while not self.ended:
            if handled >= STEP:
                handled = 0
                kick(self)
                await trio.lowlevel.checkpoint()
                continue
            if not self._ready():
                kick(self)
                if not intake.pending() and not self.ended:
                    await self._workers.rest()
                    handled = 0
                continue
            key, item = intake.take()
            ticket = self._drawn
            self._drawn = ticket + 1
            handled += 1
            if not self.soon:
                self.visit_soon()
            result = _SKIPPED
            try:
                result = await function(item)
            except trio.Cancelled:
                self.discarded += 1
                self.settle_completion()
                raise
            except Exception as error:  # noqa: BLE001  a user's function may raise anything
                await self._failed(item, error)
            except BaseException as error:  # noqa: BLE001  a user's function may raise anything
                self.failed += 1
                self.fail(error, item)
            self._give(ticket, result)
            intake.done(key)

    def _ready(self) -> bool:
        """Tell whether an item may be taken; a key function that raises is the block's fault."""
        try:
            return self._intake.ready()
        except KeyFault as fault:
            self.failed += 1
            self.fail(fault.error, fault.item, "the partition key of item")
            return False

    def _count_late(self, result: Any) -> None:
        """Keep the books for an item whose block ended meanwhile."""
        if result is not _SKIPPED:
            if self._outlet is None:
                self.finished += 1
            else:
                self.discarded += 1
        self.settle_completion()

    def _give(self, ticket: int, result: Any) -> None:
        """Put a result where it leaves from, once all earlier ones are there."""
        if self.ended:
            self._count_late(result)
            return
        if self._outlet is None:
            self.finished += result is not _SKIPPED
            return
        queue = self._outlet.queue
        if not self._tickets:
            if result is not _SKIPPED:
                queue.append(result)
            return
        self._held[ticket] = result
        while self._next in self._held:
            ready = self._held.pop(self._next)
            self._next += 1
            if ready is not _SKIPPED:
                queue.append(ready)

    async def _failed(self, item: Any, error: Exception) -> None:
        """Fault, or let the handler see it; until then the item is inside."""
        if self._on_error is None or self.ended:
            self.failed += 1
            self.fail(error, item)
        else:
            try:
                await self._on_error.handle_later(self, item, error)
            finally:
                self.failed += 1
        if self.ended:
            self.settle_completion()
