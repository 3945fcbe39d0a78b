"""Locks on streams that a session holds, in memory."""

import math

import attrs

from flowstore.errors import StreamLockedError
from flowstore.events import StreamId
from flowstore.store._locks import HeldLocks, milliseconds
from flowstore.store.memory._database import MemoryDatabase, Transaction
from flowstore.store.memory._row_locks import LockedOutError
from flowstore.store.memory._rows import KEPT_STREAMS, STREAMS
from flowstore.store.memory._steps import Pause

__all__ = ["MemoryLocks"]


@attrs.define(eq=False)
class MemoryLocks(HeldLocks):
    """Hold a session's locks in a transaction, from the first lock to the commit.

    Attributes:
        database: where the rows are.
        pause: is awaited at each step of a commit.
    """

    database: MemoryDatabase = attrs.field(kw_only=True)
    pause: Pause = attrs.field(kw_only=True)
    _held: Transaction | None = attrs.field(default=None, init=False)

    @property
    def transaction(self) -> Transaction | None:
        """The transaction that has the locks; None while there are none."""
        return self._held

    def begin(self) -> None:
        """Begin the transaction without a lock."""
        self._held = self.database.begin()

    async def lock(
        self, tenant: str, stream_id: StreamId, seconds: float | None
    ) -> tuple[int, bool]:
        """Keep others from appending to a stream, as in a database."""
        wait = milliseconds(seconds)
        await self.database.round_trip()
        held = self._held or self.database.begin()
        try:
            with held.savepoint():
                place = (tenant, stream_id)
                found = await _locked(held, place, math.inf if wait is None else wait / 1000)
        except BaseException as error:
            if self._held is None:
                held.rollback()
            if isinstance(error, LockedOutError):
                raise StreamLockedError(stream_id, seconds) from error
            raise
        self._held = held
        return found

    async def commit(self) -> None:
        """Commit what was written under the locks, and let go of them, also if that fails."""
        try:
            if self._held is not None:
                await self.database.commit(self._held, self.pause)
        finally:
            await self.release()

    async def release(self) -> None:
        """Let go of all locks, and forget what was written under them."""
        held, self._held = self._held, None
        if held is not None:
            held.rollback()


async def _locked(
    transaction: Transaction, place: tuple[str, StreamId], seconds: float
) -> tuple[int, bool]:
    await transaction.lock(KEPT_STREAMS, place, seconds)
    if transaction.get(STREAMS, place) is None:
        return 0, False
    await transaction.lock(STREAMS, place, seconds)
    found = transaction.get(STREAMS, place)
    return (0, False) if found is None else (found.version, found.archived)
