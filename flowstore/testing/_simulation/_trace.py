"""What happened, line by line, and what went wrong first."""

from collections.abc import Callable, Sequence
from typing import Final

import attrs
import trio

__all__ = ["Moment", "Trace", "Violation"]

_RECENT: Final = 12
"""Moments right before a violation, which are all told."""
_LONGEST: Final = 30
"""Moments that a story tells at most."""
_TURNS: Final = frozenset({"claims", "takes"})


@attrs.frozen
class Moment:
    """Hold something that happened.

    Attributes:
        at: seconds since the beginning, of virtual time.
        who: the process; empty for the world around.
        what: in words.
    """

    at: float
    who: str
    what: str

    def __str__(self) -> str:
        return f"{self.at:9.4f}  {self.who:<12} {self.what}"


@attrs.frozen
class Violation:
    """Hold what must not happen, and did.

    Attributes:
        law: which one was broken: order, exactly once, no skip, one owner, agreement, liveness or
            appends.
        what: what was found, and what was expected.
        line: how many moments came before it.
    """

    law: str
    what: str
    line: int


@attrs.define(eq=False)
class Trace:
    """Note what happens, until it is closed.

    Attributes:
        moments: what happened.
        violation: what went wrong first; None so far.
        broken: is called when something goes wrong.
    """

    broken: Callable[[], None]
    moments: list[Moment] = attrs.field(factory=list[Moment], init=False)
    violation: Violation | None = attrs.field(default=None, init=False)
    is_closed: bool = attrs.field(default=False, init=False)

    def note(self, who: str, what: str) -> None:
        """Add a moment."""
        if not self.is_closed:
            self.moments.append(Moment(trio.current_time(), who, what))

    def violate(self, law: str, what: str) -> None:
        """Add what must not happen; the first one ends the run."""
        if self.is_closed or self.violation is not None:
            return
        self.violation = Violation(law, what, len(self.moments))
        self.note("", f"VIOLATED {law}: {what}")
        self.broken()

    def lines(self) -> list[str]:
        """Give what happened as text."""
        return [str(moment) for moment in self.moments]


def story(moments: Sequence[Moment], violation: Violation) -> str:
    """Tell what trouble came before a violation, what came right before it, and it."""
    recent = violation.line - _RECENT
    told = [
        number
        for number, moment in enumerate(moments[: violation.line + 1])
        if number >= recent or _is_turn(moment)
    ]
    lines: list[str] = []
    following = 0
    for number in told[-_LONGEST:]:
        if number > following:
            count = number - following
            lines.append(f"  ... {count} {'line' if count == 1 else 'lines'}")
        lines.append(str(moments[number]))
        following = number + 1
    return "\n".join(lines)


def _is_turn(moment: Moment) -> bool:
    """Tell whether a moment is trouble, which is noted in capitals, or changes who owns what."""
    first, _, _ = moment.what.partition(" ")
    return first.isupper() or first in _TURNS
