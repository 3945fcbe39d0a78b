"""How far shards have come, what they have set aside, and taking them back to nothing: in memory."""

from collections.abc import Callable, Sequence
from typing import Any

import attrs

from flowstore.errors import ProgressConflictError
from flowstore.events import DeadLetter, group_by_stream_id
from flowstore.projections import IProjection, apply_projection, produced_by, shard_name
from flowstore.store._document_session import ProjectionUnit
from flowstore.store._engine import Engine
from flowstore.store._names import stored_tenant
from flowstore.store._progress import storable
from flowstore.store._queue import Queue
from flowstore.store._retry import event_gone
from flowstore.store._rows import decode_row
from flowstore.store.memory._database import MemoryDatabase, Pause, Transaction
from flowstore.store.memory._rows import DEAD_LETTERS, EVENTS, PROGRESS, Rows, documents_of
from flowstore.store.memory._sessions import MemoryUnit, ReadsFrom
from flowstore.store.memory._writing import prepare_writes, write_all

__all__ = ["MemoryShards"]


@attrs.frozen
class MemoryShards:
    """Keep the progress of a store's shards with the effects that came with it.

    Attributes:
        engine: the store's.
        database: where the rows are.
        pause: is awaited at each step of a commit.
    """

    engine: Engine
    database: MemoryDatabase
    pause: Pause

    async def commit(
        self,
        unit: ProjectionUnit,
        *,
        shard: str,
        floor: int,
        ceiling: int,
        dead_letters: Sequence[DeadLetter],
    ) -> None:
        """Write a unit's queue, dead letters and progress in one transaction.

        Raises:
            ProgressConflictError: the shard doesn't stand at `floor`; nothing was written.
        """
        writes = prepare_writes(self.engine, unit.queued.operations)
        async with self.database.transaction(self.pause) as transaction:
            await transaction.lock(PROGRESS, shard)
            found = transaction.get(PROGRESS, shard) or 0
            if found != floor:
                raise ProgressConflictError(shard, expected=floor, found=found)
            transaction.put(PROGRESS, shard, ceiling)
            for letter in sorted(dead_letters, key=_place):
                await transaction.lock(DEAD_LETTERS, _place(letter))
                transaction.put(DEAD_LETTERS, _place(letter), _kept(letter))
            await write_all(transaction, writes, self.engine)

    def letters(self, shard: str | None) -> list[DeadLetter]:
        """List what a shard, or every shard, has set aside."""
        found = (letter for _, letter in self.database.scan(DEAD_LETTERS))
        return sorted((each for each in found if shard in (None, each.shard)), key=_place)

    async def discard(self, letter: DeadLetter) -> None:
        """Forget a dead letter; it may be gone already."""
        async with self.database.transaction(self.pause) as transaction:
            await _remove(transaction, DEAD_LETTERS, _place(letter))

    async def tear_down(self, projection: IProjection) -> None:
        """Delete a projection's documents, progress and dead letters, in one transaction."""
        shard, own = shard_name(projection), getattr(projection, "teardown", None)
        async with self.database.transaction(self.pause) as transaction:
            unit = self._unit(transaction)
            if own is not None:
                await own(unit)
            for key, letter in transaction.scan(DEAD_LETTERS):
                if letter.shard == shard:
                    await _remove(transaction, DEAD_LETTERS, key)
            await _remove(transaction, PROGRESS, shard)
            for document_type, version in produced_by(projection).items():
                rows = documents_of(self.engine.kind_of(document_type, version))
                for key, _ in transaction.scan(rows):
                    await _remove(transaction, rows, key)
            writes = prepare_writes(self.engine, unit.queued.operations)
            await write_all(transaction, writes, self.engine)

    async def retry(self, projection: IProjection, letter: DeadLetter) -> list[Callable[[], Any]]:
        """Apply a letter's event and discard the letter, both or neither.

        Returns:
            What waits for the commit, which is done.

        Raises:
            InvalidEventError: the event is gone, or its data doesn't fit its type.
            UnknownEventTypeError: its stored type is not known.
            Exception: whatever the projection raises.
        """
        async with self.database.transaction(self.pause) as transaction:
            await transaction.lock(PROGRESS, letter.shard)
            await transaction.lock(DEAD_LETTERS, _place(letter))
            if transaction.get(DEAD_LETTERS, _place(letter)) is None:
                return []  # discarded, or retried by somebody else
            transaction.delete(DEAD_LETTERS, _place(letter))
            stored = transaction.get(EVENTS, letter.sequence)
            if stored is None:
                raise event_gone(letter)
            if stored.skipped:
                return []
            event = decode_row(self.engine.codec, stored.row())
            unit = self._unit(transaction, stored.stream[0])
            await apply_projection(projection, unit, group_by_stream_id([event]))
            writes = prepare_writes(self.engine, unit.queued.operations)
            await write_all(transaction, writes, self.engine)
            return unit.queued.callbacks

    def _unit(self, transaction: Transaction, tenant: str | None = None) -> MemoryUnit:
        lend = ReadsFrom(transaction)
        return MemoryUnit(self.engine, tenant or stored_tenant(None), Queue(), lend=lend)


def _place(letter: DeadLetter) -> tuple[str, int]:
    return letter.shard, letter.sequence


def _kept(letter: DeadLetter) -> DeadLetter:
    return DeadLetter(
        letter.shard,
        letter.sequence,
        storable(letter.error_type),
        storable(letter.message),
        storable(letter.traceback),
    )


async def _remove(transaction: Transaction, rows: Rows[Any, Any], key: Any) -> None:
    await transaction.lock(rows, key)
    transaction.delete(rows, key)
