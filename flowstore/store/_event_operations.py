"""The event half of a session: queueing appends, and streams to be written to."""

from collections.abc import Sequence
from typing import Any, TypeVar

import attrs

from flowstore.errors import (
    EmptyStreamError,
    InvalidEventError,
    StreamArchivedError,
    StreamNotFoundError,
)
from flowstore.events import ANY, Archived, NewEvent, StreamAction, StreamId
from flowstore.store._amend import refuse_raw
from flowstore.store._event_reader import EventReader
from flowstore.store._locks import HeldLocks
from flowstore.store._names import check_event_text
from flowstore.store._new_events import EventMarks, new_events
from flowstore.store._queue import ArchiveStream, CompactStream, Queue, QueuedAppend
from flowstore.store._stream_handle import StreamHandle

__all__ = ["EventOperations"]

_T = TypeVar("_T")


@attrs.frozen(eq=False)
class EventOperations(EventReader):
    """Queue appends for the session's commit, and read streams as they are committed."""

    _queue: Queue = attrs.field(repr=False)
    _marks: EventMarks = attrs.field(repr=False)
    _locks: HeldLocks = attrs.field(repr=False)

    @property
    def pending(self) -> tuple[StreamAction, ...]:
        """What is queued and not yet committed, in order."""
        return tuple(queued.action for queued in self._queue.appends)

    def start_stream(
        self, stream_id: StreamId, /, *events: Any, stream_type: type | str | None = None
    ) -> StreamAction:
        """Queue the first events of a stream that must not exist.

        Args:
            stream_id: the stream's identity.
            *events: the application's values, or `NewEvent`s; at least one.
            stream_type: the type the stream is about, or its name; recorded with the stream.

        Returns:
            What follows the events through the commit; it then holds their versions and sequences.

        Raises:
            EmptyStreamError: no event is given.
            InvalidEventError: an event or the identity can't be stored, or a stream type is
                mandatory and missing.
            RegistrationError: an event type's name is another type's.
        """
        if stream_type is None and self._engine.options.mandatory_stream_types:
            raise InvalidEventError(
                f"stream {str(stream_id)!r} is started without a stream type, and this store asks"
                " for one: say start_stream(id, ..., stream_type=...)"
            )
        name = stream_type.__name__ if isinstance(stream_type, type) else stream_type
        check_event_text(name, "stream_type")
        return self._enqueue(stream_id, events, starts=True, stream_type=name)

    def append(
        self, stream_id: StreamId, /, *events: Any, expected_version: int | None = ANY
    ) -> StreamAction:
        """Queue events for a stream; without an expected version it is begun if need be.

        Args:
            stream_id: the stream's identity.
            *events: the application's values, or `NewEvent`s; at least one.
            expected_version: the stream's version before these events, also counting events that
                this session queued before; `NO_STREAM` (0) for one that must not exist.

        Returns:
            What follows the events through the commit; it then holds their versions and sequences.

        Raises:
            EmptyStreamError: no event is given.
            InvalidEventError: an event or the identity can't be stored, or the expected version is
                no version.
            StreamArchivedError: this session has queued the stream to be archived.
            RegistrationError: an event type's name is another type's.
        """
        _check_version(expected_version)
        return self._enqueue(stream_id, events, expected_version=expected_version)

    async def append_optimistic(self, stream_id: StreamId, /, *events: Any) -> StreamAction:
        """Queue events for a stream that has to stay, until the commit, as it is now.

        Args:
            stream_id: the stream's identity.
            *events: the application's values, or `NewEvent`s; at least one.

        Returns:
            What follows the events through the commit, which fails with `ConcurrencyError` if
            anybody else has appended meanwhile.

        Raises:
            StreamNotFoundError: the stream doesn't exist, and isn't begun in this session either.
            StreamArchivedError: the stream is archived.
            EmptyStreamError: no event is given.
            InvalidEventError: an event or the identity can't be stored.
            RegistrationError: an event type's name is another type's.
            DatabaseError: PostgreSQL refused, or can't be reached.
        """
        found = await self._stand(stream_id)
        return self._append_to_present(stream_id, events, found)

    async def append_exclusive(
        self, stream_id: StreamId, /, *events: Any, lock_timeout: float | None = None
    ) -> StreamAction:
        """Queue events for a stream, and keep everybody else from appending to it meanwhile.

        Others wait, until this session has committed or is left. The session keeps a connection
        of the pool for as long, on which it also reads. A commit that fails keeps the lock. A
        session that does nothing for a minute loses its connection, and the lock with it; others
        who appended meanwhile are found out at the commit.

        Args:
            stream_id: the stream's identity.
            *events: the application's values, or `NewEvent`s; at least one.
            lock_timeout: seconds to wait for whoever has the stream; None waits for as long as it
                takes.

        Returns:
            What follows the events through the commit; it then holds their versions and sequences.

        Raises:
            StreamLockedError: another transaction kept the stream for longer.
            StreamNotFoundError: the stream doesn't exist, and isn't begun in this session either.
            StreamArchivedError: the stream is archived.
            EmptyStreamError: no event is given.
            InvalidEventError: an event or the identity can't be stored, or the time isn't positive.
            RegistrationError: an event type's name is another type's.
            DatabaseError: PostgreSQL refused, or can't be reached.
        """
        found = await self._locks.lock(*self._place(stream_id), lock_timeout)
        return self._append_to_present(stream_id, events, found)

    def archive_stream(self, stream_id: StreamId, /) -> None:
        """Queue the archiving of a stream: it takes no more events, and projections pass it over.

        Appending an `Archived` does the same, and leaves its reason in the stream. Events queued before in this session are archived with it; a stream that doesn't exist is
        left alone.

        Raises:
            InvalidEventError: the identity can't be a stream's in this store.
        """
        place = self._place(stream_id)
        self._queue.add(ArchiveStream(*place))

    async def fetch_for_writing(
        self,
        aggregate: type[_T],
        stream_id: StreamId,
        /,
        *,
        exclusive: bool = False,
        lock_timeout: float | None = None,
        enforce_consistency: bool = False,
    ) -> StreamHandle[_T]:
        """Give an aggregate together with the right to append to its stream, if it stays as it is.

        Args:
            aggregate: the class, with handlers by convention; needs no registration.
            stream_id: the stream's identity; it need not exist.
            exclusive: keep everybody else from appending to the stream until this session has
                committed or is left, as `append_exclusive` does.
            lock_timeout: seconds to wait for whoever has the stream, if exclusive; None waits for
                as long as it takes.
            enforce_consistency: fail the commit also if nothing is appended and the stream moved.

        Raises:
            RegistrationError: the class can't be folded.
            StreamArchivedError: the stream is archived.
            StreamLockedError: another transaction kept the stream for longer.
            UnknownEventTypeError: an event's stored type is not known.
            InvalidEventError: stored data doesn't fit its type, or the time isn't positive.
            DatabaseError: PostgreSQL refused, or can't be reached.
        """
        self._know_types(aggregate)
        if exclusive:
            await self._locks.lock(*self._place(stream_id), lock_timeout)
        whole = await self._read_whole(stream_id)
        if whole.archived:
            raise StreamArchivedError(stream_id)
        folded = self._fold(aggregate, stream_id, whole.events)
        queued = self._count_queued(stream_id)
        if enforce_consistency:
            ask = StreamAction(stream_id, (), expected_version=whole.version + queued)
            self._queue.appends.append(QueuedAppend(ask))
        return StreamHandle(self.append, stream_id, folded, whole.version, queued_before=queued)

    async def compact_stream(
        self, aggregate: type[Any], stream_id: StreamId, /, *, version: int | None = None
    ) -> None:
        """Queue the replacement of a stream's events by one that holds what had come of them.

        That one is a `Compacted`, at the version and sequence of the last event it replaces; live
        aggregation goes on from it. What the events said otherwise is lost, also to projections
        that haven't come so far yet. A stream that doesn't exist, or that no aggregate comes of,
        is left alone. What this session has queued isn't part of it.

        Args:
            aggregate: the class to fold the events into, with handlers by convention.
            stream_id: the stream's identity.
            version: the last version to replace, inclusive; None replaces all.

        Raises:
            RegistrationError: the class can't be folded.
            StreamArchivedError: the stream is archived.
            UnknownEventTypeError: an event's stored type is not known.
            InvalidEventError: stored data doesn't fit its type, or the stream was compacted to
                another class before.
            DatabaseError: PostgreSQL refused, or can't be reached.
        """
        self._know_types(aggregate)
        whole = await self._read_whole(stream_id, version)
        if whole.archived:
            raise StreamArchivedError(stream_id)
        for event in whole.events:
            refuse_raw(self._engine, event)
        state = self._fold(aggregate, stream_id, whole.events)
        if state is not None and not whole.is_compact:
            event = self._engine.codec.compacted(state)
            self._queue.add(
                CompactStream(
                    *self._place(stream_id),
                    version=whole.last,
                    amended=whole.amended,
                    event_id=self._engine.new_id(),
                    type_name=self._engine.codec.name_of(event),
                    data=self._engine.codec.encode(event),
                )
            )

    def _append_to_present(
        self, stream_id: StreamId, events: Sequence[Any], found: tuple[int, bool]
    ) -> StreamAction:
        version, archived = found
        if archived:
            raise StreamArchivedError(stream_id)
        queued = self._count_queued(stream_id)
        if not version + queued:
            raise StreamNotFoundError(stream_id)
        return self.append(stream_id, *events, expected_version=version + queued)

    def _count_queued(self, stream_id: StreamId) -> int:
        return sum(len(action.events) for action in self.pending if action.stream_id == stream_id)

    def _enqueue(self, stream_id: StreamId, values: Sequence[Any], **asked: Any) -> StreamAction:
        checked = self._engine.checked_stream(stream_id)
        if not values:
            raise EmptyStreamError(stream_id)
        if self._queue.operations and any(
            isinstance(operation, ArchiveStream) and operation.stream_id == checked
            for operation in self._queue.operations
        ):
            raise StreamArchivedError(stream_id)
        tenant_id = self._session.tenant_id
        events = new_events(
            self._engine, self._marks, values, stream_id=checked, tenant_id=tenant_id
        )
        action = StreamAction(checked, events, **asked)
        times = [value.timestamp if isinstance(value, NewEvent) else None for value in values]
        self._queue.appends.append(QueuedAppend(action, tuple(times)))
        if any(isinstance(event.data, Archived) for event in events):
            self.archive_stream(stream_id)
        return action


def _check_version(expected: Any) -> None:
    if expected is None or (type(expected) is int and expected >= 0):
        return
    raise InvalidEventError(
        f"expected_version={expected!r} is no version: give the stream's version before these"
        " events, a whole number, NO_STREAM (0) or ANY (None)"
    )
