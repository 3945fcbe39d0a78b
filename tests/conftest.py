"""PostgreSQL for the tests: one server a session, a schema or a database a test.

`FLOWSTORE_TEST_DSN` names a server to use instead of the session's own; its user must be allowed to
create databases.
"""

import itertools
import os
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psycopg
import pytest
import trio
from hypothesis import HealthCheck, settings
from psycopg import sql
from psycopg.conninfo import make_conninfo

from flowstore.postgres._embedded import join

DURABILITY_OFF = {"fsync": False, "synchronous_commit": False, "full_page_writes": False}
PREPARED = {"max_prepared_transactions": 20}
"""Off by default, and then nothing tells what a prepared append does to the high-water mark."""

# A busy machine is slow, and no test fails for it.
UNTIMED = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("untimed", settings(), **UNTIMED)
settings.register_profile("soak", max_examples=1000, **UNTIMED)
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def pg_dsn() -> Iterator[str]:
    """A DSN of the session's server, whose first database the tests share."""
    if given := os.environ.get("FLOWSTORE_TEST_DSN"):
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="flowstore-tests-") as home:
        Path(home).chmod(0o755)  # the server has a user of its own, where we are root
        # A lease outlives the event loop it was taken in; a test's own loop is none of its business.
        lease = trio.run(partial(join, home, settings=DURABILITY_OFF | PREPARED))
        yield lease.dsn
        trio.run(lease.leave)


@pytest.fixture(scope="session")
def admin(pg_dsn: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(pg_dsn, autocommit=True) as connection:
        yield connection


@pytest.fixture(scope="session")
def fresh_names() -> Iterator[str]:
    return (f"fs_{os.getpid()}_{number}" for number in itertools.count(1))


@pytest.fixture
def schema(admin: psycopg.Connection, fresh_names: Iterator[str]) -> Iterator[str]:
    """The name of a schema that doesn't exist yet; dropped afterwards with all that is in it."""
    name = next(fresh_names)
    yield name
    admin.execute(sql.SQL("drop schema if exists {} cascade").format(sql.Identifier(name)))


@pytest.fixture
def dsn(pg_dsn: str, admin: psycopg.Connection, fresh_names: Iterator[str]) -> Iterator[str]:
    """A DSN of a database of the test's own; dropped afterwards, whoever is connected."""
    name = sql.Identifier(database := next(fresh_names))
    admin.execute(sql.SQL("create database {} template template0").format(name))
    yield make_conninfo(pg_dsn, dbname=database)
    admin.execute(sql.SQL("drop database {} with (force)").format(name))
