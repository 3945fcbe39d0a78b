"""Connections that are ready for use, and watched for as long as they are used."""

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, TypeAlias

import psycopg
import trio

from flowstore.postgres._backends import backend_of
from flowstore.postgres._beside import beside
from flowstore.postgres._connection import Connection
from flowstore.postgres._watch import watch

__all__ = ["Configure", "make_ready", "watched_connection"]

logger: Final = logging.getLogger("flowstore.postgres")

Configure: TypeAlias = Callable[[Connection], Awaitable[None]]

PREPARATION_TIMEOUT: Final = 4.0
"""Seconds in which a new connection must be ready for use: nothing it does takes long."""
SHORTEST_GRACE: Final = 0.5
"""Seconds in which a statement of that is to be stopped."""


async def make_ready(connection: Connection, configure: Configure | None = None) -> None:
    """Find out a new connection's backend, so that it can be watched, and configure it.

    Raises:
        psycopg.errors.ConnectionTimeout: it wasn't ready within seconds.
        psycopg.Error: the connection was lost.
    """
    grace, connection.grace = connection.grace, SHORTEST_GRACE
    with trio.move_on_after(PREPARATION_TIMEOUT) as scope:
        backend = await backend_of(connection)
        if backend.pid == connection.info.backend_pid:  # else a pooler is in between
            connection.backend = backend
        if configure is not None:
            await configure(connection)
    if scope.cancelled_caught:
        message = f"a new connection wasn't ready for use within {PREPARATION_TIMEOUT} s"
        raise psycopg.errors.ConnectionTimeout(message)
    connection.grace = grace


@asynccontextmanager
async def watched_connection(dsn: str) -> AsyncGenerator[Connection]:
    """Open a connection for the block, which waits for no answer that will never come.

    As with a pool's: if a statement has waited for two seconds while the server owes it nothing,
    the connection is closed, and whoever waits on it gets `psycopg.OperationalError`.

    Raises:
        psycopg.Error: it can't be opened.
    """

    def lose(lost: Connection, why: str) -> None:
        logger.warning("a connection was lost: %s", why)
        lost.abandon(why)

    async with await Connection.connect(dsn) as connection:
        await make_ready(connection)

        async def look(_: int) -> None:
            await watch(dsn, lambda: (connection,), lose)

        async with beside(look, 0):
            yield connection
