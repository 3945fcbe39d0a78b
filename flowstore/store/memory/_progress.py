"""How far shards have come, what they have set aside, and taking them back to nothing: in memory."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import attrs

from flowstore.errors import DocumentsEditedError, ProgressConflictError, ShardEditedError
from flowstore.events import DeadLetter, group_by_stream_id, plain_key
from flowstore.projections import IProjection, apply_projection, produced_by, shard_name
from flowstore.store._engine import Engine
from flowstore.store._held import ABSENT, HeldKey, Kept, Relied
from flowstore.store._names import stored_tenant
from flowstore.store._progress import Claim, storable
from flowstore.store._projection_unit import ProjectionUnit
from flowstore.store._queue import DocumentOperation, Operation, Queue, StoreDocument
from flowstore.store._retry import event_gone
from flowstore.store._rows import decode_row
from flowstore.store.memory._database import MemoryDatabase, Transaction
from flowstore.store.memory._rows import DEAD_LETTERS, EVENTS, PROGRESS, Rows, documents_of
from flowstore.store.memory._sessions import MemoryUnit, ReadsFrom
from flowstore.store.memory._steps import Pause
from flowstore.store.memory._writing import prepare_writes, write_all

__all__ = ["MemoryShards"]

_NOWHERE: Final = Claim(0, started=False, epoch=0, edits=0)


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
        claim: Claim | None,
    ) -> None:
        """Write a unit's queue, dead letters and progress in one transaction.

        Raises:
            ProgressConflictError: the shard doesn't stand at `floor`, or has another owner than
                `claim` says; nothing was written.
            ShardEditedError: its documents were written to since `claim`; nothing was written.
            DocumentsEditedError: documents that the unit relies on aren't as they were; nothing was
                written.
        """
        writes = prepare_writes(self.engine, unit.queued.operations)
        async with self.database.transaction(self.pause) as transaction:
            # Before it waits for anything: whoever has the lease may end it.
            transaction.commits = shard if claim and claim.epoch is not None else None
            await transaction.lock(PROGRESS, shard)
            found = transaction.get(PROGRESS, shard) or _NOWHERE
            _check(shard, found, floor, claim)
            moved = attrs.evolve(found, sequence=ceiling, started=True)
            transaction.put(PROGRESS, shard, moved)
            for letter in sorted(dead_letters, key=_place):
                await transaction.lock(DEAD_LETTERS, _place(letter))
                transaction.put(DEAD_LETTERS, _place(letter), _kept(letter))
            if unit.relied:
                await _check_unmoved(transaction, shard, unit)
            await write_all(transaction, writes, self.engine)
            kept = _written(transaction, unit.queued.operations)
        unit.kept = kept

    def letters(self, shard: str | None) -> list[DeadLetter]:
        """List what a shard, or every shard, has set aside."""
        found = (letter for _, letter in self.database.scan(DEAD_LETTERS))
        return sorted((each for each in found if shard in (None, each.shard)), key=_place)

    async def discard(self, letter: DeadLetter) -> None:
        """Forget a dead letter; it may be gone already."""
        async with self.database.transaction(self.pause) as transaction:
            await _remove(transaction, DEAD_LETTERS, _place(letter))

    def standing(self, shard: str) -> Claim:
        """Tell where a shard stands without owning it."""
        return self.database.get(PROGRESS, shard) or _NOWHERE

    async def claim(self, shard: str) -> Claim:
        """Begin to own a shard: whoever claimed it before can't commit any more."""
        async with self.database.transaction(self.pause) as transaction:
            found = await _locked(transaction, shard)
            claim = attrs.evolve(found, epoch=(found.epoch or 0) + 1)
            transaction.put(PROGRESS, shard, claim)
            return claim

    async def rewind(self, shard: str, sequence: int) -> None:
        """Put a shard at a sequence, and forget the dead letters above; its owner stops."""
        async with self.database.transaction(self.pause) as transaction:
            await _move(transaction, shard, sequence, sequence)

    async def tear_down(self, projection: IProjection, place: int | None) -> None:
        """Delete a projection's documents and dead letters, and put it at a place."""
        shard, own = shard_name(projection), getattr(projection, "teardown", None)
        async with self.database.transaction(self.pause) as transaction:
            await _move(transaction, shard, place, -1)
            unit = self._unit(transaction)
            if own is not None:
                await own(unit)
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
            found = await _locked(transaction, letter.shard)
            await transaction.lock(DEAD_LETTERS, _place(letter))
            if transaction.get(DEAD_LETTERS, _place(letter)) is None:
                return []  # discarded, or retried by somebody else
            transaction.delete(DEAD_LETTERS, _place(letter))
            stored = transaction.get(EVENTS, letter.sequence)
            if stored is None:
                raise event_gone(letter)
            if stored.skipped:
                return []
            edited = attrs.evolve(found, edits=found.edits + 1)
            transaction.put(PROGRESS, letter.shard, edited)
            event = decode_row(self.engine.codec, stored.row())
            unit = self._unit(transaction, stored.stream[0])
            await apply_projection(projection, unit, group_by_stream_id([event]))
            writes = prepare_writes(self.engine, unit.queued.operations)
            await write_all(transaction, writes, self.engine)
            return unit.queued.callbacks

    def _unit(self, transaction: Transaction, tenant: str | None = None) -> MemoryUnit:
        lend = ReadsFrom(transaction)
        return MemoryUnit(self.engine, tenant or stored_tenant(None), Queue(), lend=lend)


def _check(shard: str, found: Claim, floor: int, claim: Claim | None) -> None:
    """Refuse a commit that isn't the owner's next one."""
    if found.sequence != floor or (claim and claim.epoch not in {None, found.epoch}):
        raise ProgressConflictError(shard, expected=floor, found=found.sequence)
    if claim and claim.edits != found.edits:
        raise ShardEditedError(shard, found.edits)


async def _check_unmoved(transaction: Transaction, shard: str, unit: ProjectionUnit) -> None:
    """Lock what is written and what is relied on, in one order; refuse if that isn't as it was."""
    written = (each for each in unit.queued.operations if isinstance(each, DocumentOperation))
    touched = {_row(each): each for each in (*written, *unit.relied.values())}
    for _, each in sorted(touched.items()):
        rows, key = documents_of(each.kind), (each.tenant, each.identity)
        await transaction.lock(rows, key)
        if isinstance(each, Relied) and (transaction.get(rows, key) or ABSENT) != each.stamp:
            raise DocumentsEditedError(shard)


def _row(each: DocumentOperation | Relied) -> tuple[str, str, Any]:
    return each.kind.table, each.tenant, plain_key(each.identity)


def _written(transaction: Transaction, operations: Sequence[Operation]) -> dict[HeldKey, Kept]:
    """Tell documents as they are kept now; a row is its own stamp."""
    found: dict[HeldKey, Kept] = {}
    for each in operations:
        if isinstance(each, StoreDocument):
            row = transaction.get(documents_of(each.kind), (each.tenant, each.identity))
            if row is not None:
                found[each.tenant, each.kind.type, plain_key(each.identity)] = Kept(row.data, row)
    return found


async def _locked(transaction: Transaction, shard: str) -> Claim:
    await transaction.lock(PROGRESS, shard)
    return transaction.get(PROGRESS, shard) or _NOWHERE


async def _move(transaction: Transaction, shard: str, place: int | None, kept: int) -> None:
    """Put a shard at a place, or none, and forget its dead letters above `kept`."""
    found = await _locked(transaction, shard)
    moved = Claim(place or 0, place is not None, (found.epoch or 0) + 1, found.edits)
    transaction.put(PROGRESS, shard, moved)
    for key, letter in transaction.scan(DEAD_LETTERS):
        if letter.shard == shard and letter.sequence > kept:
            await _remove(transaction, DEAD_LETTERS, key)


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
