"""Locks on streams that a session holds from when it asks for them until it commits."""

import math
from collections.abc import AsyncGenerator, Generator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Any, Final

import attrs
import psycopg

from flowstore.errors import InvalidEventError, StreamLockedError
from flowstore.events import StreamId
from flowstore.postgres import Connection, translate_errors
from flowstore.store._keeping import Keep, Kept, keep_nothing
from flowstore.store._schema_privileges import explained
from flowstore.store._sql import SchemaSql
from flowstore.store._statements import Lend

__all__ = ["HeldLocks", "milliseconds"]

_LOCK: Final = "select version, archived from {schema}.lock_stream(%s, %s, %s)"
_LOCKED_OUT: Final = frozenset({"55P03", "40P01"})  # waited for too long; waited for each other
_LONGEST_WAIT: Final = 2**31 - 1
"""Milliseconds: PostgreSQL keeps `lock_timeout` in 32 bits."""


@attrs.define(eq=False)
class HeldLocks:
    """Hold a session's locks in a transaction, on a connection that is kept for it.

    There is none of either until the first lock. From then on everything the session does runs on
    that connection, each part behind a savepoint, so that what fails doesn't lose the locks.
    It goes back with the session's end, at the latest with the store's; and soon after a session
    was dropped without being left.
    """

    _pool: Lend
    _sql: SchemaSql
    _dsn: str = attrs.field(default="", repr=False)
    _keep: Keep = attrs.field(default=keep_nothing, repr=False)
    _kept: Kept | None = attrs.field(default=None, init=False)

    def __del__(self) -> None:
        """Have the connection given back, whoever forgot to leave the session."""
        if self._kept is not None:
            self._kept.drop()

    @property
    def connection(self) -> Connection | None:
        """The connection whose transaction has the locks; None while there are none."""
        return None if self._kept is None else self._kept.connection

    def lend(self) -> AbstractAsyncContextManager[Connection]:
        """Lend the connection that has the locks, or else one of the pool."""
        return self._pool() if self._kept is None else self._lend_kept()

    @asynccontextmanager
    async def _lend_kept(self) -> AsyncGenerator[Connection]:
        if self._kept is not None and self._kept.is_over:
            # The locks went with it. Appends under them still ask for the version they were made
            # for, so that going on without is safe.
            await self.release()
        if self._kept is None:
            async with self._pool() as connection:
                yield connection
        else:
            connection = self._kept.connection
            async with explained(self._dsn, self._sql), connection.transaction():
                yield connection

    async def lock(
        self, tenant: str, stream_id: StreamId, seconds: float | None
    ) -> tuple[int, bool]:
        """Keep others from appending to a stream.

        Args:
            tenant: the tenant column's value.
            stream_id: the stream's identity; it need not exist.
            seconds: how long to wait for whoever has it; None waits for as long as it takes.

        Returns:
            The stream's version, 0 if it doesn't exist, and whether it is archived.

        Raises:
            StreamLockedError: somebody else kept it for longer, or waits for one of ours.
            InvalidEventError: the time isn't positive.
            DatabaseError: PostgreSQL refused, or can't be reached.
        """
        wait = milliseconds(seconds)
        was_held = self._kept is not None
        try:
            with translate_errors(), _locked_out(stream_id, seconds):
                connection = await self._begun()
                async with explained(self._dsn, self._sql), connection.transaction():
                    query = self._sql.statement(_LOCK)
                    cursor = await connection.execute(query, (tenant, stream_id, wait))
                    version, archived = await cursor.fetchone() or (0, False)
        except BaseException:
            if not was_held:
                await self.release()
            raise
        return version, archived

    async def commit(self) -> None:
        """Commit what was written under the locks, and let go of them, also if that fails.

        Raises:
            psycopg.Error: PostgreSQL refused the commit, or can't be reached.
        """
        try:
            if self._kept is not None:
                await self._kept.connection.commit()
        finally:
            await self.release()

    async def release(self) -> None:
        """Let go of all locks, and roll back what was written under them."""
        kept, self._kept = self._kept, None
        if kept is not None:
            # The pool rolls back whatever a connection comes back in.
            await kept.give_back()

    async def _begun(self) -> Connection:
        if self._kept is None:
            self._kept = await self._keep()
            await self._kept.connection.execute("begin")
        return self._kept.connection


def milliseconds(seconds: Any) -> int | None:
    """Give the time to wait for a lock in milliseconds; None waits for as long as it takes.

    Raises:
        InvalidEventError: it isn't a positive number.
    """
    if seconds is None or seconds == math.inf:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not seconds > 0:
        raise InvalidEventError(
            f"lock_timeout={seconds!r}: give the seconds to wait, more than 0, or None to wait for"
            " as long as it takes"
        )
    return min(max(1, round(seconds * 1000)), _LONGEST_WAIT)


@contextmanager
def _locked_out(stream_id: StreamId, seconds: float | None) -> Generator[None]:
    try:
        yield
    except psycopg.Error as error:
        if error.sqlstate not in _LOCKED_OUT:
            raise
        raise StreamLockedError(stream_id, seconds) from error
