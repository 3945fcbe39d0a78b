"""A projection's documents without a database: JSON text by type and id."""

import inspect
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from datetime import datetime
from functools import cache
from typing import Any, LiteralString, TypeAlias, TypeVar
from uuid import UUID

import attrs
from cattrs import Converter

from flowstore.codec import DocumentCodec, make_converter
from flowstore.events import Event, EventStream, group_by_stream_id
from flowstore.projections import IProjection, RowChange, Table
from flowstore.store.memory import NotInMemoryError

__all__ = ["DocumentKey", "Memory"]

_T = TypeVar("_T")

DocumentKey: TypeAlias = tuple[str | None, type[Any], UUID | str | int]
"""Tenant, class and identity of a document."""


class Memory:
    """Keeps what a projection writes, as the store would: as JSON between two pages.

    So a class that keeps something outside its fields loses it here too.
    """

    def __init__(self, converter: Converter | None = None) -> None:
        self._codec = _default_codec() if converter is None else DocumentCodec(converter)
        self._texts: dict[DocumentKey, str] = {}
        self._events: list[Event] = []

    def events(self, tenant: str | None) -> list[Event]:
        """Give a tenant's events that came in pages so far, in the order they came."""
        return [event for event in self._events if event.tenant_id == tenant]

    def apply(self, projection: IProjection, page: Iterable[Event]) -> None:
        """Apply a page of events and keep what it queued; tenant by tenant, as a daemon does.

        Args:
            projection: what is applied.
            page: events in sequence order; those of types that it doesn't consume are left out.

        Raises:
            NotInMemoryError: the projection executes SQL, changes rows of a table, or waits for
                something other than its session.
        """
        events = list(page)
        self._events += events
        wanted = [event for event in events if _is_consumed(projection, event)]
        for tenant in dict.fromkeys(event.tenant_id for event in wanted):
            streams = group_by_stream_id(event for event in wanted if event.tenant_id == tenant)
            session = _MemorySession(self, tenant)
            _run(projection, session, streams)
            session.commit()

    def values(self) -> dict[DocumentKey, Any]:
        """Give every document's JSON value."""
        return {key: json.loads(text) for key, text in self._texts.items()}

    def documents(self) -> list[Any]:
        """Give every document, in the order they were first stored."""
        return [self._codec.decode(kind, text) for (_, kind, _), text in self._texts.items()]

    def load(self, key: DocumentKey) -> Any:
        """Read a document; None if there is none."""
        text = self._texts.get(key)
        return None if text is None else self._codec.decode(key[1], text)

    def write(self, key: DocumentKey, document: Any) -> None:
        """Write a document; None deletes it."""
        if document is None:
            self._texts.pop(key, None)
        else:
            self._texts[key] = self._codec.encode(document)

    def key_of(self, tenant: str | None, document: Any) -> DocumentKey:
        """Say where a document is kept."""
        kind: type[Any] = document.__class__
        return tenant, kind, self._codec.identity_of(document)


@cache
def _default_codec() -> DocumentCodec:
    """Make the codec once: it costs milliseconds, and a property has hundreds of memories."""
    return DocumentCodec(make_converter())


@attrs.frozen
class _MemoryHistory:
    """What a memory has been handed of a tenant's events; an `EventHistory`."""

    memory: Memory
    tenant: str | None

    async def read(
        self, types: Sequence[type], /, *, floor: int, ceiling: int, include_archived: bool
    ) -> AsyncGenerator[Event]:
        for event in self._up_to(ceiling, types, include_archived=include_archived):
            if event.sequence > floor:
                yield event

    async def floor_of(
        self, types: Sequence[type], /, *, since: datetime, ceiling: int, include_archived: bool
    ) -> tuple[int, bool]:
        events = self._up_to(ceiling, types, include_archived=include_archived)
        late = [event.sequence for event in events if event.timestamp >= since]
        floor = late[0] - 1 if late else ceiling
        return floor, bool(events) and events[0].sequence <= floor

    def _up_to(self, ceiling: int, types: Sequence[type], *, include_archived: bool) -> list[Event]:
        del include_archived  # a memory archives nothing
        wanted = frozenset(types)
        return [
            event
            for event in self.memory.events(self.tenant)
            if event.sequence <= ceiling and (not wanted or type(event.data) in wanted)
        ]


@attrs.define(eq=False)
class _MemorySession:
    """The unit of work of one page and tenant; a `ProjectionSession`."""

    _memory: Memory
    _tenant: str | None
    _queued: dict[DocumentKey, Any] = attrs.field(factory=dict[DocumentKey, Any], init=False)

    @property
    def history(self) -> _MemoryHistory:
        return _MemoryHistory(self._memory, self._tenant)

    def store(self, *documents: Any) -> None:
        for document in documents:
            self._queued[self._memory.key_of(self._tenant, document)] = document

    def delete(self, document: Any) -> None:
        self._queued[self._memory.key_of(self._tenant, document)] = None

    def delete_by_id(self, document_type: type, document_id: UUID | str | int, /) -> None:
        self._queued[self._tenant, document_type, document_id] = None

    async def load(self, document_type: type[_T], document_id: UUID | str | int, /) -> _T | None:
        key = self._tenant, document_type, document_id
        return self._queued[key] if key in self._queued else self._memory.load(key)

    async def load_many(
        self, document_type: type[_T], document_ids: Iterable[UUID | str | int], /
    ) -> list[_T]:
        found = [await self.load(document_type, wanted) for wanted in document_ids]
        return [document for document in found if document is not None]

    def execute(self, sql: LiteralString, /, *_params: Any) -> None:
        raise NotInMemoryError(f"there is no database here to execute {sql!r}: use a real store")

    def after_commit(self, callback: Callable[[], Any], /) -> None:
        """Leave it out, as a rebuild does: here is nothing that is ever committed for good."""

    def change_rows(self, table: Table, /, *_changes: RowChange) -> None:
        raise _no_table(table)

    def empty_table(self, table: Table, /) -> None:
        raise _no_table(table)

    async def create_table(self, table: Table, /) -> None:
        raise _no_table(table)

    def commit(self) -> None:
        for key, document in self._queued.items():
            self._memory.write(key, document)


def _no_table(table: Table) -> NotInMemoryError:
    return NotInMemoryError(f"there is no database here to keep table {table.name!r}: use a store")


def _is_consumed(projection: IProjection, event: Event) -> bool:
    return not projection.consumes or type(event.data) in projection.consumes


def _run(projection: IProjection, session: _MemorySession, streams: Sequence[EventStream]) -> None:
    pending = projection.apply(session, streams)
    if inspect.isawaitable(pending):
        _finish(projection, pending)


def _finish(projection: IProjection, pending: Awaitable[None]) -> None:
    """Run what waits for nothing but the session, which never has to wait; needs no event loop."""

    async def wait() -> None:
        await pending

    coroutine = wait()
    try:
        coroutine.send(None)
    except StopIteration:
        return
    coroutine.close()
    raise NotInMemoryError(
        f"projection {projection.name!r} waits for something other than its session: check it with"
        " a daemon and a real store"
    )
