"""Why nothing moves, in words: what has been in hand for long, and who holds the mark."""

from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Final, Protocol, TypeVar

import attrs
import trio

from flowstore.store import OpenAppend

__all__ = ["Hold", "InHand", "still_open"]


class _Part(Protocol):
    """Lies between two sequences."""

    @property
    def floor(self) -> int: ...

    @property
    def ceiling(self) -> int: ...


_P = TypeVar("_P", bound=_Part)

_LONG: Final = 1.0
"""Seconds after which what is in hand is told."""
_QUERY_LENGTH: Final = 200
"""Characters of a holder's statement that are told."""


@attrs.frozen(eq=False)
class _Work:
    """Say what is being done, in words, and since when."""

    what: str
    since: float


@attrs.define(eq=False)
class InHand:
    """Note what is being done, so that it can be told once it takes long."""

    _works: list[_Work] = attrs.field(factory=list[_Work], init=False)
    _told: _Work | None = attrs.field(default=None, init=False)

    @contextmanager
    def doing(self, what: str, *, first: bool = False) -> Generator[None]:
        """Note for the block what is being done; `first`, it is why the rest can't go on."""
        work = _Work(what, trio.current_time())
        self._works.insert(0 if first else len(self._works), work)
        try:
            yield
        finally:
            self._works.remove(work)

    def noting(self, apply: Callable[[_P], Awaitable[None]]) -> Callable[[_P], Awaitable[None]]:
        """Have it noted which page is being applied."""

        async def noted(batch: _P) -> None:
            page = f"({batch.floor}, {batch.ceiling}]"
            with self.doing(f"applying the page {page}", first=True):
                await apply(batch)

        return noted

    def why(self) -> str:
        """Tell what takes long, and how long it has; empty if nothing does."""
        work = self._long()
        return f"{work.what} for {trio.current_time() - work.since:.1f} s" if work else ""

    def has_news(self) -> bool:
        """Tell whether something else takes long than at the last call."""
        before, self._told = self._told, self._long()
        return self._told is not before

    def _long(self) -> _Work | None:
        latest = trio.current_time() - _LONG
        return next((work for work in self._works if work.since <= latest), None)


@attrs.frozen
class Hold:
    """Tell who holds the high-water mark.

    Attributes:
        appends: the appends under way that did already at the look before, the lowest bound first.
        at: when they were looked at, by trio's clock.
    """

    appends: tuple[OpenAppend, ...] = ()
    at: float = 0.0

    def is_by_others_than(self, before: "Hold") -> bool:
        """Tell whether somebody came or went since."""
        return {*map(_identity, self.appends)} != {*map(_identity, before.appends)}

    def why(self) -> str:
        """Tell of the one with the lowest bound, and how many more there are; empty if none."""
        if not self.appends:
            return ""
        lowest, *others = self.appends
        also = f"; {len(others)} more are open" if others else ""
        return (
            f"an open append holds the high-water mark at {lowest.bound}: {self._who(lowest)}{also}"
        )

    def _who(self, append: OpenAppend) -> str:
        if append.pid is None:
            return "a prepared transaction, to be committed or rolled back"
        passed = trio.current_time() - self.at
        age = "an unknown time" if append.age is None else f"{append.age + passed:.1f} s"
        query = " ".join((append.query or "").split())[:_QUERY_LENGTH]
        return (
            f"pid {append.pid}, application {append.application_name or ''!r}, open for {age},"
            f" {append.state or 'of a state that is not shown'}, query {query!r}"
        )


def still_open(before: Sequence[OpenAppend], now: Sequence[OpenAppend]) -> tuple[OpenAppend, ...]:
    """Keep those of now that were open before: one that is soon over is no reason for anything."""
    known = {*map(_identity, before)}
    return tuple(append for append in now if _identity(append) in known)


def _identity(append: OpenAppend) -> tuple[int | None, int]:
    return append.pid, append.bound
