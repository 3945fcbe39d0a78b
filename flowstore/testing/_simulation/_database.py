"""The database of a simulation: what is done to it is seen, and may take long or fail."""

from collections.abc import Callable, Collection, Mapping
from typing import Any, Protocol

import attrs
import trio

from flowstore.store.memory import (
    PROGRESS,
    MemoryDatabase,
    NotInMemoryError,
    Place,
    Rows,
    Signals,
    Transaction,
)

__all__ = ["SimulatedDatabase", "Witness"]


class Witness(Protocol):
    """Sees what happens to a database, and has a say in it."""

    async def travel(self) -> None:
        """Take the time of a round trip, or fail."""
        ...

    def began(self, transaction: Transaction) -> None:
        """See a transaction begin."""
        ...

    def ended(
        self, transaction: Transaction, before: Mapping[Place, Any], after: Mapping[Place, Any]
    ) -> None:
        """See a transaction's end: rows it wrote, as they were and as they are; none: rolled back."""
        ...

    def loses_notification(self) -> bool:
        """Tell whether an append is to wake nobody."""
        ...


def _no_connection() -> Any:
    raise NotInMemoryError("there is no database here to be notified")


@attrs.define(eq=False)
class _LossySignals(Signals):
    """Wake waiters, but for when notifications are lost."""

    loses: Callable[[], bool] = attrs.field(kw_only=True)

    def _wake(self) -> None:
        if not self.loses():
            super()._wake()


class SimulatedDatabase(MemoryDatabase):
    """Keep what all processes of a simulation keep, under a witness' eyes."""

    def __init__(self) -> None:
        super().__init__()
        self.signals = _LossySignals("memory", "memory", _no_connection, loses=self._loses)
        self.witness: Witness | None = None

    def _loses(self) -> bool:
        return self.witness is not None and self.witness.loses_notification()

    async def round_trip(self) -> None:
        """Go there and back, which may take long, or fail."""
        await trio.lowlevel.checkpoint()
        if self.witness is not None:
            await self.witness.travel()

    def begin(self) -> Transaction:
        """Begin a transaction, of which it is known whose it is."""
        begun = super().begin()
        if self.witness is not None:
            self.witness.began(begun)
        return begun

    def end(self, transaction: Transaction, written: dict[Place, Any]) -> None:
        """Take a transaction's writes over, and have them looked at."""
        before = {place: self._tables.get(place[0], {}).get(place[1]) for place in written}
        super().end(transaction, written)
        if self.witness is not None:
            self.witness.ended(transaction, before, written)

    def edits(self, shard: str) -> int:
        """Tell how often a shard's documents were written to beside its owner."""
        claim = self.get(PROGRESS, shard)
        return 0 if claim is None else claim.edits

    def copied(self, without: Collection[str]) -> MemoryDatabase:
        """Copy what is committed to a database of its own, but for some tables."""
        copy = MemoryDatabase()
        copied = copy.begin()
        for name, rows in self._tables.items():
            if name not in without:
                for key, row in rows.items():
                    copied.put(Rows(name), key, row)
        copied.commit()
        copy.position = self.position
        return copy
