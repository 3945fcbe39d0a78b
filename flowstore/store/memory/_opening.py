"""What all sessions of a store in memory share."""

from datetime import UTC, datetime
from random import Random
from typing import Final
from uuid import UUID

from flowstore.store._engine import Engine, make_engine
from flowstore.store._ids import event_id_at
from flowstore.store._options import StoreOptions
from flowstore.store.memory._database import MemoryDatabase
from flowstore.store.memory._sessions import ReadsFrom

__all__ = ["memory_engine"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def memory_engine(options: StoreOptions, database: MemoryDatabase, random: Random) -> Engine:
    """Put together what sessions share; event ids come of the database's clock and `random`.

    Raises:
        RegistrationError: a projection produces a class that can't be a document, or keeps a
            table that this store can't keep.
        SchemaError: the database's streams are known otherwise.
    """
    database.adopt(options)

    def new_id() -> UUID:
        milliseconds = round((database.now() - _EPOCH).total_seconds() * 1000)
        return event_id_at(milliseconds, random.getrandbits(80))

    lend, wake = ReadsFrom(database), database.signals.notify
    engine = make_engine("memory", options, lend, wake, new_id)
    for table in options.projections.tables():
        engine.flat_tables.check(table)
    return engine
