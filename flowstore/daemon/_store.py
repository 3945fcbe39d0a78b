"""The store as an application sees it: with a daemon, on a server of its own if need be."""

import logging
import os
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from flowstore.daemon._daemon import ProjectionDaemon, open_daemon
from flowstore.daemon._settings import DaemonSettings
from flowstore.postgres import embedded_postgres
from flowstore.store import EventStore, StoreOptions, open_event_store

__all__ = ["Store", "open_store"]


class Store(EventStore):
    """Streams of events, documents, and a daemon that folds the ones into the others.

    Open one with `open_store`. Any number of tasks may use it at once.
    """

    def build_projection_daemon(
        self,
        settings: DaemonSettings | None = None,
        logger: logging.Logger | None = None,
    ) -> AbstractAsyncContextManager[ProjectionDaemon]:
        """Make a daemon for the store's asynchronous projections; open it with `async with`.

        Args:
            settings: how it looks for events and how it stops.
            logger: where it tells of trouble; by default `flowstore.daemon`.
        """
        return open_daemon(self, settings, logger)


@asynccontextmanager
async def open_store(
    dsn: str | None = None,
    options: StoreOptions | None = None,
    *,
    data_dir: str | os.PathLike[str] | None = None,
) -> AsyncGenerator[Store]:
    """Open a store for the block, creating or updating its schema as the options allow.

    Args:
        dsn: where the database is: a libpq connection string or URL. None takes the environment's
            FLOWSTORE_DSN; without that an embedded server is started, or joined, and stopped when
            its last user leaves.
        options: how events and documents are kept, and the projections.
        data_dir: where the embedded server keeps its data; given, it is used whatever the
            environment says.

    Raises:
        ValueError: both `dsn` and `data_dir` were given.
        TypeError: `dsn` is no text, or `options` are no `StoreOptions`.
        EmbeddedServerError: no server can be found or started.
        SchemaError: the schema is missing and may not be created, or isn't what is needed.
        RegistrationError: a document type or projection can't be kept.
        DatabaseError: PostgreSQL refused, or can't be reached.
    """
    _check_types(dsn, options)
    if dsn is not None and data_dir is not None:
        message = "give open_store a dsn or a data_dir, not both: data_dir is the embedded server's"
        raise ValueError(message)
    found = dsn if data_dir is not None else dsn or os.environ.get("FLOWSTORE_DSN")
    if found:
        async with open_event_store(found, options, cls=Store) as store:
            yield store
        return
    async with (
        embedded_postgres(data_dir) as embedded,
        open_event_store(embedded, options, cls=Store) as store,
    ):
        yield store


def _check_types(dsn: object, options: object) -> None:
    if dsn is not None and not isinstance(dsn, str):
        message = (
            f"dsn={dsn!r}: give open_store a connection string, or None for the environment's or an"
            " embedded server; options come second: open_store(None, options)"
        )
        raise TypeError(message)
    if options is not None and not isinstance(options, StoreOptions):
        raise TypeError(f"options={options!r}: give open_store StoreOptions, or None for defaults")
