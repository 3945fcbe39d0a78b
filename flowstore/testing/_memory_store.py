"""A store without a database, for simulations and for tests that are to be fast."""

from flowstore.daemon import Store
from flowstore.store.memory import MemoryEventStore

__all__ = ["MemoryStore"]


class MemoryStore(MemoryEventStore, Store):
    """Streams, documents and a daemon, all of it in memory and by the rules of PostgreSQL.

        store = MemoryStore(options)

    There is nothing to open and nothing to close. The same suite of tests holds for it and for a
    store on PostgreSQL.
    """
