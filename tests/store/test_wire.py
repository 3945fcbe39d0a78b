"""Binary values are read as psycopg reads them."""

from datetime import UTC, datetime, timedelta

import pytest

from flowstore.postgres import Connection, DirectStatement
from flowstore.store._wire import number, numbers, time


@pytest.fixture
async def fetch(pg_dsn):
    async with await Connection.connect(pg_dsn) as connection:

        async def fetch(query):
            (raw,) = await connection.fetch_row(DirectStatement(query), [])
            return raw

        yield fetch


@pytest.mark.parametrize("value", [0, 1, -1, 2**40, 2**63 - 1, -(2**63)])
async def test_a_number(fetch, value):
    assert number(await fetch(b"select (%d)::numeric::bigint" % value)) == value


@pytest.mark.parametrize("values", [[], [7], [1, 2, 3], [-1, 2**62], list(range(1000))])
async def test_an_array_of_numbers(fetch, values):
    literal = ",".join(map(str, values)).encode()
    assert numbers(await fetch(b"select '{%b}'::bigint[]" % literal)) == values


@pytest.mark.parametrize(
    "when",
    [
        datetime(2000, 1, 1, tzinfo=UTC),
        datetime(1999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
        datetime(2026, 11, 23, 18, 30, 0, 123456, tzinfo=UTC),
        datetime(1, 1, 3, tzinfo=UTC),
        datetime(9999, 12, 29, tzinfo=UTC) - timedelta(microseconds=1),
    ],
)
async def test_a_time(fetch, when):
    assert time(await fetch(b"select '%b'::timestamptz" % when.isoformat().encode())) == when
