"""The laws that every commit is held against, at the moment it happens."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import attrs

from flowstore.events import Event
from flowstore.projections import AggregateProjection, Registration, shard_name
from flowstore.store import Claim
from flowstore.store._names import stored_tenant
from flowstore.store.memory import (
    DEAD_LETTERS,
    EVENTS,
    PROGRESS,
    MemoryDatabase,
    MemoryEventStore,
    Place,
    Rows,
    StoredEvent,
)
from flowstore.testing._broken_law import BrokenLawError
from flowstore.testing._delivery_laws import check_stream_order
from flowstore.testing._effect_laws import Committed, check_exactly_once, check_progress
from flowstore.testing._simulation._journal import JournalProjection, Ledger
from flowstore.testing._simulation._processes import Process
from flowstore.testing._simulation._trace import Trace

if TYPE_CHECKING:
    from flowstore.store._incoming import StreamKey

__all__ = ["Laws", "as_event", "held"]

TENANT: Final = stored_tenant(None)
_TROUBLE: Final = frozenset({"DatabaseError", "DatabaseUnavailableError", "LockedOutError"})
"""Errors that are about the database, and not about an event."""
_NOWHERE: Final = Claim(0, started=False, epoch=0, edits=0)


@attrs.frozen
class _Shard:
    """Hold what is known of a shard beforehand.

    Attributes:
        name: the shard's.
        types: stored names of the event types it consumes; empty: all of them.
        table: where it keeps documents that say what was applied; None if they don't.
        journal: the identity of its only document; None if there is a ledger for each stream.
    """

    name: str
    types: frozenset[str]
    table: str | None = None
    journal: str | None = None

    def wants(self, event: StoredEvent) -> bool:
        """Tell whether an event is to be applied."""
        return not event.skipped and (not self.types or event.type_name in self.types)

    def applied(self, row: Any, events: Sequence[Event]) -> Sequence[int]:
        """List the sequences of the events that a document says were applied."""
        if row is None:
            return ()
        if self.journal is not None:
            return json.loads(row.data)["sequences"]
        places = {event.version: event.sequence for event in events}
        versions: list[int] = json.loads(row.data)["versions"]
        return [places.get(version, -version) for version in versions]


@attrs.frozen
class _Stored:
    """The data of an event as it is stored."""

    type_name: str
    data: str

    def __repr__(self) -> str:
        return f"{self.type_name} {self.data}"


def as_event(stored: StoredEvent) -> Event:
    """Give a stored event to the laws, which need to know nothing about its type."""
    tenant, stream_id = stored.stream
    return Event(
        data=_Stored(stored.type_name, stored.data),
        sequence=stored.sequence,
        id=stored.id,
        stream_id=stream_id,
        version=stored.version,
        type_name=stored.type_name,
        timestamp=stored.timestamp,
        tenant_id=None if tenant == TENANT else tenant,
    )


def held(trace: Trace, what: str, law: Callable[[], None]) -> bool:
    """Tell whether a law holds; the trace is told of one that doesn't."""
    try:
        law()
    except BrokenLawError as broken:
        trace.violate(broken.law, f"{what}: {broken}")
        return False
    return True


@attrs.frozen
class _Change:
    """Hold a commit: rows it wrote, as they were and as they are."""

    before: Mapping[Place, Any]
    after: Mapping[Place, Any]

    def of(self, table: str) -> list[tuple[Any, Any, Any]]:
        """List key, old and new row of the rows of a table, in the order they were written."""
        return [
            (place[1], self.before[place], row)
            for place, row in self.after.items()
            if place[0] == table
        ]


class Laws:
    """Look at every commit: order, exactly once, no skip, one owner.

    Attributes:
        doubted: streams of which some event was set aside, so that what comes of them may differ.
    """

    def __init__(self, trace: Trace, database: MemoryDatabase, store: MemoryEventStore) -> None:
        self._trace = trace
        self._database = database
        self._shards = {
            registration.shard: _describe(store, registration)
            for registration in store.options.projections.asynchronous()
        }
        self.doubted: set[StreamKey] = set()
        self._owners: dict[str, Process | None] = {}
        self._events: dict[int, tuple[StoredEvent, Event]] = {}

    def judge(
        self, who: Process | None, before: Mapping[Place, Any], after: Mapping[Place, Any]
    ) -> None:
        """Note what a commit did, and find what it must not have done."""
        change = _Change(before, after)
        name = who.name if who is not None else ""
        appended = [row for _, old, row in change.of(EVENTS.name) if old is None and row]
        if appended:
            self._trace.note(name, f"commits {_places(appended)}")
            self._judge_appended(appended)
        self._note_letters(name, change)
        moved = {key: (old or _NOWHERE, new) for key, old, new in change.of(PROGRESS.name)}
        for shard, (old, new) in moved.items():
            self._judge_owner(who, shard, old, new)
        for shard in self._shards.values():
            old, new = moved.get(shard.name, (None, None))
            self._judge_effects(shard, change, old, new)

    # -- no skip -----------------------------------------------------------------------------

    def _judge_appended(self, appended: Sequence[StoredEvent]) -> None:
        for name, shard in self._shards.items():
            standing = self._database.get(PROGRESS, name) or _NOWHERE
            if appended[0].sequence <= standing.sequence:
                seen = [as_event(event) for event in appended if shard.wants(event)]
                passed = Committed(standing.sequence)
                what = f"an append is committed that {name!r} will never apply"
                held(self._trace, what, lambda: check_progress([passed], seen))  # noqa: B023  at once

    # -- one owner ---------------------------------------------------------------------------

    def _judge_owner(self, who: Process | None, shard: str, old: Claim, new: Claim) -> None:
        name = who.name if who is not None else ""
        if new.epoch != old.epoch:
            is_claim = (old.sequence, old.started) == (new.sequence, new.started)
            self._owners[shard] = who if is_claim else None
            did = "claims" if is_claim else "takes back"
            self._trace.note(name, f"{did} {shard!r} at {new.sequence}, epoch {new.epoch}")
            return
        if new.edits != old.edits:
            self._trace.note(name, f"writes to {shard!r} beside its owner")
            return
        self._trace.note(name, f"commits {shard!r} {old.sequence} -> {new.sequence}")
        owner = self._owners.get(shard)
        if who is not owner:
            told = "nobody" if owner is None else owner.name
            self._trace.violate(
                "one owner",
                f"{name or 'somebody'} commits {shard!r} {old.sequence} -> {new.sequence}, which"
                f" {told} owns (epoch {new.epoch})",
            )
        if new.sequence < old.sequence:
            self._trace.violate(
                "order", f"the progress of {shard!r} falls from {old.sequence} to {new.sequence}"
            )

    # -- exactly once, in order --------------------------------------------------------------

    def _judge_effects(
        self, shard: _Shard, change: _Change, old: Claim | None, new: Claim | None
    ) -> None:
        """Hold what a shard's documents say against what they said before, and the progress."""
        if shard.table is None or (new is None and not change.of(shard.table)):
            return
        now = new or self._database.get(PROGRESS, shard.name) or _NOWHERE
        then, letters = old or now, self._letters(shard.name)
        what = f"{shard.name!r} commits {then.sequence} -> {now.sequence}"
        rows: Rows[Any, Any] = Rows(shard.table)
        for key, events in self._documents(shard):
            row, place = self._database.get(rows, key), (shard.table, key)
            passed = any(then.sequence < event.sequence <= now.sequence for event in events)
            if not passed and place not in change.after and then.sequence <= now.sequence:
                continue  # as it was, and nothing of it to be applied
            had = shard.applied(change.before.get(place, row), events)
            before = Committed(then.sequence, had)
            after = Committed(now.sequence, shard.applied(row, events), letters)
            if not self._hold(what, before, after, events):
                return

    def _hold(
        self, what: str, before: Committed, after: Committed, events: Sequence[Event]
    ) -> bool:
        def law() -> None:
            check_exactly_once([before, after], events)
            check_progress([after], events)
            if before.progress < after.progress:
                # What is retried comes late, and by itself.
                places = {event.sequence: event for event in events}
                added = after.applied[len(before.applied) :]
                check_stream_order([places[each] for each in added])

        return held(self._trace, what, law)

    def _documents(self, shard: _Shard) -> list[tuple[Any, list[Event]]]:
        """List the keys of a shard's documents, each with the events that it comes of."""
        stored = self._database.between(0, self._database.highest())
        wanted = [event for event in stored if shard.wants(event)]
        if shard.journal is not None:
            return [((TENANT, shard.journal), [self._event(event) for event in wanted])]
        found: dict[Any, list[Event]] = {}
        for event in wanted:
            found.setdefault(event.stream, []).append(self._event(event))
        return list(found.items())

    def _event(self, stored: StoredEvent) -> Event:
        """Give an event as the laws take it; made once, as each commit is held against all of them."""
        known, event = self._events.get(stored.sequence, (None, None))
        if event is None or known is not stored:
            event = as_event(stored)
            self._events[stored.sequence] = stored, event
        return event

    def _letters(self, name: str) -> Iterable[int]:
        letters = self._database.scan(DEAD_LETTERS)
        return [sequence for (shard, sequence), _ in letters if shard == name]

    def _note_letters(self, name: str, change: _Change) -> None:
        for (shard, sequence), _, new in change.of(DEAD_LETTERS.name):
            told = "no longer sets aside" if new is None else "sets aside"
            reason = "" if new is None else f": {new.message}"
            self._trace.note(name, f"{told} {sequence} of {shard!r}{reason}")
            event = self._database.get(EVENTS, sequence)
            if event is not None and shard in self._shards and not self._shards[shard].journal:
                self.doubted.add(event.stream)
            if new is not None and new.error_type in _TROUBLE:
                self._trace.violate(
                    "no skip", f"{shard!r} sets {sequence} aside for what passes: {new.error_type}"
                )


def _describe(store: MemoryEventStore, registration: Registration) -> _Shard:
    projection = registration.projection
    names = store.options.events.stored_names(*projection.consumes) if projection.consumes else ()
    known = _Shard(shard_name(projection), frozenset(names))
    if isinstance(projection, JournalProjection):
        table = store.document_rows(projection.produces).name
        return attrs.evolve(known, table=table, journal=projection.name)
    if isinstance(projection, AggregateProjection) and issubclass(projection.produces, Ledger):
        table = store.document_rows(projection.produces, projection.version).name
        return attrs.evolve(known, table=table)
    return known


def _places(events: Sequence[StoredEvent]) -> str:
    return ", ".join(
        f"{event.sequence} ({event.type_name} {event.version} of {str(event.stream[1])[:4]})"
        for event in events
    )
