"""The event half of a session in memory."""

from collections.abc import Sequence
from typing import Any, LiteralString
from uuid import UUID

from flowstore.events import Event, StreamId, StreamState
from flowstore.store._event_operations import EventOperations
from flowstore.store._event_reader import StreamPart, WholeStream
from flowstore.store._incoming import StreamKey
from flowstore.store._names import told_tenant
from flowstore.store._rows import EventRow, decode_row
from flowstore.store.memory._database import View
from flowstore.store.memory._errors import NotInMemoryError
from flowstore.store.memory._rows import DEAD_LETTERS, EVENT_IDS, EVENTS, STREAMS, StoredEvent
from flowstore.store.memory._sessions import view_of

__all__ = ["MemoryEvents"]


class MemoryEvents(EventOperations):
    """Queue appends, and read streams from memory; each read is one look at what is committed."""

    __slots__ = ()

    async def fetch_stream_state(self, stream_id: StreamId, /) -> StreamState | None:
        """Tell how a stream stands, archived ones too; None if it is unknown."""
        view, place = await self._look(stream_id)
        found = view.get(STREAMS, place)
        if found is None:
            return None
        times = {event.version: event.timestamp for event in view.stream(place)}
        return StreamState(
            stream_id,
            found.version,
            times.get(1, found.created),
            times.get(found.version, found.updated),
            archived=found.archived,
            stream_type=found.type,
            tenant_id=told_tenant(place[0]),
        )

    async def load(self, event_id: UUID, /) -> Event | None:
        """Give the event with an identity, archived ones too; None if there is none."""
        await self._view().round_trip()
        view = self._view()
        sequence = view.get(EVENT_IDS, event_id)
        found = None if sequence is None else view.get(EVENTS, sequence)
        if found is None or found.stream[0] != self._session.stored_tenant:
            return None
        return decode_row(self._engine.codec, found.row())

    async def query(
        self,
        where: LiteralString,
        /,
        *_params: Any,
        include_archived: bool = False,  # noqa: ARG002  what it stands for has it
    ) -> list[Event]:
        """Refuse: there is no database to judge the condition."""
        raise NotInMemoryError(
            f"there is no database here to execute {where!r}: use a real store, or fetch_page"
        )

    async def _stream_rows(
        self, place: tuple[str, StreamId], wanted: StreamPart
    ) -> Sequence[EventRow]:
        await self._view().round_trip()
        view = self._view()
        found = view.get(STREAMS, place)
        if found is None or (found.archived and not wanted.include_archived):
            return []
        return [event.row() for event in view.stream(place) if _is_in(wanted, event)]

    async def _stand(self, stream_id: StreamId) -> tuple[int, bool]:
        view, place = await self._look(stream_id)
        found = view.get(STREAMS, place)
        return (0, False) if found is None else (found.version, found.archived)

    async def _lacks_an_event(self, shard: str, stream_id: StreamId) -> bool:
        view, place = await self._look(stream_id)
        return any(view.get(DEAD_LETTERS, (shard, each.sequence)) for each in view.stream(place))

    async def _read_whole(
        self, stream_id: StreamId, version: int | None = None, *, from_version: int = 0
    ) -> WholeStream:
        view, place = await self._look(stream_id)
        found = view.get(STREAMS, place)
        if found is None:
            return WholeStream()
        present = [
            event
            for event in ([] if found.archived else view.stream(place))
            if event.version >= from_version and (version is None or event.version <= version)
        ]
        decode = self._engine.codec
        events = tuple(decode_row(decode, each.row()) for each in present if not each.skipped)
        last = present[-1].version if present else 0
        return WholeStream(found.version, found.archived, found.amended, events, last)

    async def _look(self, stream_id: StreamId) -> tuple[View, StreamKey]:
        place = self._place(stream_id)
        await self._view().round_trip()
        return self._view(), place

    def _view(self) -> View:
        return view_of(self._session.lend)


def _is_in(wanted: StreamPart, event: StoredEvent) -> bool:
    return (
        event.version >= wanted.from_version
        and (wanted.version is None or event.version <= wanted.version)
        and (wanted.as_of is None or event.timestamp <= wanted.as_of)
        and (wanted.include_skipped or not event.skipped)
    )
