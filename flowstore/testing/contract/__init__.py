"""What every store has to do, as tests that a store is run through.

A test module takes all of it and says which store is meant:

    from flowstore.testing.contract import *

    @pytest.fixture
    def open_store_for():
        return open_my_store  # see `OpenStore`

    @pytest.fixture
    def lacking():
        return frozenset({Capability.SQL})  # see `Capability`

It runs under pytest-trio's `trio_mode = true`. For readable failures a conftest.py above it says
`pytest.register_assert_rewrite("flowstore.testing.contract")`.
"""

from flowstore.testing.contract._appending import TestAppending
from flowstore.testing.contract._event_ids import TestEventIds
from flowstore.testing.contract._event_types import TestEventTypes, TestTypesOfAnotherProcess
from flowstore.testing.contract._expected_versions import TestExpectedVersions
from flowstore.testing.contract._fixtures import (
    Capability,
    OpenStore,
    needs,
    needs_bulk,
    needs_daemon,
    needs_files,
    needs_flat_tables,
    needs_reopening,
    needs_sql,
    needs_waiting_locks,
    options,
    store,
)
from flowstore.testing.contract._identity import (
    TestIdentityStays,
    TestTextIdentity,
    TestUuidIdentity,
)
from flowstore.testing.contract._metadata import TestMetadata
from flowstore.testing.contract._reading import TestReading
from flowstore.testing.contract._stream_state import TestStreamState
from flowstore.testing.contract._validation import TestValidation

__all__ = [
    "Capability",
    "OpenStore",
    "TestAppending",
    "TestEventIds",
    "TestEventTypes",
    "TestExpectedVersions",
    "TestIdentityStays",
    "TestMetadata",
    "TestReading",
    "TestStreamState",
    "TestTextIdentity",
    "TestTypesOfAnotherProcess",
    "TestUuidIdentity",
    "TestValidation",
    "needs",
    "needs_bulk",
    "needs_daemon",
    "needs_files",
    "needs_flat_tables",
    "needs_reopening",
    "needs_sql",
    "needs_waiting_locks",
    "options",
    "store",
]
