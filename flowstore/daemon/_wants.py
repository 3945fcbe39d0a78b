"""What a shard reads, and pages by it: whose page is as good as one's own, and parts of pages."""

from collections.abc import Iterable, Sequence
from typing import TypeVar

import attrs

from flowstore.events import Event, EventFailure, EventPage

__all__ = ["Wants", "fits", "joined", "part_of"]

_Placed = TypeVar("_Placed", Event, EventFailure)


@attrs.frozen
class Wants:
    """Say what a shard reads.

    Attributes:
        types: the event types it consumes; empty: every one.
        names: what those are stored as; None: whatever is stored.
        page_size: most events a page.
        include_archived: whether events of archived streams are read.
    """

    types: tuple[type, ...]
    names: frozenset[str] | None
    page_size: int
    include_archived: bool

    def reaches(self, floor: int, mark: int) -> bool:
        """Tell whether a page reaches the mark, whatever the types: whether this is the tail."""
        return mark - floor <= self.page_size

    def covers(self, other: "Wants") -> bool:
        """Tell whether a page of these has everything that the other wants."""
        if self.include_archived is not other.include_archived:
            return False
        return self.names is None or (other.names is not None and other.names <= self.names)

    def together(self, others: "Iterable[Wants]") -> "Wants":
        """Add what others want, of which none is pickier about archived streams."""
        everyone = (self, *others)
        if any(each.names is None for each in everyone):
            return attrs.evolve(self, types=(), names=None)
        types = dict.fromkeys(each for wants in everyone for each in wants.types)
        names = frozenset(name for wants in everyone for name in wants.names or ())
        return attrs.evolve(self, types=tuple(types), names=names)

    def own(self, placed: Sequence[_Placed]) -> Sequence[_Placed]:
        """Take what is wanted out of what covers it."""
        if self.names is None:
            return placed
        return [each for each in placed if each.type_name in self.names]


def fits(shared: Wants, wants: Wants, floor: int, mark: int) -> bool:
    """Tell whether a shared page is as good as one's own."""
    return shared == wants or (wants.reaches(floor, mark) and shared.covers(wants))


def part_of(page: EventPage, shared: Wants, wants: Wants) -> EventPage:
    """Take what one shard wants out of a page that was read for several."""
    if shared.names == wants.names:
        return page
    return attrs.evolve(page, events=wants.own(page.events), failures=wants.own(page.failures))


def joined(first: EventPage, second: EventPage) -> EventPage:
    """Make one page of two that follow each other."""
    return EventPage(
        first.floor,
        second.ceiling,
        (*first.events, *second.events),
        (*first.failures, *second.failures),
        size=first.size + second.size,
    )
