"""Fixtures for tests of applications, which pytest finds by the package's entry point.

pytest imports this wherever flowstore is installed, before it measures coverage and whether anybody
asks for a fixture or not. So nothing is imported here but pytest, and what a fixture needs when it
is first asked for.
"""

from collections.abc import AsyncGenerator, Callable, Generator, Iterable
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

import pytest

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from flowstore.daemon import Store
    from flowstore.store import StoreOptions
    from flowstore.testing import MemoryStore, Scenario, Simulation

__all__ = [
    "flowstore_dsn",
    "flowstore_memory_store",
    "flowstore_open",
    "flowstore_options",
    "flowstore_schema",
    "flowstore_simulation",
    "flowstore_store",
    "pytest_addoption",
]


def _support() -> Any:
    return import_module("flowstore.testing._plugin_support")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options that are the fixtures' own."""
    group = parser.getgroup("flowstore")
    group.addoption(
        "--flowstore-dsn",
        metavar="DSN",
        help="a PostgreSQL to use for flowstore_dsn instead of an embedded one"
        " (default: the environment's FLOWSTORE_TEST_DSN)",
    )
    group.addoption(
        "--flowstore-seed",
        type=int,
        metavar="SEED",
        help="the one seed that flowstore_simulation runs, to run again what has failed",
    )


@pytest.fixture(scope="session")
def flowstore_dsn(request: pytest.FixtureRequest) -> Generator[str]:
    """The connection string of a PostgreSQL for this run; an embedded one, unless one is named."""
    with _support().server(request.config.getoption("--flowstore-dsn")) as dsn:
        yield dsn


@pytest.fixture
def flowstore_schema(flowstore_dsn: str) -> Generator[str]:
    """The name of a schema that doesn't exist yet; dropped after the test, with all that is in it."""
    with _support().fresh_schema(flowstore_dsn) as schema:
        yield schema


@pytest.fixture
def flowstore_options() -> "StoreOptions":
    """The options of the test's stores; override it to register types and projections."""
    return cast("StoreOptions", _support().StoreOptions())


@pytest.fixture
def flowstore_open(
    flowstore_dsn: str, flowstore_schema: str, flowstore_options: "StoreOptions"
) -> "Callable[..., AbstractAsyncContextManager[Store]]":
    """A function that opens a store in the test's schema, for an `async with`, as often as need be.

    It takes options of its own, or those of `flowstore_options`, and puts the schema into them.
    """

    def open_it(options: "StoreOptions | None" = None) -> "AbstractAsyncContextManager[Store]":
        return cast(
            "AbstractAsyncContextManager[Store]",
            _support().open_in(flowstore_dsn, flowstore_schema, options or flowstore_options),
        )

    return open_it


@pytest.fixture
async def flowstore_store(
    flowstore_open: "Callable[..., AbstractAsyncContextManager[Store]]",
) -> "AsyncGenerator[Store]":
    """A store in a fresh schema, with the options of `flowstore_options`; for pytest-trio."""
    async with flowstore_open() as store:
        yield store


@pytest.fixture
def flowstore_memory_store(flowstore_options: "StoreOptions") -> "MemoryStore":
    """A store without a database, with the options of `flowstore_options`."""
    return cast("MemoryStore", _support().MemoryStore(flowstore_options))


@pytest.fixture
def flowstore_simulation(
    request: pytest.FixtureRequest,
) -> "Callable[..., list[Simulation]]":
    """Simulate a scenario by many seeds: `flowstore_simulation(scenario, seeds=range(50))`.

    Without a scenario it takes the default one; with --flowstore-seed, that seed only.
    """
    only: int | None = request.config.getoption("--flowstore-seed")

    def run(
        scenario: "Scenario | None" = None, *, seeds: Iterable[int] = range(20)
    ) -> "list[Simulation]":
        simulate = _support().simulate
        return [simulate(scenario, seed=seed) for seed in (seeds if only is None else [only])]

    return run
