"""The laws that every commit is held against, at the moment it happens."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import attrs

from flowstore.events import Event
from flowstore.projections import Registration, shard_name
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
from flowstore.testing._simulation._journal import JournalProjection
from flowstore.testing._simulation._processes import Process
from flowstore.testing._simulation._trace import Trace

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
        journal: where its journal is, if it keeps one.
    """

    name: str
    types: frozenset[str]
    journal: Place | None

    def wants(self, event: StoredEvent) -> bool:
        """Tell whether an event is to be applied."""
        return not event.skipped and (not self.types or event.type_name in self.types)


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
    """Look at every commit: order, exactly once, no skip, one owner."""

    def __init__(self, trace: Trace, database: MemoryDatabase, store: MemoryEventStore) -> None:
        self._trace = trace
        self._database = database
        self._shards = {
            registration.shard: _describe(store, registration)
            for registration in store.options.projections.asynchronous()
        }
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
            self._judge_journal(shard, change, old, new)

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

    def _judge_journal(
        self, shard: _Shard, change: _Change, old: Claim | None, new: Claim | None
    ) -> None:
        """Hold what a shard's journal says against what was committed before, and its progress."""
        place = shard.journal
        if place is None or (new is None and place not in change.after):
            return
        now = new or self._database.get(PROGRESS, shard.name) or _NOWHERE
        then = old or now
        rows: Rows[Any, Any] = Rows(place[0])
        row = self._database.get(rows, place[1])
        before = Committed(then.sequence, _sequences(change.before.get(place, row)))
        after = Committed(now.sequence, _sequences(row), self._letters(shard.name))
        events = self._wanted(shard, max(then.sequence, now.sequence))
        what = f"{shard.name!r} commits {then.sequence} -> {now.sequence}"
        if not held(self._trace, what, lambda: check_exactly_once([before, after], events)):
            return
        if not held(self._trace, what, lambda: check_progress([after], events)):
            return
        if then.sequence < now.sequence:
            # What is retried comes late, and by itself.
            places = {event.sequence: event for event in events}
            added = [places[each] for each in after.applied[len(before.applied) :]]
            held(self._trace, what, lambda: check_stream_order(added))

    def _wanted(self, shard: _Shard, progress: int) -> list[Event]:
        found = self._database.between(0, progress)
        return [self._event(event) for event in found if shard.wants(event)]

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
            if new is not None and new.error_type in _TROUBLE:
                self._trace.violate(
                    "no skip", f"{shard!r} sets {sequence} aside for what passes: {new.error_type}"
                )


def _describe(store: MemoryEventStore, registration: Registration) -> _Shard:
    projection = registration.projection
    names = store.options.events.stored_names(*projection.consumes) if projection.consumes else ()
    journal: Place | None = None
    if isinstance(projection, JournalProjection):
        rows = store.document_rows(projection.produces)
        journal = (rows.name, (TENANT, projection.name))
    return _Shard(shard_name(projection), frozenset(names), journal)


def _sequences(row: Any) -> Sequence[int]:
    return () if row is None else json.loads(row.data)["sequences"]


def _places(events: Sequence[StoredEvent]) -> str:
    return ", ".join(
        f"{event.sequence} ({event.type_name} {event.version} of {str(event.stream[1])[:4]})"
        for event in events
    )
