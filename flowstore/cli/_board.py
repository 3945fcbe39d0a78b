"""Shows how far a phase has come: bars on a terminal, plain lines elsewhere."""

import importlib
import importlib.util
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol, TextIO

import attrs

__all__ = ["Bar", "Board", "PlainBoard", "open_board"]


@attrs.frozen
class Bar:
    """How far one thing has come.

    Attributes:
        name: what is counted.
        done: how many are done.
        total: how many there will be, as far as is known.
        note: what else to say of it: a rate, a lag.
    """

    name: str
    done: int
    total: int
    note: str = ""


class Board(Protocol):
    """Shows bars; `rich` draws them on a terminal, lines are printed elsewhere.

    Attributes:
        interval: seconds between two looks at the figures.
    """

    interval: float

    def show(self, bars: Sequence[Bar]) -> None:
        """Show how far each bar has come now."""
        ...


class PlainBoard:
    """Prints one line a look: for logs and pipes.

    A line that says what the last one said is left out.

    Attributes:
        interval: seconds between two looks at the figures.
    """

    def __init__(self, out: TextIO) -> None:
        self.interval = 1.0
        self._out = out
        self._last = ""

    def show(self, bars: Sequence[Bar]) -> None:
        """Print all bars in one line; nothing as long as there is nothing to count."""
        line = "  ".join(_in_words(bar) for bar in bars if bar.total)
        if line != self._last:
            print(line, file=self._out, flush=True)
            self._last = line


def open_board(out: TextIO) -> AbstractContextManager[Board]:
    """Give the board for one phase; its last picture stays when it is left.

    Bars need a terminal that can redraw a line, and the extra `cli`, which brings rich.
    """
    redraws = out.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    if redraws and importlib.util.find_spec("rich") is not None:
        # By name, because rich is an extra: this module must import without it.
        board: AbstractContextManager[Board] = importlib.import_module(
            "flowstore.cli._rich_board"
        ).RichBoard(out)
        return board
    return nullcontext(PlainBoard(out))


def _in_words(bar: Bar) -> str:
    note = f" ({bar.note})" if bar.note else ""
    return f"{bar.name} {bar.done:,} of {bar.total:,}{note}"
