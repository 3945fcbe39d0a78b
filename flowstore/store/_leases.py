"""Leases: which process runs which shard, held on a connection and lost with it."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Final, Protocol

import attrs

from flowstore.postgres import Connection, translate_errors
from flowstore.store._engine import Engine
from flowstore.store._schema_privileges import explained
from flowstore.store._sql import SchemaSql
from flowstore.store._statements import Statement, fetch_rows

__all__ = ["LeaseSession", "Taking", "end_commits", "is_leased", "open_leases"]

_TAKE: Final = """
select taken, pid, application_name, ended, progress from {schema}.take_shard(%s, %s)"""
_LEAVE: Final = "select {schema}.leave_shard(%s)"
_RENEW: Final = "select {schema}.renew_shards(%s::text[], %s::bigint[])"
_END_COMMITS: Final = "select {schema}.end_commits(%s)"

_IS_LEASED: Final = """
select exists (
    select from pg_catalog.pg_locks l
    where l.locktype = 'advisory' and l.objsubid = 2 and l.granted
        and l.classid = {schema}.lock_space('shard')::oid and l.objid = hashtext(%s)::oid
        and l.database = (
            select d.oid from pg_catalog.pg_database d where d.datname = current_database()
        )
)"""

_GRACE: Final = 0.5
"""Seconds to bring a cancelled statement to an end: a lease that is silent is nearly lost."""


@attrs.frozen
class Taking:
    """Tell what came of trying to take a shard's lease.

    Attributes:
        taken: whether it is this session's now.
        pid: the server's process of whoever has it; None for this one, or where it can't be told.
        application_name: what that one calls itself.
        ended: whether that one was silent for too long and was ended.
        progress: where the shard stands.
    """

    taken: bool
    pid: int | None
    application_name: str | None
    ended: bool
    progress: int


class LeaseSession(Protocol):
    """Holds leases of shards for as long as its connection lasts."""

    async def take(self, shard: str, lease_time: float) -> Taking:
        """Try to take a shard's lease; never twice.

        Args:
            shard: the shard's name.
            lease_time: seconds after which an owner that has said nothing is ended.

        Raises:
            DatabaseError: the connection, and with it every lease, is lost.
        """
        ...

    async def leave(self, shard: str) -> None:
        """Give a shard's lease back.

        Raises:
            DatabaseError: the connection, and with it every lease, is lost.
        """
        ...

    async def renew(self, epochs: Mapping[str, int]) -> list[str]:
        """Say that this session is alive and runs its shards.

        Args:
            epochs: of each shard whose lease it has, the epoch that it was claimed at; 0: not yet.

        Returns:
            Which of them were claimed, rewound or torn down by somebody else since.

        Raises:
            DatabaseError: the connection, and with it every lease, is lost.
        """
        ...


@attrs.frozen(eq=False)
class _ServerLeases:
    """Hold leases as locks of a session of the server's."""

    _connection: Connection
    _sql: SchemaSql

    async def take(self, shard: str, lease_time: float) -> Taking:
        """Try to take a shard's lease."""
        with translate_errors():
            cursor = await self._connection.execute(self._sql.statement(_TAKE), (shard, lease_time))
            rows = await cursor.fetchall()
        return Taking(*rows[0])

    async def leave(self, shard: str) -> None:
        """Give a shard's lease back."""
        with translate_errors():
            await self._connection.execute(self._sql.statement(_LEAVE), (shard,))

    async def renew(self, epochs: Mapping[str, int]) -> list[str]:
        """Say that this session is alive and runs its shards."""
        with translate_errors():
            cursor = await self._connection.execute(
                self._sql.statement(_RENEW), (list(epochs), list(epochs.values()))
            )
            return [shard for (shard,) in await cursor.fetchall()]


@asynccontextmanager
async def open_leases(engine: Engine, dsn: str) -> AsyncGenerator[LeaseSession]:
    """Open a connection for leases for the block; they are lost at its end.

    Raises:
        InsufficientPrivilegeError: the role lacks a right.
        DatabaseError: PostgreSQL can't be reached.
    """
    with translate_errors():
        connection = await Connection.connect(dsn, application_name="flowstore daemon")
    connection.grace = _GRACE
    try:
        async with explained(dsn, engine.sql):
            yield _ServerLeases(connection, engine.sql)
    finally:
        connection.abandon()


async def is_leased(engine: Engine, shard: str) -> bool:
    """Tell whether any session has a shard's lease."""
    statement = Statement(engine.sql.statement(_IS_LEASED), (shard,))
    return (await fetch_rows(engine.lend, statement))[0][0]


async def end_commits(engine: Engine, shard: str) -> int:
    """End whoever is in the middle of committing a page of a shard; tells how many there were."""
    statement = Statement(engine.sql.statement(_END_COMMITS), (shard,))
    return (await fetch_rows(engine.lend, statement))[0][0]
