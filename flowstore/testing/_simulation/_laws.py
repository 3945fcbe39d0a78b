"""The laws that every commit is held against, at the moment it happens."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs

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
    StoredEvent,
)
from flowstore.testing._simulation._journal import JournalProjection
from flowstore.testing._simulation._processes import Process
from flowstore.testing._simulation._trace import Trace

__all__ = ["Laws"]

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
            for event in appended:
                if event.sequence <= standing.sequence and shard.wants(event):
                    self._trace.violate(
                        "no skip",
                        f"event {event.sequence} becomes visible when the progress of {name!r} is"
                        f" {standing.sequence}: it will never be applied",
                    )

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
        place = shard.journal
        if place is None or (new is None and place not in change.after):
            return
        is_written = place in change.after
        had = _sequences(change.before[place]) if is_written else []
        has = _sequences(change.after[place]) if is_written else []
        retried = [
            key[1]
            for key, had_letter, letter in change.of(DEAD_LETTERS.name)
            if key[0] == shard.name and had_letter is not None and letter is None
        ]
        if old is not None and new is not None and new.epoch != old.epoch:
            self._expect(
                shard, has, had if new.sequence == old.sequence else [], "begins anew with"
            )
            return
        if has[: len(had)] != had:
            self._trace.violate(
                "exactly once",
                f"{shard.name!r} had applied {had}, and what is written over it says {has}",
            )
            return
        added = has[len(had) :]
        if retried:
            self._expect(shard, added, retried, "was to retry")
        elif old is None or new is None:
            self._expect(shard, added, [], "moved nowhere and was to apply")
        else:
            self._judge_added(shard, added, old.sequence, new.sequence)

    def _judge_added(self, shard: _Shard, added: list[int], floor: int, ceiling: int) -> None:
        expected = {
            event.sequence: event
            for event in self._database.between(floor, ceiling)
            if shard.wants(event)
            and self._database.get(DEAD_LETTERS, (shard.name, event.sequence)) is None
        }
        where = f"{shard.name!r} commits {floor} -> {ceiling} and has applied {added}"
        missing = [sequence for sequence in expected if sequence not in added]
        if missing:
            self._trace.violate("no skip", f"{where}: {missing} missing")
        strangers = [sequence for sequence in added if sequence not in expected]
        if strangers or len(added) != len(expected):
            self._trace.violate("exactly once", f"{where}, not {list(expected)}")
            return
        versions: dict[Any, int] = {}
        for event in [expected[sequence] for sequence in added]:
            if event.version < versions.get(event.stream, 0):
                self._trace.violate("order", f"{where}: {event.sequence} comes too late")
            versions[event.stream] = event.version

    def _expect(self, shard: _Shard, found: list[int], expected: list[int], does: str) -> None:
        if found != expected:
            self._trace.violate(
                "exactly once", f"{shard.name!r} {does} {expected}, and its journal says {found}"
            )

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


def _sequences(row: Any) -> list[int]:
    return [] if row is None else json.loads(row.data)["sequences"]


def _places(events: Sequence[StoredEvent]) -> str:
    return ", ".join(
        f"{event.sequence} ({event.type_name} {event.version} of {str(event.stream[1])[:4]})"
        for event in events
    )
