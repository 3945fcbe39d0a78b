"""Statements, results, cursors and streams."""

import uuid
from contextlib import aclosing

import psycopg
import pytest
import trio
from psycopg import errors, pq
from psycopg.rows import dict_row
from psycopg.types import TypeInfo
from psycopg.types.json import Jsonb

from flowstore.postgres import Connection

IDLE = pq.TransactionStatus.IDLE


async def one(conn, query, *params):
    return (await (await conn.execute(query, params)).fetchone())[0]


async def test_rows_are_fetched_one_by_one_by_number_and_all(conn):
    cursor = await conn.execute("select g, g::text from generate_series(1, 10) g")
    assert await cursor.fetchone() == (1, "1")
    assert len(await cursor.fetchmany(3)) == 3
    assert len(await cursor.fetchall()) == 6


async def test_a_cursor_is_iterated_over(conn):
    assert [row async for row in await conn.execute("values (1), (2)")] == [(1,), (2,)]


async def test_a_row_factory_makes_the_rows(conn):
    cursor = conn.cursor(row_factory=dict_row)
    await cursor.execute("select 1 as a")
    assert await cursor.fetchone() == {"a": 1}


async def test_binary_values_come_back_as_they_went(conn):
    key = uuid.uuid4()
    values = (key, 2**40, Jsonb({"a": [1]}), b"\0x", [key, key])
    cursor = await conn.execute(
        "select %b::uuid, %b::int8, %b::jsonb, %b::bytea, %b::uuid[]", values, binary=True
    )
    assert await cursor.fetchone() == (key, 2**40, {"a": [1]}, b"\0x", [key, key])


@pytest.mark.parametrize(("threshold", "prepared"), [(2, 1), (None, 0), (0, 1)])
async def test_statements_are_prepared_from_the_threshold_on(pg_dsn, threshold, prepared):
    async with await Connection.connect(pg_dsn, prepare_threshold=threshold) as conn:
        for number in range(5):
            await conn.execute("select %s::int + 1", (number,))
        query = "select count(*) from pg_prepared_statements where statement like '%% + 1'"
        assert await one(conn, query) == prepared


async def test_executemany_runs_every_row(conn):
    await conn.execute("create temp table t (a int, b text)")
    rows = [(number, "x" * 100) for number in range(5000)]
    await conn.cursor().executemany("insert into t values (%s, %s)", rows)
    assert await one(conn, "select count(*) from t") == 5000


async def test_executemany_returns_each_rows_result(conn):
    cursor = conn.cursor()
    await cursor.executemany("select %s::int", [(1,), (2,), (3,)], returning=True)
    assert [(await result.fetchone())[0] async for result in cursor.results()] == [1, 2, 3]


async def test_the_connection_is_usable_after_executemany_failed(conn):
    with pytest.raises(errors.InvalidTextRepresentation):
        await conn.cursor().executemany("select %s::text::int", [("1",), ("z",), ("3",)])
    assert await one(conn, "select 1") == 1


async def test_a_parameter_larger_than_every_buffer_comes_back(conn):
    text = "x" * (10 << 20)
    assert await one(conn, "select %s::text", text) == text


async def test_a_failed_statement_breaks_its_transaction_only(pg_dsn):
    async with await Connection.connect(pg_dsn, autocommit=False) as conn:
        with pytest.raises(errors.UndefinedTable):
            await conn.execute("select * from nope")
        assert conn.info.transaction_status == pq.TransactionStatus.INERROR
        await conn.rollback()
        assert await one(conn, "select 1") == 1


async def test_tasks_that_share_a_connection_take_turns(conn):
    found = []

    async def ask(number):
        found.append(await one(conn, "select %s::int", number))

    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(ask, number)
    assert sorted(found) == list(range(20))


async def test_a_server_cursor_fetches_in_parts(conn):
    async with conn.transaction(), conn.cursor("parts") as cursor:
        cursor.itersize = 100
        await cursor.execute("select generate_series(1, 1000)")
        assert len([row async for row in cursor]) == 1000


async def test_a_server_cursor_scrolls_back(conn):
    async with conn.transaction(), conn.cursor("back", scrollable=True) as cursor:
        await cursor.execute("select generate_series(1, 100)")
        await cursor.fetchmany(10)
        await cursor.scroll(-5)
        assert await cursor.fetchone() == (6,)


@pytest.mark.parametrize("size", [1, 100])
async def test_a_stream_yields_every_row(conn, size):
    query = "select generate_series(1, 1000)"
    async with aclosing(conn.cursor().stream(query, size=size)) as rows:
        assert len([row async for row in rows]) == 1000
    assert await one(conn, "select 1") == 1


async def test_a_stream_left_early_ends_its_statement(conn):
    async with aclosing(conn.cursor().stream("select generate_series(1, 10000000)")) as rows:
        async for row in rows:
            if row == (10,):
                break
    assert conn.info.transaction_status == IDLE
    assert await one(conn, "select 1") == 1


async def test_a_statement_timeout_is_psycopgs_error(conn):
    await conn.execute("set statement_timeout = 20")
    with pytest.raises(errors.QueryCanceled):
        await conn.execute("select pg_sleep(20)")
    assert await one(conn, "select 1") == 1


async def test_transaction_characteristics_are_set(conn):
    await conn.set_autocommit(False)
    await conn.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
    assert await one(conn, "show transaction_isolation") == "repeatable read"
    await conn.commit()
    assert conn.info.transaction_status == IDLE


async def test_type_information_is_fetched(conn):
    found = await TypeInfo.fetch(conn, "uuid")
    assert found.oid == 2950
