"""What a projection is, and what it may ask of the session it is handed."""

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Sequence
from datetime import datetime
from typing import Any, LiteralString, Protocol, TypeVar, runtime_checkable
from uuid import UUID

from flowstore.events import Event, EventStream
from flowstore.projections._options import AsyncOptions
from flowstore.projections._tables import RowChange, Table

__all__ = ["EventHistory", "IProjection", "ProjectionSession", "apply_projection"]

_T = TypeVar("_T")


class EventHistory(Protocol):
    """Read a tenant's events of the past again, as they are stored.

    Two of one store and tenant are equal, and have the same hash.
    """

    def read(
        self, types: Sequence[type], /, *, floor: int, ceiling: int, include_archived: bool
    ) -> AsyncIterator[Event]:
        """Yield the events of (floor, ceiling], in the order of their sequence.

        Args:
            types: the event types wanted; empty: every one.
            floor: a sequence, exclusive.
            ceiling: a sequence, inclusive; nothing unseen may still appear up to it.
            include_archived: read events of archived streams too.
        """
        ...

    async def floor_of(
        self, types: Sequence[type], /, *, since: datetime, ceiling: int, include_archived: bool
    ) -> tuple[int, bool]:
        """Find the sequence after which all events with timestamps from `since` on lie.

        Returns:
            That sequence, `ceiling` if there are none; and whether there are events up to it.
        """
        ...

    def __hash__(self) -> int: ...


class ProjectionSession(Protocol):
    """Read and write documents in the transaction that will commit the projection's progress.

    What is queued here is written with the progress, or not at all. The session belongs to one
    tenant, and so do the streams that come with it.
    """

    @property
    def history(self) -> EventHistory:
        """The tenant's events as they are stored, for what has to see earlier ones again."""
        ...

    def store(self, *documents: Any) -> None:
        """Queue documents to be written; one of the same type and id is replaced."""
        ...

    def delete(self, document: Any) -> None:
        """Queue the deletion of a document; there may be none."""
        ...

    def delete_by_id(self, document_type: type, document_id: UUID | str | int, /) -> None:
        """Queue the deletion of the document with an id; there may be none."""
        ...

    def execute(self, sql: LiteralString, /, *params: Any) -> None:
        """Queue a statement, with `%s` for each parameter; runs in queue order."""
        ...

    def after_commit(self, callback: Callable[[], Any], /) -> None:
        """Call a function, plain or async, once what is queued has been committed.

        It isn't called when the transaction is rolled back, and never in a rebuild.
        """
        ...

    def change_rows(self, table: Table, /, *changes: RowChange) -> None:
        """Queue changes of a flat table's rows, for this tenant; run in queue order."""
        ...

    def empty_table(self, table: Table, /) -> None:
        """Queue the deletion of all rows of a flat table, whichever tenant's."""
        ...

    async def create_table(self, table: Table, /) -> None:
        """See to it that a flat table is there, before its rows are changed."""
        ...

    async def load(self, document_type: type[_T], document_id: UUID | str | int, /) -> _T | None:
        """Give a document as it would be after what is queued; None if there is none."""
        ...

    async def load_many(
        self, document_type: type[_T], document_ids: Iterable[UUID | str | int], /
    ) -> list[_T]:
        """Give those documents that there are, in the order asked, in one round trip."""
        ...


@runtime_checkable
class IProjection(Protocol):
    """Turn events into documents, or into whatever else is written with them.

    Any object with these members is one; there is nothing to inherit from.
    """

    @property
    def name(self) -> str:
        """The name that progress, status and dead letters go by; stays the same for ever."""
        ...

    @property
    def consumes(self) -> Collection[type]:
        """The exact event types to be handed over; empty means all of them."""
        ...

    @property
    def produces(self) -> type | None:
        """The document type that a rebuild deletes first; None if there is none."""
        ...

    @property
    def async_options(self) -> AsyncOptions:
        """How it runs in the daemon."""
        ...

    def apply(
        self, session: ProjectionSession, streams: Sequence[EventStream], /
    ) -> Awaitable[None] | None:
        """Queue on the session what follows from the events; plain or async.

        It may be called again with the same events when a transaction was rolled back, and must
        not commit.

        Args:
            session: where effects are queued; only those happen exactly once.
            streams: in the order of their first event; the events of each in version order.
                Versions have holes where `consumes` leaves events out.
        """
        ...


async def apply_projection(
    projection: IProjection, session: ProjectionSession, streams: Sequence[EventStream]
) -> None:
    """Run a projection over streams, whether its `apply` is plain or async."""
    pending = projection.apply(session, streams)
    if inspect.isawaitable(pending):
        await pending
