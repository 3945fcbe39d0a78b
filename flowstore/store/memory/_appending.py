"""Appending to streams: what the database's append function does, in memory."""

from collections.abc import Sequence
from datetime import UTC, datetime

import attrs

from flowstore.codec import EventCodec
from flowstore.events import Event
from flowstore.store._append import Appended, AppendPlan, plan_streams
from flowstore.store._queue import QueuedAppend
from flowstore.store._refusals import EventIdTakenError
from flowstore.store._stream_demand import StreamDemand
from flowstore.store.memory._database import Transaction
from flowstore.store.memory._limits import check_key, check_number, check_text
from flowstore.store.memory._rows import EVENT_IDS, EVENTS, STREAMS, StoredEvent, StoredStream
from flowstore.store.memory._steps import Pause

__all__ = ["MemoryAppend", "insert_event", "plan_memory_append"]


@attrs.frozen
class _Content:
    """Hold an event with its data and headers as JSON text."""

    event: Event
    timestamp: datetime | None
    data: str = attrs.field(repr=False)
    headers: str | None = attrs.field(repr=False)


@attrs.frozen
class MemoryAppend:
    """Append what a session has queued.

    Attributes:
        plan: what it asks of the streams.
        tenant: the tenant column's value.
        must_exist: refuse to begin a stream by anything but a start.
    """

    plan: AppendPlan
    tenant: str
    must_exist: bool
    _contents: Sequence[_Content] = attrs.field(alias="contents", repr=False)

    async def write(self, transaction: Transaction, pause: Pause) -> list[list[Event]]:
        """Write the events, and give them with their places: a list for each append.

        Raises:
            StreamCollisionError: a stream that was to be started exists.
            ConcurrencyError: a stream isn't at the version that was expected.
            StreamArchivedError: a stream is archived.
            StreamNotFoundError: a stream has to be started first.
            EventIdTakenError: an event id is stored already.
        """
        found = await self._lock_streams(transaction)
        bases = [0 if row is None else row.version for row in found]
        self._judge(found, bases)
        at = transaction.database.now()
        answer = Appended(bases, None, at)
        if self._contents:
            self._raise_versions(transaction, found, at)
            # The versions are checked before a number is drawn: a loser leaves no hole.
            await pause("before numbers")
            answer = attrs.evolve(answer, sequences=await self._insert(transaction, answer))
            await pause("numbers drawn")
        return self.plan.recorded(answer)

    async def _lock_streams(self, transaction: Transaction) -> list[StoredStream | None]:
        places = [(self.tenant, demand.stream_id) for demand in self.plan.demands]
        for place in sorted(places, key=lambda place: place[1]):
            await transaction.lock(STREAMS, place)
        return [transaction.get(STREAMS, place) for place in places]

    def _judge(self, found: Sequence[StoredStream | None], bases: Sequence[int]) -> None:
        for demand, row, base in zip(self.plan.demands, found, bases, strict=True):
            state = _state(demand, row, base, must_exist=self.must_exist)
            if state is not None:
                raise demand.refusal(state, base)

    def _raise_versions(
        self, transaction: Transaction, found: Sequence[StoredStream | None], at: datetime
    ) -> None:
        for demand, row in zip(self.plan.demands, found, strict=True):
            if demand.added:
                old = row or StoredStream(demand.stream_type, 0, at, at)
                moved = attrs.evolve(old, version=old.version + demand.added, updated=at)
                transaction.put(STREAMS, (self.tenant, demand.stream_id), moved)

    async def _insert(self, transaction: Transaction, answer: Appended) -> list[int]:
        sequences: list[int] = []
        for content, (stream, place) in zip(self._contents, self.plan.placed, strict=True):
            sequences.append(transaction.draw())
            event = content.event
            stored = StoredEvent(
                sequence=sequences[-1],
                id=event.id,
                stream=(self.tenant, event.stream_id),
                version=answer.bases[stream] + place,
                type_name=event.type_name,
                data=content.data,
                timestamp=(content.timestamp or answer.at).astimezone(UTC),
                recorded=answer.at,
                headers=content.headers,
                correlation_id=event.correlation_id,
                causation_id=event.causation_id,
                user_name=event.user_name,
            )
            await insert_event(transaction, stored)
        return sequences


def _state(
    demand: StreamDemand, row: StoredStream | None, base: int, *, must_exist: bool
) -> str | None:
    """Give the SQLSTATE that the database would refuse with."""
    if row is not None and row.archived:
        return "FS003"
    if demand.starts and base > 0:
        return "FS001"
    if demand.base is not None and demand.base != base:
        return "FS002"
    if must_exist and not demand.starts and base == 0:
        return "FS004"
    return None


async def insert_event(transaction: Transaction, event: StoredEvent) -> None:
    """Write an event's row, whose number is drawn.

    Raises:
        EventIdTakenError: its id is stored already.
    """
    await transaction.lock(EVENT_IDS, event.id)
    if transaction.get(EVENT_IDS, event.id) is not None:
        raise EventIdTakenError("an event id is stored already")
    transaction.put(EVENT_IDS, event.id, event.sequence)
    transaction.put(EVENTS, event.sequence, event)


def plan_memory_append(
    appends: Sequence[QueuedAppend], codec: EventCodec, *, tenant: str, must_exist: bool
) -> MemoryAppend:
    """Make a session's appends ready to be written.

    Raises:
        StreamCollisionError: a stream is started after it was appended to in the same commit.
        ConcurrencyError: two appends of this commit expect versions that can't both be.
        InvalidEventError: an event can't be stored.
        DatabaseError: what is said about a stream or an event can't be.
    """
    demands, placed = plan_streams(appends)
    contents = [
        _Content(event, given, codec.encode(event.data), _headers(codec, event))
        for append in appends
        for event, given in zip(append.action.events, append.timestamps, strict=True)
    ]
    for demand in demands:
        check_key(demand.stream_id)
        check_text(demand.stream_type)
        check_number(demand.base)
    for content in contents:
        event = content.event
        check_text(event.correlation_id, event.causation_id, event.user_name)
    plan = AppendPlan((), demands, placed, tuple(appends))
    return MemoryAppend(plan, tenant, must_exist, contents)


def _headers(codec: EventCodec, event: Event) -> str | None:
    return codec.encode_headers(event.headers) if event.headers else None
