"""Telling servers' processes apart, and ending one whose owner is stuck."""

from typing import Final, LiteralString

from flowstore.postgres._backend import Backend
from flowstore.postgres._connection import Connection

IDENTIFY: Final[LiteralString] = """
    select pid, backend_start from pg_stat_activity where pid = pg_backend_pid()
"""
TERMINATE: Final[LiteralString] = """
    select pg_terminate_backend(pid) from pg_stat_activity where pid = %s and backend_start = %s
"""


async def backend_of(connection: Connection) -> Backend:
    """Identify the backend of a connection, to record it where others can find it.

    Raises:
        psycopg.Error: the connection was lost.
    """
    cursor = await connection.execute(IDENTIFY, prepare=False)
    [(pid, started)] = await cursor.fetchall()
    return Backend(pid, started)


async def end_backend(connection: Connection, backend: Backend) -> bool:
    """End another connection's backend; tell whether it was there.

    The way out where an owner has stopped in the middle of a pipeline: the server then waits for it
    as `active`, and `idle_in_transaction_session_timeout` doesn't count that as idle.

    Raises:
        psycopg.errors.InsufficientPrivilege: it belongs to another role.
    """
    row = await (await connection.execute(TERMINATE, (backend.pid, backend.started))).fetchone()
    return row is not None and bool(row[0])
