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

from flowstore.testing.contract._amending import (
    TestCompacting,
    TestMasking,
    TestSkipping,
)
from flowstore.testing.contract._appending import (
    TestAppending,
)
from flowstore.testing.contract._archiving import (
    TestArchiving,
)
from flowstore.testing.contract._bulk import TestBulkInsert
from flowstore.testing.contract._daemon import (
    TestComposites,
    TestDaemon,
    TestFlatTables,
    TestSubscriptions,
)
from flowstore.testing.contract._document_concurrency import (
    TestLockOrder,
    TestOptimisticDocuments,
)
from flowstore.testing.contract._documents import (
    TestDocuments,
)
from flowstore.testing.contract._event_ids import (
    TestEventIds,
)
from flowstore.testing.contract._event_types import (
    TestEventTypes,
    TestTypesOfAnotherProcess,
)
from flowstore.testing.contract._expected_versions import (
    TestExpectedVersions,
)
from flowstore.testing.contract._failures import (
    TestDeadLetters,
    TestPoison,
    TestTheLatestBesideDeadLetters,
)
from flowstore.testing.contract._feed import (
    TestFeed,
    TestUnknownTypesInTheFeed,
)
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
from flowstore.testing.contract._inline import (
    TestInlineProjections,
)
from flowstore.testing.contract._locking import (
    TestExclusiveAppends,
)
from flowstore.testing.contract._metadata import (
    TestMetadata,
)
from flowstore.testing.contract._moving import (
    TestFiles,
    TestImporting,
)
from flowstore.testing.contract._progress import (
    TestProgress,
)
from flowstore.testing.contract._reading import (
    TestReading,
)
from flowstore.testing.contract._sessions import (
    TestAfterCommit,
    TestReopening,
    TestSessions,
)
from flowstore.testing.contract._sql_queries import (
    TestSqlQueries,
)
from flowstore.testing.contract._stream_state import (
    TestStreamState,
)
from flowstore.testing.contract._tenancy import (
    TestConjoinedTenancy,
    TestSingleTenancy,
)
from flowstore.testing.contract._validation import (
    TestValidation,
)
from flowstore.testing.contract._write_models import (
    TestLiveAggregation,
    TestWriteModels,
)

__all__ = [
    "Capability",
    "OpenStore",
    "TestAfterCommit",
    "TestAppending",
    "TestArchiving",
    "TestBulkInsert",
    "TestCompacting",
    "TestComposites",
    "TestConjoinedTenancy",
    "TestDaemon",
    "TestDeadLetters",
    "TestDocuments",
    "TestEventIds",
    "TestEventTypes",
    "TestExclusiveAppends",
    "TestExpectedVersions",
    "TestFeed",
    "TestFiles",
    "TestFlatTables",
    "TestIdentityStays",
    "TestImporting",
    "TestInlineProjections",
    "TestLiveAggregation",
    "TestLockOrder",
    "TestMasking",
    "TestMetadata",
    "TestOptimisticDocuments",
    "TestPoison",
    "TestProgress",
    "TestReading",
    "TestReopening",
    "TestSessions",
    "TestSingleTenancy",
    "TestSkipping",
    "TestSqlQueries",
    "TestStreamState",
    "TestSubscriptions",
    "TestTextIdentity",
    "TestTheLatestBesideDeadLetters",
    "TestTypesOfAnotherProcess",
    "TestUnknownTypesInTheFeed",
    "TestUuidIdentity",
    "TestValidation",
    "TestWriteModels",
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
