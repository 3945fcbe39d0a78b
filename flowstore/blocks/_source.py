"""`SourceBlock`: feeds a network from an iterable."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar

import trio

from flowstore.blocks._engine import kick
from flowstore.blocks._faces import SourceFace
from flowstore.blocks._functions import check_capacity
from flowstore.blocks._inlet import STEP
from flowstore.blocks._node import Node
from flowstore.blocks._outlet import Outlet
from flowstore.blocks._seat import Seat

__all__ = ["SourceBlock"]

Out_co = TypeVar("Out_co", covariant=True)


class SourceNode(Node):
    """Pulls items while its output has room for them."""

    def __init__(self, name: str, capacity: float, items: Any) -> None:
        super().__init__(name, capacity)
        self._outlet = Outlet(self)
        self.outlet = self._outlet
        self._items = items
        self._seat: Seat | None = None
        self._scope = trio.CancelScope()
        self._pulling = False  # the iterator is open

    def room(self) -> float:
        return self.capacity - len(self._outlet.queue)

    def counts(self) -> tuple[int, int, int]:
        return 0, 0, len(self._outlet.queue)

    def clear(self) -> None:
        self._outlet.clear()

    def drained(self) -> bool:
        return not self._pulling and not self._outlet.queue

    def complete(self) -> None:
        self._scope.cancel()  # an iterator that waits for ever would never let go
        self.drain()

    def is_busy(self) -> bool:
        return False  # pulling is a task's work, and shows as that

    def begin(self) -> None:
        assert self.host is not None  # noqa: S101  start() has set it
        self._seat = Seat(self.host)
        self._pulling = True
        self.host.spawn(self._work, self.name)

    def visited(self) -> None:
        if self._seat is not None and (self.closed or self.room() > 0):
            self._seat.wake()

    def release(self) -> None:
        if self._seat is not None:
            self._seat.wake()

    async def _work(self) -> None:
        self.tasks.add(trio.lowlevel.current_task())
        try:
            items = _open(self._items)
            if isinstance(items, AsyncIterator):
                await self._pull_async(items)
            else:
                await self._pull(items)
        except trio.Cancelled:
            raise
        except BaseException as error:  # noqa: BLE001  a user's iterator may raise anything
            self.fail(error)
        finally:
            self._pulling = False
        self.drain()
        kick(self)

    async def _pull(self, items: Iterator[Any]) -> None:
        """Pull by the run, as many items as there is room for."""
        while not self.closed:
            wanted = int(min(self.room(), STEP))
            if wanted < 1:
                await self._wait()
                continue
            run: list[Any] = []
            try:
                run.extend(islice(items, wanted))
            finally:
                self._accept(run)
            if len(run) < wanted:
                return
            kick(self)
            await trio.lowlevel.checkpoint()

    async def _pull_async(self, items: AsyncIterator[Any]) -> None:
        """Pull one item at a time; an iterator that isn't exhausted is closed."""
        handled = 0
        try:
            with self._scope:
                while not self.closed:
                    if handled >= STEP:
                        handled = 0
                        kick(self)
                        await trio.lowlevel.checkpoint()
                    elif self.room() < 1:
                        if await self._wait():
                            handled = 0
                    else:
                        handled += 1
                        self.visit_soon()
                        self._accept((await anext(items),))
        except StopAsyncIteration:
            return
        finally:
            close = getattr(items, "aclose", None)
            if close is not None:
                await close()

    def _accept(self, run: Sequence[Any]) -> None:
        """Take pulled items in; those of an iterator that ended its own source are given up."""
        self.accepted += len(run)
        if self.ended:
            self.discarded += len(run)
        else:
            self._outlet.queue.extend(run)

    async def _wait(self) -> bool:
        """Wait for room; False if there was no need to."""
        assert self._seat is not None  # noqa: S101  begin() has set it
        kick(self)
        if self.room() >= 1 or self.closed:
            return False
        await self._seat.wait()
        return True


class SourceBlock(SourceFace[Out_co]):
    """Feeds a network from an iterable; pulls only while its output has room.

    It completes when the iterable is exhausted, or at once on `complete()`; an error in the
    iterable is its fault. A trio receive channel is an async iterable.

    Args:
        items: an iterable, an async iterable, or a function without arguments that returns either;
            it is called when the network starts. What is both iterable and callable is iterated.
        bounded_capacity: items it holds at most; `math.inf` for no bound.
        name: shown in statistics, pictures and errors.

    Raises:
        TypeError: `items` is none of the three.
    """

    def __init__(
        self,
        items: Iterable[Out_co]
        | AsyncIterable[Out_co]
        | Callable[[], Iterable[Out_co] | AsyncIterable[Out_co]],
        *,
        bounded_capacity: float = 128,
        name: str | None = None,
    ) -> None:
        check_capacity(bounded_capacity)
        if not (_is_iterable(items) or callable(items)):
            message = f"a source takes an iterable, an async iterable or a function: {items!r}"
            raise TypeError(message)
        super().__init__(SourceNode(name or "SourceBlock", bounded_capacity, items))


def _is_iterable(items: object) -> bool:
    # Asked of the type: a class, which is a function that makes iterables, isn't one itself.
    return any(hasattr(type(items), name) for name in ("__iter__", "__aiter__", "__getitem__"))


def _open(items: Any) -> Iterator[Any] | AsyncIterator[Any]:
    """Get the iterator behind what the source was given.

    Raises:
        TypeError: a function returned something that can't be iterated over.
    """
    opened: Any = items if _is_iterable(items) else items()
    return aiter(opened) if hasattr(opened, "__aiter__") else iter(opened)
