"""What the fixtures of the pytest plugin need, once somebody asks for one."""

import itertools
import os
import tempfile
from collections.abc import Generator
from contextlib import AbstractAsyncContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Final

import attrs
import psycopg
import trio
from psycopg import sql

from flowstore.daemon import Store, open_store
from flowstore.postgres._embedded import join
from flowstore.store import StoreOptions
from flowstore.testing._exploring import outside_trio
from flowstore.testing._memory_store import MemoryStore
from flowstore.testing._simulation import simulate

__all__ = ["MemoryStore", "StoreOptions", "fresh_schema", "open_in", "server", "simulate"]

_FORGETFUL: Final = {"fsync": False, "synchronous_commit": False, "full_page_writes": False}
"""What a test's server loses with the machine's power nobody misses, and tests are faster."""

_numbers = itertools.count(1)


@contextmanager
def server(named: str | None) -> Generator[str]:
    """Give the connection string of a server for the block.

    Args:
        named: of one that is there; None takes the environment's FLOWSTORE_TEST_DSN, or starts one
            that ends with the block.
    """
    found = named or os.environ.get("FLOWSTORE_TEST_DSN")
    if found:
        yield found
        return
    with tempfile.TemporaryDirectory(prefix="flowstore-pytest-") as home:
        Path(home).chmod(0o755)  # the server has a user of its own, where we are root
        # A lease outlives the event loop it was taken in; a test's own loop is none of its business.
        lease = outside_trio(lambda: trio.run(partial(join, home, settings=_FORGETFUL)))
        try:
            yield lease.dsn
        finally:
            outside_trio(lambda: trio.run(lease.leave))


@contextmanager
def fresh_schema(dsn: str) -> Generator[str]:
    """Give the name of a schema for the block, and drop it afterwards."""
    name = f"flowstore_test_{os.getpid()}_{next(_numbers)}"
    try:
        yield name
    finally:
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(
                sql.SQL("drop schema if exists {} cascade").format(sql.Identifier(name))
            )


def open_in(dsn: str, schema: str, options: StoreOptions) -> AbstractAsyncContextManager[Store]:
    """Open a store in a schema."""
    return open_store(dsn, attrs.evolve(options, schema=schema))
