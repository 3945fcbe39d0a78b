"""One fetch for all shards that stand at the same place.

At the tail, where one page reaches the mark, whoever comes first reads what all shards of that place
consume; each takes of the page what is its own. In a catch-up only those share that want exactly the
same: a page of what others want too would end before one of its own, and a shard of rare events would
go through the store in others' small steps.

A shard that falls behind finds the pages since, while they are young and few, or fetches for itself;
back at the tail it shares again.
"""

import math
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import attrs
import trio

from flowstore.daemon._needs import EventFeed
from flowstore.daemon._pipeline import Fetch
from flowstore.daemon._reasons import InHand
from flowstore.daemon._retrying import is_passing
from flowstore.daemon._wants import Wants, fits, joined, part_of
from flowstore.events import EventPage
from flowstore.projections import IProjection

if TYPE_CHECKING:
    from flowstore.store import Handover

__all__ = ["PageReader", "SharedPages"]

_KEPT_FOR: Final = 1.0
"""Seconds that a page is given out after it was asked for: events may be skipped or archived since."""
_KEPT_EVENTS: Final = 1000
"""Events in kept pages, and pages without any, beside the bound in bytes: two ordinary pages."""


@attrs.define(eq=False)
class _Shared:
    """A page that is being fetched, or is here."""

    wants: Wants
    floor: int
    mark: int
    number: int
    since: float
    page: EventPage | None = None
    error: Exception | None = None
    done: trio.Event = attrs.field(factory=trio.Event)

    @property
    def weight(self) -> int:
        return 1 if self.page is None else 1 + len(self.page.events) + len(self.page.failures)


@attrs.define(eq=False)
class PageReader:
    """Read one shard's pages, in the order of the sequence.

    Attributes:
        wants: what it reads.
        at: the ceiling of the page it was given last; it comes back for the one above.
        since: how many fetches had begun before it did: their pages aren't for it, as events may
            have been mended while its shard stood.
        in_hand: is told what is being read.
    """

    _pages: "SharedPages"
    wants: Wants
    at: int
    since: int
    in_hand: InHand

    async def fetch(self, floor: int, mark: int) -> EventPage:
        """Read on from `floor`, up to `mark` at most.

        Raises:
            DatabaseError: PostgreSQL refused, or can't be reached.
        """
        with self.in_hand.doing(f"reading the page above {floor}"):
            page = await self._pages.read(self, floor, mark)
        self.at = page.ceiling
        self._pages.tidy()
        return page


class SharedPages:
    """Fetches pages for the shards of a daemon, one fetch for those that can share it."""

    def __init__(self, store: EventFeed, page_bytes: int, loads: trio.CapacityLimiter) -> None:
        """Take what to read, most bytes of JSON a page, and who bounds fetches at the same time."""
        self._store = store
        self._page_bytes = page_bytes
        self._loads = loads
        self._shared: list[_Shared] = []  # oldest first
        self._readers: list[PageReader] = []
        self._begun = 0
        self._handover: Handover | None = None

    @property
    def kept(self) -> tuple[EventPage, ...]:
        """The pages that are kept for shards that are behind, oldest first."""
        return tuple(each.page for each in self._shared if each.page is not None)

    @contextmanager
    def reading(self, projection: IProjection, floor: int, in_hand: InHand) -> Generator[Fetch]:
        """Give what fetches a projection's pages, from a floor on, for the block.

        Raises:
            RegistrationError: two of the types that it consumes are stored under one name.
        """
        types = tuple(projection.consumes)
        events = self._store.options.events
        names = frozenset(events.stored_names(*types)) if types else None
        options = projection.async_options
        wants = Wants(types, names, options.page_size, options.include_archived)
        reader = PageReader(self, wants, floor, self._begun, in_hand)
        self._readers.append(reader)
        if self._handover is not None:
            self._handover.forget()  # it wants events as they are from now on
        try:
            yield reader.fetch
        finally:
            self._readers.remove(reader)
            self.tidy()

    async def read(self, reader: PageReader, floor: int, mark: int) -> EventPage:
        """Give a reader the page above a floor: shared ones if there are any, or will be.

        At the tail all up to the mark makes one page, also where others have read it in smaller
        ones: a shard that went in their steps would commit as often as they did, and stay behind.
        """
        reader.at = floor
        page = await self._read_on(reader, floor, mark)
        while page.ceiling < mark and reader.wants.reaches(floor, mark):
            further = joined(page, await self._read_on(reader, page.ceiling, mark))
            if not self._is_one_page(reader, further):
                break
            page = further
        return page

    async def _read_on(self, reader: PageReader, floor: int, mark: int) -> EventPage:
        while True:
            shared = self._find(reader, floor, mark)
            if shared is None:
                shared = self._begin(reader, floor, mark)
                await self._load(shared)
            elif shared.page is None:
                await shared.done.wait()
            if shared.page is not None:
                return self._gather(reader, shared, shared.page, mark)
            if shared.error is None:
                continue  # whoever fetched it was stopped: fetch it instead
            if is_passing(shared.error):
                raise shared.error
            # It may be about a type that only another wants.
            return await self._fetch(reader.wants, floor, mark)

    async def look(self, mark: int, leading_edge_buffer: float) -> int:
        """Give the high-water mark; where shards stand at the last one, with what comes next for them.

        They find it as any page that somebody has fetched.

        Args:
            mark: the last one that was told.
            leading_edge_buffer: as `EventStore.high_water` takes it.

        Raises:
            DatabaseError: PostgreSQL refused, or can't be reached.
        """
        wants = self._wanted_above(mark)
        if wants is None:
            return await self._store.high_water(leading_edge_buffer=leading_edge_buffer)
        self._begun += 1
        number, since = self._begun, trio.current_time()
        try:
            risen, page = await self._store.look(
                mark,
                leading_edge_buffer=leading_edge_buffer,
                types=wants.types,
                limit=wants.page_size,
                max_bytes=self._page_bytes,
                include_archived=wants.include_archived,
            )
        except Exception as error:
            if is_passing(error):
                raise
            # Whatever is wrong with the page is for those to find who want it; the others go on.
            return await self._store.high_water(leading_edge_buffer=leading_edge_buffer)
        if risen > mark:
            self._give_out(_Shared(wants, mark, risen, number, since, page))
        return risen

    @contextmanager
    def handing(self) -> Generator[None]:
        """Have events that the store has appended itself handed over, while the block runs."""
        with self._store.handing_over() as handover:
            self._handover = handover
            try:
                yield
            finally:
                self._handover = None

    def take_handed(self, mark: int) -> int:
        """Give the mark that events lead to which were handed over; 0 where a look has to tell.

        Shards find them as any page that somebody has fetched.

        Args:
            mark: the last one that was told.
        """
        if self._handover is None:
            return 0
        wants = self._wanted_above(mark)
        try:
            page = self._handover.take(
                mark,
                frozenset() if wants is None else wants.names,
                1 if wants is None else wants.page_size,
                self._page_bytes,
            )
        except Exception:  # noqa: BLE001  whatever is wrong with them, a look finds it too, and tells
            self._handover.forget()
            return 0
        if page is None:
            return 0
        if wants is not None:
            self._begun += 1
            self._give_out(
                _Shared(wants, mark, page.ceiling, self._begun, trio.current_time(), page)
            )
        return page.ceiling

    def _give_out(self, shared: _Shared) -> None:
        shared.done.set()
        self._shared.append(shared)
        self.tidy()

    def _wanted_above(self, mark: int) -> Wants | None:
        """Tell what those want together who have read up to a mark; None if nobody has."""
        there = [each.wants for each in self._readers if self._is_read(each.at, mark)]
        alike = [each for each in there if each.include_archived is there[0].include_archived]
        return alike[0].together(alike[1:]) if alike else None

    def _is_read(self, at: int, mark: int) -> bool:
        """Tell whether the pages that are kept lead from a place to the mark."""
        for each in self._shared:  # oldest first, and so in order
            if each.page is not None and each.floor == at:
                at = each.page.ceiling
        return at == mark

    def tidy(self) -> None:
        """Let go of what no reader will come to, and of what is beyond the bounds."""
        last = min((reader.at for reader in self._readers), default=math.inf)
        oldest = trio.current_time() - _KEPT_FOR
        self._shared = [
            each
            for each in self._shared
            if each.page is None or (each.floor >= last and each.since >= oldest)
        ]
        weight = sum(each.weight for each in self._shared)
        size = sum(page.size for page in self.kept)
        for each in tuple(self._shared):
            if weight <= _KEPT_EVENTS and size <= self._page_bytes:
                break
            if each.page is not None:
                self._shared.remove(each)
                weight -= each.weight
                size -= each.page.size

    # -- inside ------------------------------------------------------------------------------

    def _find(self, reader: PageReader, floor: int, mark: int) -> _Shared | None:
        wants, oldest = reader.wants, trio.current_time() - _KEPT_FOR
        for each in self._shared:
            is_for_it = each.floor == floor and each.mark <= mark and each.number > reader.since
            is_young = each.page is None or each.since >= oldest
            if is_for_it and is_young and fits(each.wants, wants, floor, mark):
                return each
        return None

    def _begin(self, reader: PageReader, floor: int, mark: int) -> _Shared:
        wants = reader.wants
        if wants.reaches(floor, mark):
            wants = wants.together(self._company(reader, floor, mark))
        self._begun += 1
        shared = _Shared(wants, floor, mark, self._begun, trio.current_time())
        self._shared.append(shared)
        return shared

    def _company(self, reader: PageReader, floor: int, mark: int) -> Iterator[Wants]:
        """List what those want who are here, or about to come here at the tail, for the same page."""
        for other in self._readers:
            if (
                other.at <= floor
                and other.wants.reaches(other.at, mark)
                and other.wants.include_archived is reader.wants.include_archived
            ):
                yield other.wants

    async def _load(self, shared: _Shared) -> None:
        """Fetch a page that others may be waiting for; cancelled, they fetch it themselves."""
        try:
            shared.page = await self._fetch(shared.wants, shared.floor, shared.mark)
        except Exception as error:  # noqa: BLE001  every reader that waits decides what it means
            shared.error = error
        finally:
            if shared.page is None:
                self._shared.remove(shared)
            shared.done.set()

    async def _fetch(self, wants: Wants, floor: int, mark: int) -> EventPage:
        async with self._loads:
            return await self._store.fetch_page(
                floor,
                mark,
                types=wants.types,
                limit=wants.page_size,
                max_bytes=self._page_bytes,
                include_archived=wants.include_archived,
            )

    def _gather(self, reader: PageReader, shared: _Shared, page: EventPage, mark: int) -> EventPage:
        """Give a reader its part of a page, and of those after it as far as they make one page.

        Pages at the tail are as small as events are few. A shard that is behind and took them one
        by one would commit one by one, and stay behind.
        """
        own = part_of(page, shared.wants, reader.wants)
        while (after := self._find(reader, own.ceiling, mark)) and after.page is not None:
            further = joined(own, part_of(after.page, after.wants, reader.wants))
            if further.ceiling == own.ceiling or not self._is_one_page(reader, further):
                break
            own = further
        return own

    def _is_one_page(self, reader: PageReader, page: EventPage) -> bool:
        count = len(page.events) + len(page.failures)
        return count <= reader.wants.page_size and page.size <= self._page_bytes
