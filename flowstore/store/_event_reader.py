"""Reading streams and folding them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, LiteralString, TypeVar
from uuid import UUID

import attrs

from flowstore.errors import InvalidEventError
from flowstore.events import Compacted, Event, EventStream, StreamId, StreamState
from flowstore.store._document_session import DocumentSession
from flowstore.store._engine import Engine
from flowstore.store._event_queries import query_events
from flowstore.store._kept_views import kept_view
from flowstore.store._names import told_tenant
from flowstore.store._rows import EventRow, decode_row
from flowstore.store._statements import Statement, fetch_rows

__all__ = ["EventReader", "StreamPart", "WholeStream"]

_T = TypeVar("_T")

_STREAM: Final = """
select {event_columns} from {schema}.events e
where
    e.tenant_id = %s and e.stream_id = %s
    and e.version >= %s and (%s::bigint is null or e.version <= %s)
    and (%s::timestamptz is null or e.timestamp <= %s) and (%s or not e.archived)
    and (%s or not e.skipped)
order by e.version"""
_WHOLE: Final = """
select s.version, s.archived, s.amended, e.skipped, {event_columns}
from {schema}.streams s
left join {schema}.events e
    on e.tenant_id = s.tenant_id and e.stream_id = s.id and not s.archived
    and e.version >= %s and (%s::bigint is null or e.version <= %s)
where s.tenant_id = %s and s.id = %s
order by e.version"""
_STANDING: Final = "select version, archived from {schema}.streams where tenant_id = %s and id = %s"
_LACKS: Final = """
select exists (
    select from {schema}.dead_letters d join {schema}.events e on e.sequence = d.sequence
    where d.shard = %s and e.tenant_id = %s and e.stream_id = %s
)"""
_EVENT: Final = """
select {event_columns} from {schema}.events e where e.tenant_id = %s and e.id = %s"""
_STATE: Final = """
select
    s.id, s.version, coalesce(first.timestamp, s.created), coalesce(last.timestamp, s.updated),
    s.archived, s.type, s.tenant_id
from {schema}.streams s
left join {schema}.events first
    on first.tenant_id = s.tenant_id and first.stream_id = s.id and first.version = 1
left join {schema}.events last
    on last.tenant_id = s.tenant_id and last.stream_id = s.id and last.version = s.version
where s.tenant_id = %s and s.id = %s"""


@attrs.frozen
class StreamPart:
    """Say which events of a stream are wanted.

    Attributes:
        version: the last, inclusive; None for no bound.
        from_version: the first, inclusive.
        as_of: recorded up to this time, inclusive; None for no bound.
        include_archived: an archived stream's too.
        include_skipped: those too that projections pass over.
    """

    version: int | None
    from_version: int
    as_of: datetime | None
    include_archived: bool
    include_skipped: bool


@attrs.frozen
class WholeStream:
    """Hold a stream with how it stands, as one statement saw it.

    Attributes:
        version: the stream's; 0 if it doesn't exist.
        archived: whether it is archived.
        amended: how often its events have been changed.
        events: in version order, without skipped ones; none of an archived stream.
        last: the version of the last event that was read, skipped ones too; 0 if there is none.
    """

    version: int = 0
    archived: bool = False
    amended: int = 0
    events: tuple[Event, ...] = ()
    last: int = 0

    @property
    def is_compact(self) -> bool:
        """Whether one event stands for all that was read."""
        return len(self.events) == 1 and isinstance(self.events[0].data, Compacted)


@attrs.frozen(eq=False)
class EventReader:
    """Read streams of one tenant, as they are committed.

    What a session has queued isn't part of what it reads here.
    """

    _engine: Engine = attrs.field(repr=False)
    _session: DocumentSession = attrs.field(repr=False)

    async def fetch_stream(
        self,
        stream_id: StreamId,
        /,
        *,
        version: int | None = None,
        from_version: int = 0,
        as_of: datetime | None = None,
        include_archived: bool = False,
        include_skipped: bool = True,
    ) -> list[Event]:
        """Give a stream's events in version order; none if it is unknown or archived.

        Args:
            stream_id: the stream's identity.
            version: the last version to read, inclusive; None reads all.
            from_version: the first version to read, inclusive.
            as_of: read only events recorded up to this time, inclusive; aware.
            include_archived: read an archived stream too.
            include_skipped: read events too that projections pass over.

        Raises:
            UnknownEventTypeError: an event's stored type is not known.
            InvalidEventError: stored data doesn't fit its type, a version is no whole number, or
                `as_of` no time with a zone.
            DatabaseError: PostgreSQL refused, or can't be reached.
        """
        _check_part(version, from_version, as_of)
        wanted = StreamPart(version, from_version, as_of, include_archived, include_skipped)
        rows = await self._stream_rows(self._place(stream_id), wanted)
        return [decode_row(self._engine.codec, row) for row in rows]

    async def fetch_stream_state(self, stream_id: StreamId, /) -> StreamState | None:
        """Tell how a stream stands, archived ones too; None if it is unknown.

        Raises:
            DatabaseError: PostgreSQL refused, or can't be reached.
        """
        query = self._engine.sql.statement(_STATE)
        rows = await self._rows(Statement(query, self._place(stream_id)))
        if not rows:
            return None
        *facts, tenant = rows[0]
        return StreamState(*facts, tenant_id=told_tenant(tenant))

    async def load(self, event_id: UUID, /) -> Event | None:
        """Give the event with an identity, archived ones too; None if there is none.

        Raises:
            UnknownEventTypeError: its stored type is not known.
            InvalidEventError: its stored data doesn't fit its type.
            DatabaseError: PostgreSQL refused, or can't be reached.
        """
        query = self._engine.sql.statement(_EVENT)
        rows = await self._rows(Statement(query, (self._session.stored_tenant, event_id)))
        return decode_row(self._engine.codec, rows[0]) if rows else None

    async def query(
        self, where: LiteralString, /, *params: Any, include_archived: bool = False
    ) -> list[Event]:
        """Give the stored events, of any stream, that an SQL condition holds for.

        Sees what is committed, not what is queued. The condition speaks of the columns `data`
        (JSON), `type`, `stream_id`, `version`, `sequence`, `timestamp`, `headers` (JSON),
        `correlation_id`, `causation_id`, `user_name`, `id`, `archived` and `skipped`; `order by`
        and `limit` may follow it. Without either the events come in sequence order.

        Args:
            where: the condition, with `%s` for each parameter; without parameters a percent sign
                means itself.
            *params: its parameters.
            include_archived: look at events of archived streams too.

        Raises:
            UnknownEventTypeError: an event's stored type is not known.
            InvalidEventError: stored data doesn't fit its type.
            DatabaseError: PostgreSQL refused, or can't be reached.
        """
        tenant = self._session.stored_tenant
        found = query_events(self._engine, tenant, where, params, include_archived=include_archived)
        return [decode_row(self._engine.codec, row) for row in await self._rows(found)]

    async def aggregate_stream(
        self,
        aggregate: type[_T],
        stream_id: StreamId,
        /,
        *,
        version: int | None = None,
        as_of: datetime | None = None,
    ) -> _T | None:
        """Fold a stream's events now; the class needs no registration.

        Args:
            aggregate: the class, with handlers by convention.
            stream_id: the stream's identity.
            version: fold up to this version, inclusive; None folds all.
            as_of: fold only events recorded up to this time, inclusive; aware.

        Returns:
            None if the stream is unknown or archived, or no aggregate came of its events.

        Raises:
            RegistrationError: the class can't be folded.
            UnknownEventTypeError: an event's stored type is not known.
            InvalidEventError: stored data doesn't fit its type, or `as_of` has no time zone.
            DatabaseError: PostgreSQL refused, or can't be reached.
        """
        self._know_types(aggregate)
        events = await self.fetch_stream(
            stream_id, version=version, as_of=as_of, include_skipped=False
        )
        return self._fold(aggregate, stream_id, events)

    async def fetch_latest(self, aggregate: type[_T], stream_id: StreamId, /) -> _T | None:
        """Give an aggregate as of the last committed event, as folding its stream would.

        One that is kept, inline or by the daemon, is loaded, and the events that its field
        `version` hasn't come to are folded onto it, which reads few of a long stream. Without that
        field one that is kept inline is loaded, and any other folded, as is one of a stream that
        was masked, compacted or had events skipped; and one that lacks an event that was set aside,
        which raises then what the event does to whoever folds it. Of a dead letter that was
        discarded nothing is left: one that is kept goes on without the event.

        Raises:
            Exception: what a handler of the class raised at an event.
            RegistrationError: the class can't be folded.
            UnknownEventTypeError: an event's stored type is not known.
            InvalidEventError: stored data doesn't fit its type.
            DatabaseError: PostgreSQL refused, or can't be reached.
        """
        kept = kept_view(self._engine.options.projections, aggregate)
        if kept is None:
            return await self.aggregate_stream(aggregate, stream_id)
        if kept.rule is None:
            return await self._session.load(aggregate, stream_id)
        # Before and after: an event may be set aside meanwhile, or be retried.
        lacks = await self._lacks_an_event(kept.shard, stream_id)
        document = await self._session.load(aggregate, stream_id)
        if lacks or document is None or await self._lacks_an_event(kept.shard, stream_id):
            return await self.aggregate_stream(aggregate, stream_id)
        place = kept.place_of(document)
        newer = await self._read_whole(stream_id, from_version=place)
        if newer.archived:
            return None
        if newer.amended:
            return await self.aggregate_stream(aggregate, stream_id)
        events = [event for event in newer.events if event.version > place]
        return kept.rule.fold(document, EventStream(stream_id, events)) if events else document

    async def _stream_rows(
        self, place: tuple[str, StreamId], wanted: StreamPart
    ) -> Sequence[EventRow]:
        """Read a part of a stream in version order, as `decode_row` takes it."""
        version, as_of = wanted.version, wanted.as_of
        parameters = (
            *(*place, wanted.from_version, version, version, as_of, as_of),
            *(wanted.include_archived, wanted.include_skipped),
        )
        return await self._rows(Statement(self._engine.sql.statement(_STREAM), parameters))

    async def _stand(self, stream_id: StreamId) -> tuple[int, bool]:
        """Tell a stream's version, 0 if it doesn't exist, and whether it is archived."""
        query = self._engine.sql.statement(_STANDING)
        rows = await self._rows(Statement(query, self._place(stream_id)))
        version, archived = rows[0] if rows else (0, False)
        return version, archived

    async def _lacks_an_event(self, shard: str, stream_id: StreamId) -> bool:
        """Tell whether an event of a stream was set aside by a shard, and is no part of its view."""
        query = self._engine.sql.statement(_LACKS)
        [(lacks,)] = await self._rows(Statement(query, (shard, *self._place(stream_id))))
        return lacks

    async def _read_whole(
        self, stream_id: StreamId, version: int | None = None, *, from_version: int = 0
    ) -> WholeStream:
        """Read a stream and how it stands in one statement, so that both belong together."""
        query = self._engine.sql.statement(_WHOLE)
        rows = await self._rows(
            Statement(query, (from_version, version, version, *self._place(stream_id)))
        )
        if not rows:
            return WholeStream()
        present = [row[3:] for row in rows if row[3] is not None]
        stored = [decode_row(self._engine.codec, row) for skipped, *row in present if not skipped]
        last = present[-1][4] if present else 0
        standing, archived, amended = rows[0][:3]
        return WholeStream(standing, archived, amended, tuple(stored), last)

    def _fold(self, aggregate: type[_T], stream_id: StreamId, events: Sequence[Event]) -> _T | None:
        if not events:
            return None
        state: _T | None = None
        if isinstance(compacted := events[0].data, Compacted):
            # Only ever a stream's first event: it took the place of all before it.
            state, events = compacted.restored(aggregate), events[1:]
        rule = self._engine.options.projections.rule_for(aggregate)
        return rule.fold(state, EventStream(stream_id, events))

    def _know_types(self, aggregate: type[Any]) -> None:
        rule = self._engine.options.projections.rule_for(aggregate)
        self._engine.options.events.add_types(*rule.consumes)

    def _place(self, stream_id: StreamId) -> tuple[str, StreamId]:
        return (self._session.stored_tenant, self._engine.checked_stream(stream_id))

    async def _rows(self, statement: Statement) -> list[tuple[Any, ...]]:
        return await fetch_rows(self._session.lend, statement)


def _check_part(version: Any, from_version: Any, as_of: Any) -> None:
    """Refuse what would mean one thing here and another to the database."""
    if version is not None and type(version) is not int:
        raise InvalidEventError(f"version={version!r} is no version: give a whole number, or None")
    if type(from_version) is not int:
        raise InvalidEventError(f"from_version={from_version!r} is no version: give a whole number")
    if as_of is not None and (not isinstance(as_of, datetime) or as_of.utcoffset() is None):
        raise InvalidEventError(
            f"as_of={as_of!r} is no time with a time zone: give one, such as datetime.now(UTC)"
        )
