"""Committing a session's queue into memory."""

from collections.abc import Sequence
from itertools import chain

import attrs

from flowstore.events import Event
from flowstore.store._commit import Callbacks, Commit, Written
from flowstore.store._inline import apply_inline
from flowstore.store._queue import QueuedAppend
from flowstore.store._rows import row_size
from flowstore.store._statements import Row
from flowstore.store.memory._appending import MemoryAppend, plan_memory_append
from flowstore.store.memory._database import Transaction
from flowstore.store.memory._json import same_json
from flowstore.store.memory._locks import MemoryLocks
from flowstore.store.memory._rows import EVENT_IDS, EVENTS
from flowstore.store.memory._sessions import MemoryUnit, ReadsFrom
from flowstore.store.memory._writing import prepare_writes, write_all

__all__ = ["MemoryCommit"]


@attrs.frozen
class MemoryCommit(Commit):
    """Commit one queue; what a refusal means, and when to go on, is decided as in a database."""

    locks: MemoryLocks

    async def write(self) -> list[Event]:
        """Write everything, and give the events with their places."""
        recorded, _ = await self._write(list(self.queue.appends))
        return list(chain.from_iterable(recorded))

    async def _find_stored(self, events: Sequence[Event]) -> Sequence[Row]:
        database, encode = self.locks.database, self.engine.codec.encode
        rows: list[Row] = []
        for event in events:
            sequence = database.get(EVENT_IDS, event.id)
            stored = None if sequence is None else database.get(EVENTS, sequence)
            if stored is not None:
                tenant, stream_id = stored.stream
                same = stored.type_name == event.type_name
                same = same and same_json(stored.data, encode(event.data))
                place = (stored.version, stored.sequence, stored.timestamp)
                rows.append((stored.id, stream_id, *place, tenant, same))
        return rows

    async def _write(self, appends: Sequence[QueuedAppend]) -> tuple[Written, Callbacks]:
        if not appends and not self.queue.operations:
            return [], self.queue.callbacks
        transaction = self.locks.transaction
        if transaction is not None:
            # Behind a savepoint, so that what fails doesn't lose the session's locks.
            with transaction.savepoint():
                return await self._write_in(transaction, appends)
        async with self.locks.database.transaction(self.locks.pause) as begun:
            written = await self._write_in(begun, appends)
        self._hand_over(written[0])
        return written

    def _hand_over(self, recorded: Written) -> None:
        """Give a single event, which is committed, to the daemons of this store."""
        events = list(chain.from_iterable(recorded))
        stored = self.locks.database.get(EVENTS, events[0].sequence) if len(events) == 1 else None
        if stored is not None and not self.queue.operations:
            row = stored.row()
            self.engine.handovers.put(stored.sequence, row_size(row), lambda: row)

    async def _write_in(
        self, transaction: Transaction, appends: Sequence[QueuedAppend]
    ) -> tuple[Written, Callbacks]:
        queue = self.queue
        planned = None if not appends else self._planned(appends)
        # Before the first event is written, where the database's statements are made as well.
        writes = prepare_writes(self.engine, queue.operations)
        recorded: Written = []
        if planned is not None:
            recorded = await planned.write(transaction, self.locks.pause)
            if self.engine.options.projections.inline():
                lend = ReadsFrom(transaction)
                unit = MemoryUnit(self.engine, self.tenant, queue.copy(), lend=lend)
                queue = await apply_inline(self.engine, unit, list(chain.from_iterable(recorded)))
                writes = prepare_writes(self.engine, queue.operations)
        await write_all(transaction, writes, self.engine)
        return recorded, queue.callbacks

    def _planned(self, appends: Sequence[QueuedAppend]) -> MemoryAppend:
        return plan_memory_append(
            appends,
            self.engine.codec,
            tenant=self.tenant,
            must_exist=self.engine.options.mandatory_stream_types,
        )
