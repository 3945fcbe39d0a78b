"""A store without a database; `flowstore.testing.MemoryStore` is it with a daemon."""

from flowstore.store.memory._database import CommitStep, MemoryDatabase, Pause, give_way
from flowstore.store.memory._errors import NotInMemoryError
from flowstore.store.memory._store import MemoryEventStore

__all__ = [
    "CommitStep",
    "MemoryDatabase",
    "MemoryEventStore",
    "NotInMemoryError",
    "Pause",
    "give_way",
]
