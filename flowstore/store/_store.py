"""The store: an open schema, as applications and as daemons use it."""

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

import attrs

from flowstore.postgres import Connection, redact
from flowstore.store._engine import Engine
from flowstore.store._feed import Feed
from flowstore.store._new_events import EventMarks
from flowstore.store._options import StoreOptions
from flowstore.store._progress import read_progress
from flowstore.store._session import Session, open_session
from flowstore.store._signals import Signals
from flowstore.store._store_feed import StoreFeed
from flowstore.store._store_shards import StoreShards
from flowstore.store._upkeep import StoreUpkeep

__all__ = ["EventStore"]


@attrs.frozen(eq=False, repr=False)
class EventStore(StoreUpkeep, StoreFeed, StoreShards):
    """Give sessions to write and read with, and a daemon what it needs.

    Open one with `open_event_store`. Any number of tasks may use it at once. What is done to it as
    a whole stands in `StoreUpkeep`; what daemons ask of it in `StoreFeed` and `StoreShards`.

    Attributes:
        dsn: where the database is, as it was opened; may hold a password.
        options: what the store was told.
    """

    dsn: str
    options: StoreOptions
    _engine: Engine
    _feed: Feed
    _signals: Signals

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {redact(self.dsn)!r} schema={self.options.schema!r}>"

    def session(
        self,
        *,
        tenant_id: str | None = None,
        correlation_id: str | None = None,
        causation_id: str | None = None,
        user_name: str | None = None,
        headers: Mapping[str, Any] | None = None,
    ) -> Session:
        """Begin a unit of work; asks the database nothing.

        Args:
            tenant_id: whose streams and documents it sees and writes; stores with conjoined
                tenancy only.
            correlation_id: what its events belong to; None takes, where OpenTelemetry is
                installed, the id of the trace that each is queued in.
            causation_id: what causes its events.
            user_name: who causes its events.
            headers: anything else to be recorded with each event, as JSON values by name.

        Raises:
            InvalidTenantError: a tenant in a store of a single tenant, or one that can't be stored.
        """
        marks = EventMarks(correlation_id, causation_id, user_name, dict(headers or {}))
        return open_session(self._engine, tenant_id, marks)

    def connection(self) -> AbstractAsyncContextManager[Connection]:
        """Lend a connection of the pool for the block, with psycopg's API and errors.

        It commits each statement by itself outside `transaction()`. One that idles in a
        transaction for a minute is ended by the server.
        """
        return self._engine.lend()

    async def progress(self, name_or_type: Any) -> int:
        """Give the last sequence whose effects a projection has committed.

        Args:
            name_or_type: its name, the document type it produces, its class, or itself.

        Returns:
            0 before the first commit, and for projections that don't run in a daemon.

        Raises:
            UnknownProjectionError: there is no such projection.
            DatabaseError: PostgreSQL refused, or can't be reached.
        """
        return await read_progress(self._engine, self._shard(name_or_type))
