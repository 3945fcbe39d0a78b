"""The persistent workers of a block that runs several functions at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from flowstore.blocks._seat import Seat

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from flowstore.blocks._node import Node

__all__ = ["Workers"]


class Workers:
    """Starts workers as they are needed, up to a limit, and keeps them for the block's life.

    A task an item would cost more than most functions do.
    """

    __slots__ = ("_idle", "_limit", "_node", "_started", "_work")

    def __init__(self, node: Node, work: Callable[[], Awaitable[None]], limit: float) -> None:
        self._node = node
        self._work = work
        self._limit = limit
        self._started = 0
        self._idle: list[Seat] = []

    def begin(self) -> None:
        """Start the first worker."""
        self._start()

    def wake_one(self) -> None:
        """Let one more worker look for items, if there is one or may be one."""
        while self._idle:
            if self._idle.pop().wake():
                return
        if self._node.started and not self._node.ended and self._started < self._limit:
            self._start()

    def wake_all(self) -> None:
        """Let all idle workers look around: the block has ended."""
        while self._idle:
            self._idle.pop().wake()

    async def rest(self) -> None:
        """Park the calling worker until there is something to do."""
        host = self._node.host
        assert host is not None  # noqa: S101  a worker runs in a network
        seat = Seat(host)
        self._idle.append(seat)
        await seat.wait()

    def _start(self) -> None:
        host = self._node.host
        assert host is not None  # noqa: S101  only called once started
        self._started += 1
        host.spawn(self._run, self._node.name)

    async def _run(self) -> None:
        self._node.tasks.add(trio.lowlevel.current_task())
        await self._work()
