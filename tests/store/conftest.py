"""A store in a schema of the test's own."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

import pytest

from flowstore.store import EventStore, StoreOptions, open_event_store


@pytest.fixture
def options(schema: str) -> StoreOptions:
    """Options for the test's schema, to be added to before the store is opened."""
    return StoreOptions(schema=schema)


@pytest.fixture
async def store(pg_dsn: str, options: StoreOptions) -> AsyncIterator[EventStore]:
    """An open store."""
    async with open_event_store(pg_dsn, options) as opened:
        yield opened


@pytest.fixture
def opening(pg_dsn: str, schema: str) -> Callable[..., AbstractAsyncContextManager[EventStore]]:
    """Open the test's schema with options of its own: `async with opening(tenancy=...)`."""

    def open_with(**changes: object) -> AbstractAsyncContextManager[EventStore]:
        return open_event_store(pg_dsn, StoreOptions(**{"schema": schema, **changes}))

    return open_with
