"""Opening a store."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final, TypeVar

import attrs

from flowstore.postgres import Connection, Pool, plain_nursery, translate_errors
from flowstore.store._engine import Engine, make_engine
from flowstore.store._feed import Feed
from flowstore.store._keeping import keeping
from flowstore.store._options import StoreOptions
from flowstore.store._schema import prepare_schema
from flowstore.store._schema_plan import target_of
from flowstore.store._schema_privileges import explaining
from flowstore.store._signals import Signals
from flowstore.store._store import EventStore

__all__ = ["open_event_store"]

_SETTINGS: Final = b"""
set idle_in_transaction_session_timeout = '60s';
set tcp_keepalives_idle = 10;
set tcp_keepalives_interval = 5;
set tcp_keepalives_count = 3;
set tcp_user_timeout = '15s'"""
"""A transaction left open holds the high-water mark.

One that idles so long has been forgotten; and whose client's machine is gone, or can't be reached,
the server has to find out, which by itself it does after two hours.
"""

StoreT = TypeVar("StoreT", bound=EventStore)


@asynccontextmanager
async def open_event_store(
    dsn: str,
    options: StoreOptions | None = None,
    *,
    cls: type[StoreT] = EventStore,
    max_connections: int = 10,
) -> AsyncGenerator[StoreT]:
    """Open a store for the block, creating or updating its schema as the options allow.

    Args:
        dsn: where the database is: a libpq connection string or URL.
        options: how events and documents are kept.
        cls: the class to open.
        max_connections: how many connections sessions may have at once.

    Raises:
        SchemaError: the schema is missing and may not be created, or isn't what is needed.
        RegistrationError: a document type can't be kept.
        DatabaseError: PostgreSQL refused, or can't be reached.
    """
    options = options or StoreOptions()
    async with Pool.open(dsn, max_size=max_connections, configure=_configure) as pool:
        engine, signals = await _prepare(dsn, options, pool)
        # Inside of the pool, so that what sessions have kept comes back while it can be rolled back.
        async with plain_nursery() as nursery, keeping(engine.lend) as keep:
            nursery.start_soon(signals.send)
            yield cls(
                dsn,
                options,
                attrs.evolve(engine, keep=keep, along=signals.along),
                Feed(engine),
                signals,
            )


async def _prepare(dsn: str, options: StoreOptions, pool: Pool) -> tuple[Engine, Signals]:
    # Before anything is created: what can't be kept, or has an impossible name, is refused here.
    sql = target_of(options).sql
    lend = explaining(pool.connection, dsn, sql)
    with translate_errors():
        async with lend() as connection:
            facts = await prepare_schema(connection, sql, options.auto_create)
    # The oid tells schemas of one database apart, whatever they are called.
    signals = Signals(dsn, f"flowstore_{facts.events_oid}", pool.connection)
    engine = make_engine(dsn, options, lend, signals.notify)
    await engine.tables.ensure(engine.catalogue)
    await engine.flat_tables.ensure(options.projections.tables())
    return engine, signals


async def _configure(connection: Connection) -> None:
    await connection.execute(_SETTINGS, prepare=False)
