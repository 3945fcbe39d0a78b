"""Operations of all kinds, cancelled at random: every connection is afterwards clean, or closed."""

import logging
import random
from contextlib import aclosing

import psycopg
import pytest
import trio
from psycopg import pq

from flowstore.postgres import Connection

OPERATIONS = 200
DELAYS = (0, 0.0003, 0.001, 0.003, 0.01, 1)


async def execute(conn):
    await conn.execute("select pg_sleep(0.001)")


async def fetch_much(conn):
    query = "select g, repeat('x', 500) from generate_series(1, 2000) g"
    await (await conn.execute(query)).fetchall()


async def execute_many(conn):
    await conn.cursor().executemany("insert into f values (%s, 'm')", [(n,) for n in range(200)])


async def stream(conn):
    async with aclosing(conn.cursor().stream("select generate_series(1, 5000)", size=50)) as rows:
        async for (number,) in rows:
            if number % 500 == 0:
                await trio.lowlevel.checkpoint()


async def stream_and_leave(conn):
    async with aclosing(conn.cursor().stream("select generate_series(1, 500000)")) as rows:
        async for (number,) in rows:
            if number == 50:
                break


async def copy_in(conn):
    async with conn.cursor().copy("copy f from stdin") as copy:
        for number in range(1000):
            await copy.write_row((number, "z" * 200))


async def copy_out(conn):
    query = "copy (select generate_series(1, 5000), repeat('x', 100)) to stdout"
    async with conn.cursor().copy(query) as copy:
        while await copy.read():
            pass


async def pipeline(conn):
    async with conn.pipeline():
        for number in range(30):
            await conn.execute("insert into f values (%s, 'p')", (number,))


async def transaction_in_pipeline(conn):
    async with conn.pipeline(), conn.transaction():
        for number in range(20):
            cursor = await conn.execute("insert into f values (%s, 'x') returning a", (number,))
        await cursor.fetchone()


async def transaction(conn):
    async with conn.transaction():
        await conn.execute("insert into f values (1, 't')")
        async with conn.transaction():
            await conn.execute("insert into f values (2, 't')")
            await trio.lowlevel.checkpoint()


async def server_cursor(conn):
    async with conn.transaction(), conn.cursor("part") as cursor:
        await cursor.execute("select generate_series(1, 2000)")
        await cursor.fetchall()


async def fail(conn):
    with pytest.raises(psycopg.errors.DivisionByZero):
        await conn.execute("select 1 / 0")


ALL = (
    execute, fetch_much, execute_many, stream, stream_and_leave, copy_in, copy_out, pipeline,
    transaction_in_pipeline, transaction, server_cursor, fail,
)  # fmt: skip


def is_clean(conn):
    return (
        conn.info.transaction_status == pq.TransactionStatus.IDLE
        and not conn.in_pipeline
        and not conn.lock.locked()
        and conn._num_transactions == 0
    )


async def open_connection(pg_dsn):
    conn = await Connection.connect(pg_dsn)
    await conn.execute("create temp table f (a int, b text)")
    return conn


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_is_cancelled_the_connection_is_clean_or_closed(pg_dsn, seed, caplog):
    caplog.set_level(logging.CRITICAL, logger="psycopg")
    chance, cancelled, reopened = random.Random(seed), 0, 0
    conn = await open_connection(pg_dsn)
    for number in range(OPERATIONS):
        if conn.closed:
            conn, reopened = await open_connection(pg_dsn), reopened + 1
        operation = chance.choice(ALL)
        with trio.move_on_after(chance.choice(DELAYS)) as scope:
            await operation(conn)
        cancelled += scope.cancelled_caught
        if not conn.closed:
            assert is_clean(conn), operation
            row = await (await conn.execute("select %s::int", (number,))).fetchone()
            assert row == (number,), operation
    await conn.close()
    assert cancelled > OPERATIONS / 10
    assert reopened < OPERATIONS / 20
