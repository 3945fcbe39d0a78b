"""`BatchBlock`: tuples of items, by size, by age or on demand."""

from __future__ import annotations

import math
from typing import Any, TypeVar

import trio

from flowstore.blocks._engine import held, kick
from flowstore.blocks._faces import SourceFace, TargetFace
from flowstore.blocks._functions import check_capacity, check_count
from flowstore.blocks._group_node import GroupNode
from flowstore.blocks._groups import GroupInlet
from flowstore.blocks._inlet import Inlet
from flowstore.blocks._seat import Seat

__all__ = ["BatchBlock"]

T = TypeVar("T")


class BatchNode(GroupNode):
    """Collects items until they are enough, or the oldest is old enough."""

    def __init__(
        self, name: str, capacity: float, size: int, groups: float, age: float | None
    ) -> None:
        super().__init__(name, capacity, groups)
        self._size = size
        self._age = age
        self._deadline: float | None = None
        self._seat: Seat | None = None
        self._inlet = self._make_inlet()
        self.inlets = (self._inlet,)

    def _make_inlet(self) -> Inlet:
        return Inlet(self)

    def room(self) -> float:
        wanted = self.groups * self._size - len(self._inlet.queue)
        return min(self.capacity - self.inside, wanted)

    def counts(self) -> tuple[int, int, int]:
        return len(self._inlet.queue), 0, self.unread

    def clear(self) -> None:
        self._inlet.queue.clear()
        super().clear()

    def arrived(self) -> None:
        queue = self._inlet.queue
        fresh = self._deadline is None
        while len(queue) >= self._size and self.groups:
            self.put(tuple(queue.popleft() for _ in range(self._size)), self._size)
            fresh = True
        if fresh:
            self._set_deadline()
        if self.groups * self._size <= len(queue):
            self._inlet.close()
        kick(self)

    def trigger(self) -> None:
        """Make a batch of what is there, if anything is."""
        queue = self._inlet.queue
        if queue and not self.closed:
            self._flush()
            self.arrived()

    def _flush(self) -> None:
        queue = self._inlet.queue
        if queue and self.groups:
            batch = tuple(queue)
            queue.clear()
            self.put(batch, len(batch))
            self._deadline = None

    def drain(self) -> None:
        if not self.closed and not self.ended:
            self._flush()
        super().drain()

    # -- age ---------------------------------------------------------------------------------

    def _set_deadline(self) -> None:
        """Start the clock of the oldest item, if there is one and a clock."""
        self._deadline = None
        if self._age is not None and self.started and self._inlet.queue:
            self._deadline = trio.current_time() + self._age
            if self._seat is not None:
                self._seat.wake()

    def timer_pending(self) -> bool:
        return self._deadline is not None

    def begin(self) -> None:
        if self._age is not None and self.host is not None:
            self._seat = Seat(self.host)
            self._set_deadline()
            self.host.spawn(self._watch_age, f"{self.name}: age")

    def release(self) -> None:
        self._deadline = None
        if self._seat is not None:
            self._seat.wake()

    async def _watch_age(self) -> None:
        assert self._seat is not None  # noqa: S101  begin() has set both
        assert self.host is not None  # noqa: S101
        while not self.ended:
            if self._deadline is None:
                await self._seat.wait()
            elif trio.current_time() >= self._deadline:
                self.trigger()
            else:
                await self._sleep_until(self._deadline)

    async def _sleep_until(self, deadline: float) -> None:
        """Sleep without counting as active: the network sees the timer instead."""
        assert self._seat is not None  # noqa: S101  begin() has set it
        with trio.move_on_at(deadline):
            await self._seat.wait()


class GroupBatchNode(BatchNode):
    """Takes a whole batch from those who wait, one item each."""

    def _make_inlet(self) -> Inlet:
        self._group_inlet = GroupInlet(self, self)
        return self._group_inlet

    def _has_room(self, size: int) -> bool:
        return self.groups > 0 and self.capacity - self.inside >= size

    def form(self) -> None:
        while not self.closed and self._has_room(self._size):
            ready = self._group_inlet.ready()
            if len(ready) < self._size or self.ended:
                break
            self._take(ready[: self._size])

    def _take(self, waiters: list[Any], *last: Any) -> None:
        with held(self):
            inlet = self._group_inlet
            batch = (*(inlet.take_from(waiter) for waiter in waiters), *last)
            self.put(batch, len(batch))
            if not self.groups:
                inlet.close()
        kick(self)

    def take_group_with(self, inlet: GroupInlet, item: Any) -> bool:
        """Take a batch of which the item would be the last."""
        ready = inlet.ready()
        if self.ended or len(ready) != self._size - 1 or not self._has_room(self._size):
            return False
        self.accepted += 1
        self._take(ready, item)
        return True

    def trigger(self) -> None:
        if not self.closed:
            ready = self._group_inlet.ready()[: self._size]
            if ready and self._has_room(len(ready)):
                self._take(ready)


class BatchBlock(TargetFace[T], SourceFace[tuple[T, ...]]):
    """Collects items into tuples of `batch_size`; the last one, at completion, may be smaller.

    Args:
        batch_size: items a batch.
        max_age: seconds of trio's clock after which a batch leaves though it is smaller, counted
            from its first item; None: never. The clock starts when the network does.
        greedy: take items as they come. False: take nothing until `batch_size` senders and linked
            sources, counted once each, have an item; then take one from each in one step.
        max_number_of_groups: complete after so many batches; items beyond are declined.
        bounded_capacity: items it holds at most, those of unread batches included; by default the
            larger of 128 and twice the batch size.
        name: shown in statistics, pictures and errors.

    Raises:
        ValueError: a number below 1 or not whole, a `max_age` not above 0, or a capacity below the
            batch size.
    """

    def __init__(
        self,
        batch_size: int,
        max_age: float | None = None,
        *,
        greedy: bool = True,
        max_number_of_groups: float = math.inf,
        bounded_capacity: float | None = None,
        name: str | None = None,
    ) -> None:
        check_count(batch_size, "batch_size")
        check_count(max_number_of_groups, "max_number_of_groups")
        capacity = max(128, 2 * batch_size) if bounded_capacity is None else bounded_capacity
        check_capacity(capacity, batch_size)
        if max_age is not None and not max_age > 0:
            message = f"max_age has to be above 0 seconds, or None for no limit: {max_age!r}"
            raise ValueError(message)
        make = BatchNode if greedy else GroupBatchNode
        label = name or "BatchBlock"
        self._batches = make(label, capacity, batch_size, max_number_of_groups, max_age)
        super().__init__(self._batches)

    def trigger_batch(self) -> None:
        """Make a batch of what is there now; nothing happens where nothing is. Never waits."""
        self._batches.trigger()
