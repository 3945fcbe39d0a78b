"""What the contract's tests are handed, and what whoever runs them has to provide.

Two fixtures are the runner's: `open_store_for`, an `OpenStore`, and `lacking`, the capabilities that
the store under test doesn't have. Both are required, so that nothing is passed over in silence.
"""

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager
from enum import StrEnum
from typing import Protocol

import pytest

from flowstore.daemon import Store
from flowstore.store import StoreOptions


class Capability(StrEnum):
    """Name what a store may lack and still keep the contract otherwise.

    Each is also the name of a fixture, which skips the tests that need it.
    """

    SQL = "needs_sql"
    """`session.execute`, `query`, `stream_query`, `events.query` and `store.connection`."""
    FLAT_TABLES = "needs_flat_tables"
    """Projections into tables with columns of their own."""
    WAITING_LOCKS = "needs_waiting_locks"
    """Exclusive appends: others wait, until the commit or their `lock_timeout`."""
    REOPENING = "needs_reopening"
    """What was written is there when the same storage is opened again, also meanwhile."""
    FILES = "needs_files"
    """`export_events` and `import_events` with a path or file."""
    BULK = "needs_bulk"
    """`bulk_insert`."""
    DAEMON = "needs_daemon"
    """`build_projection_daemon`."""


class OpenStore(Protocol):
    """Open a store for the test that asks; what it keeps is gone after the test."""

    def __call__(
        self, options: StoreOptions, storage: str = "main"
    ) -> AbstractAsyncContextManager[Store]:
        """Open a store with the options; only their `schema` is the opener's own.

        Within a test the same `storage` is the same streams and documents, and another is others.
        """
        ...


def needs(*capabilities: Capability) -> pytest.MarkDecorator:
    """Mark a test, or a class of tests, that a store lacking a capability doesn't have to pass."""
    return pytest.mark.usefixtures(*capabilities)


def _skip_without(capability: Capability, lacking: frozenset[Capability]) -> None:
    if capability in lacking:
        pytest.skip(f"this store lacks {capability.name}")


@pytest.fixture
def needs_sql(lacking: frozenset[Capability]) -> None:
    """Skip where there is no SQL."""
    _skip_without(Capability.SQL, lacking)


@pytest.fixture
def needs_flat_tables(lacking: frozenset[Capability]) -> None:
    """Skip where there are no flat tables."""
    _skip_without(Capability.FLAT_TABLES, lacking)


@pytest.fixture
def needs_waiting_locks(lacking: frozenset[Capability]) -> None:
    """Skip where nobody can be kept waiting."""
    _skip_without(Capability.WAITING_LOCKS, lacking)


@pytest.fixture
def needs_reopening(lacking: frozenset[Capability]) -> None:
    """Skip where nothing outlives the store."""
    _skip_without(Capability.REOPENING, lacking)


@pytest.fixture
def needs_files(lacking: frozenset[Capability]) -> None:
    """Skip where events can't be written to files."""
    _skip_without(Capability.FILES, lacking)


@pytest.fixture
def needs_bulk(lacking: frozenset[Capability]) -> None:
    """Skip where documents can't be inserted in bulk."""
    _skip_without(Capability.BULK, lacking)


@pytest.fixture
def needs_daemon(lacking: frozenset[Capability]) -> None:
    """Skip where there is no daemon."""
    _skip_without(Capability.DAEMON, lacking)


@pytest.fixture
def options() -> StoreOptions:
    """Give the options of the test's store, to be added to before it is opened."""
    return StoreOptions()


@pytest.fixture
async def store(open_store_for: OpenStore, options: StoreOptions) -> AsyncGenerator[Store]:
    """Give an open, empty store."""
    async with open_store_for(options) as opened:
        yield opened
