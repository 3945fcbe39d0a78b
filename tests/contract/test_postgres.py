"""The store on PostgreSQL keeps the contract, and lacks nothing of it."""

from collections.abc import Iterator

import attrs
import psycopg
import pytest
from psycopg import sql

from flowstore.daemon import open_store
from flowstore.testing.contract import *  # noqa: F403
from flowstore.testing.contract import Capability, OpenStore


@pytest.fixture
def open_store_for(pg_dsn: str, schema: str, admin: psycopg.Connection) -> Iterator[OpenStore]:
    schemas = set()

    def open_it(options, storage="main"):
        schemas.add(name := f"{schema}_{storage}")
        return open_store(pg_dsn, attrs.evolve(options, schema=name))

    yield open_it
    for name in schemas:
        admin.execute(sql.SQL("drop schema if exists {} cascade").format(sql.Identifier(name)))


@pytest.fixture
def lacking() -> frozenset[Capability]:
    return frozenset()
