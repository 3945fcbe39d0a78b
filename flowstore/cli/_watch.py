"""Keeps a board up to date while something else is awaited."""

import sys
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeAlias

import trio

from flowstore.cli._board import Bar, Board, open_board

__all__ = ["Figures", "Rate", "watched"]

_WINDOW = 2.0

Figures: TypeAlias = Callable[[], Sequence[Bar]]


class Rate:
    """Tells how fast a count rises, over the last two seconds."""

    def __init__(self) -> None:
        self._marks: deque[tuple[float, int]] = deque()

    def of(self, count: int, now: float) -> float:
        """Note the count at a time in seconds, and return the rise a second; 0 at first."""
        if self._marks and count < self._marks[-1][1]:
            self._marks.clear()  # a rebuild has begun again from nothing
        self._marks.append((now, count))
        while now - self._marks[0][0] > _WINDOW and len(self._marks) > 2:
            self._marks.popleft()
        begin, before = self._marks[0]
        return max(0, count - before) / (now - begin) if now > begin else 0.0


@asynccontextmanager
async def watched(figures: Figures) -> AsyncGenerator[None]:
    """Show the figures while the body runs, and once more at its good end.

    What `figures` raises ends the body, and leaves in a group.
    """
    with open_board(sys.stdout) as board:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_watch, board, figures)
            yield
            nursery.cancel_scope.cancel()
        board.show(figures())


async def _watch(board: Board, figures: Figures) -> None:
    while True:
        board.show(figures())
        await trio.sleep(board.interval)
