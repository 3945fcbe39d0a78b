"""Leases of shards in memory: held for as long as a connection lasts, which a transaction stands for."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager

import attrs

from flowstore.store._leases import Taking
from flowstore.store.memory._database import Lease, MemoryDatabase, Transaction
from flowstore.store.memory._rows import PROGRESS

__all__ = ["MemoryLeases", "end_commits", "is_leased", "open_leases"]

_NAME = "flowstore daemon"


@attrs.frozen(eq=False)
class MemoryLeases:
    """Hold leases of shards until the transaction that stands for the connection ends."""

    _database: MemoryDatabase
    _connection: Transaction

    async def take(self, shard: str, lease_time: float) -> Taking:
        """Try to take a shard's lease; whoever has it and was silent for too long is ended.

        Raises:
            DatabaseUnavailableError: the connection, and with it every lease, is lost.
        """
        await self._connection.round_trip()
        leases, now = self._database.leases, self._database.now()
        claim = self._database.get(PROGRESS, shard)
        progress = 0 if claim is None else claim.sequence
        held = leases.get(shard)
        if held is None or held.connection.is_over:
            leases[shard] = Lease(self._connection, now)
            return Taking(
                taken=True, pid=None, application_name=None, ended=False, progress=progress
            )
        is_silent = (now - held.renewed).total_seconds() > lease_time
        if is_silent:
            held.connection.terminate()
        pid = held.connection.number
        return Taking(
            taken=False, pid=pid, application_name=_NAME, ended=is_silent, progress=progress
        )

    async def leave(self, shard: str) -> None:
        """Give a shard's lease back.

        Raises:
            DatabaseUnavailableError: as for `take`.
        """
        await self._connection.round_trip()
        if self._has(shard):
            del self._database.leases[shard]

    async def renew(self, epochs: Mapping[str, int]) -> list[str]:
        """Say that this session is alive; give the shards that somebody else claimed since.

        Raises:
            DatabaseUnavailableError: as for `take`.
        """
        await self._connection.round_trip()
        for shard in epochs:
            if self._has(shard):
                self._database.leases[shard] = Lease(self._connection, self._database.now())
        return [shard for shard, epoch in epochs.items() if epoch and self._epoch(shard) != epoch]

    def _has(self, shard: str) -> bool:
        held = self._database.leases.get(shard)
        return held is not None and held.connection is self._connection

    def _epoch(self, shard: str) -> int:
        claim = self._database.get(PROGRESS, shard)
        return 0 if claim is None else claim.epoch or 0


@asynccontextmanager
async def open_leases(database: MemoryDatabase) -> AsyncGenerator[MemoryLeases]:
    """Open a connection for leases for the block; they are lost at its end.

    Raises:
        DatabaseUnavailableError: the database can't be reached.
    """
    await database.round_trip()
    connection = database.begin()
    try:
        yield MemoryLeases(database, connection)
    finally:
        connection.rollback()


async def is_leased(database: MemoryDatabase, shard: str) -> bool:
    """Tell whether any session has a shard's lease."""
    await database.round_trip()
    held = database.leases.get(shard)
    return held is not None and not held.connection.is_over


async def end_commits(database: MemoryDatabase, shard: str) -> int:
    """End whoever is in the middle of committing a page of a shard; tells how many there were."""
    await database.round_trip()
    stuck = [each for each in database.open_transactions() if each.commits == shard]
    for transaction in stuck:
        transaction.terminate()
    return len(stuck)
