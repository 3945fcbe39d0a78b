"""The store in memory keeps the contract, but for SQL and what is made of it."""

from collections import defaultdict
from contextlib import nullcontext
from datetime import UTC, datetime

import pytest

from flowstore.testing import MemoryDatabase, MemoryStore
from flowstore.testing.contract import *  # noqa: F403
from flowstore.testing.contract import Capability, OpenStore


@pytest.fixture
def open_store_for() -> OpenStore:
    databases = defaultdict(lambda: MemoryDatabase(beginning=datetime.now(UTC)))

    def open_it(options, storage="main"):
        return nullcontext(MemoryStore(options, database=databases[storage]))

    return open_it


@pytest.fixture
def lacking() -> frozenset[Capability]:
    return frozenset({Capability.SQL})
