"""A store without a database; `flowstore.testing.MemoryStore` is it with a daemon."""

from flowstore.store._signals import Signals
from flowstore.store.memory._database import MemoryDatabase, Transaction
from flowstore.store.memory._errors import NotInMemoryError
from flowstore.store.memory._json import same_json, same_value
from flowstore.store.memory._row_locks import Place
from flowstore.store.memory._rows import (
    DEAD_LETTERS,
    EVENT_IDS,
    EVENTS,
    PROGRESS,
    STREAMS,
    Rows,
    StoredEvent,
)
from flowstore.store.memory._steps import CommitStep, Pause, give_way
from flowstore.store.memory._store import MemoryEventStore

__all__ = [
    "DEAD_LETTERS",
    "EVENTS",
    "EVENT_IDS",
    "PROGRESS",
    "STREAMS",
    "CommitStep",
    "MemoryDatabase",
    "MemoryEventStore",
    "NotInMemoryError",
    "Pause",
    "Place",
    "Rows",
    "Signals",
    "StoredEvent",
    "Transaction",
    "give_way",
    "same_json",
    "same_value",
]
