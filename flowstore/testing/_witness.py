"""A database whose commits are looked at while a projection writes to it."""

import itertools
import json
from collections.abc import Callable, Sequence
from typing import Any, cast

import attrs

from flowstore.daemon import DaemonSettings
from flowstore.errors import FlowstoreError
from flowstore.events import DeadLetter, Event, EventPage
from flowstore.store import Claim
from flowstore.store._names import stored_tenant
from flowstore.store.memory import DEAD_LETTERS, PROGRESS, MemoryDatabase, Place, Transaction
from flowstore.testing._memory import DocumentKey
from flowstore.testing._memory_store import MemoryStore

__all__ = ["Altered", "Commit", "Documents", "PagedStore", "WitnessedDatabase", "set_aside"]

Documents = dict[DocumentKey, Any]
"""JSON values of documents, and rows of flat tables, by tenant, class or table, and identity."""

_TENANT = stored_tenant(None)
_FULL = DaemonSettings().page_bytes
_NOWHERE = Claim(0, started=False, epoch=0, edits=0)


@attrs.frozen
class Commit:
    """Tell of a commit that moved a shard's progress.

    Attributes:
        floor: where it stood, exclusive.
        ceiling: where it stands, inclusive; below `floor` where it was taken back.
    """

    floor: int
    ceiling: int


@attrs.frozen
class Altered:
    """Tell of an event whose data was changed in place by whom it was handed to.

    Attributes:
        event: as it is now.
        stored: its data's JSON as it was.
    """

    event: Event
    stored: str


def _nothing(_progress: int) -> None:
    """Look at nothing."""


class WitnessedDatabase(MemoryDatabase):
    """Keep what the processes of a check keep, and have each commit of a shard looked at.

    Args:
        shard: whose commits.
        sizes: how many events its pages have, over and over.

    Attributes:
        log: what happened, in order: commits, and in words what else is worth telling.
        looked_at: is called after each commit with the shard's progress.
        classes: of documents, by the names of their tables, for stories.
        last: where a catch-up ends; None: where the events do.
    """

    def __init__(self, shard: str, sizes: Sequence[int]) -> None:
        super().__init__()
        self.log: list[Commit | str] = []
        self.looked_at: Callable[[int], None] = _nothing
        self.classes: dict[str, type] = {}
        self.last: int | None = None
        self._handed: list[tuple[Altered, Callable[[Any], str]]] = []
        self._shard = shard
        self._sizes = itertools.cycle(sizes)

    def next_size(self) -> int:
        """Say how many events the next page has."""
        return next(self._sizes)

    def hand(self, events: Sequence[Event], encode: Callable[[Any], str]) -> None:
        """Note what events are before they are handed over; `encode` writes their data as JSON."""
        for event in events:
            text = _written(event, encode)
            if text is not None:
                self._handed.append((Altered(event, text), encode))

    def altered(self) -> Altered | None:
        """Give the first event that isn't what it was when it was handed over; asks of each once."""
        handed, self._handed = self._handed, []
        return next(
            (was for was, encode in handed if _written(was.event, encode) != was.stored), None
        )

    def progress(self) -> int:
        """Say where the shard stands."""
        return (self.get(PROGRESS, self._shard) or _NOWHERE).sequence

    def end(self, transaction: Transaction, written: dict[Place, Any]) -> None:
        """Take a transaction's writes over, and have them looked at."""
        floor = self.progress()
        super().end(transaction, written)
        for (table, _), letter in written.items():
            if table == DEAD_LETTERS.name and letter is not None:
                self.log.append(set_aside(letter))
        if any(_is_effect(table) or table == PROGRESS.name for table, _ in written):
            ceiling = self.progress()
            if ceiling != floor:
                self.log.append(Commit(floor, ceiling))
            self.looked_at(ceiling)

    def documents(self) -> Documents:
        """Give all that projections have written and committed."""
        return {
            (None if tenant == _TENANT else tenant, self._called(table), identity): _value(row)
            for table, rows in self._tables.items()
            if _is_effect(table)
            for (tenant, identity), row in rows.items()
        }

    def _called(self, table: str) -> Any:
        """Give the class of a table's documents, or a name for it."""
        return self.classes.get(table) or table.partition(" ")[2].removeprefix("doc_")


class PagedStore(MemoryStore):
    """Reads pages of as many events as a `WitnessedDatabase` says."""

    async def highest_sequence(self) -> int:
        """Give the last event's sequence, or where a catch-up is to end before it."""
        last = cast("WitnessedDatabase", self.database).last
        return await super().highest_sequence() if last is None else last

    async def fetch_page(
        self,
        floor: int,
        mark: int,
        *,
        types: Sequence[type] = (),
        limit: int = 500,
        max_bytes: int | None = None,
        include_archived: bool = False,
    ) -> EventPage:
        """Read events, as every store, but fewer at a time."""
        size = cast("WitnessedDatabase", self.database).next_size()
        page = await super().fetch_page(
            floor,
            mark,
            types=types,
            limit=min(limit, size),
            max_bytes=max_bytes,
            include_archived=include_archived,
        )
        cast("WitnessedDatabase", self.database).hand(page.events, self._engine.documents.value)
        # As heavy as a page may be, or a shard that is behind would join it to the next.
        return attrs.evolve(page, size=max(page.size, _FULL))


def _written(event: Event, encode: Callable[[Any], str]) -> str | None:
    try:
        return encode(event.data)
    except FlowstoreError:  # what stands for several events isn't written like a document
        return None


def set_aside(letter: DeadLetter) -> str:
    """Tell of an event that couldn't be applied."""
    return f"sequence {letter.sequence} is set aside: {letter.error_type}: {letter.message}"


def _is_effect(table: str) -> bool:
    return table.startswith(("documents ", "rows "))


def _value(row: Any) -> Any:
    return cast("Any", row) if isinstance(row, dict) else json.loads(row.data)
