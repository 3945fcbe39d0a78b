"""Draws bars with rich; imported only where there is a terminal."""

from collections.abc import Sequence
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from flowstore.cli._board import Bar

__all__ = ["RichBoard"]


class RichBoard:
    """Draws one bar a line and redraws them in place; a context manager.

    Attributes:
        interval: seconds between two looks at the figures.
    """

    def __init__(self, out: TextIO) -> None:
        self.interval = 0.1
        # With auto_refresh rich starts a thread; here `show` draws.
        self._progress = Progress(
            TextColumn("{task.description:<10}"),
            BarColumn(bar_width=32),
            TextColumn("{task.completed:>9,} of {task.total:>9,}"),
            TextColumn("{task.fields[note]}"),
            console=Console(file=out),
            auto_refresh=False,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def show(self, bars: Sequence[Bar]) -> None:
        """Draw every bar as it stands now; a new name gets a line of its own."""
        for bar in bars:
            if bar.name not in self._tasks:
                self._tasks[bar.name] = self._progress.add_task(
                    bar.name, total=bar.total, note=bar.note
                )
            self._progress.update(
                self._tasks[bar.name], completed=bar.done, total=bar.total, note=bar.note
            )
        self._progress.refresh()
