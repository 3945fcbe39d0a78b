"""COPY in both directions, whole, failed and cancelled."""

import uuid

import pytest
import trio
from psycopg import pq

IDLE = pq.TransactionStatus.IDLE
ENDLESS = "copy (select generate_series(1, 100000000), repeat('x', 100)) to stdout"


@pytest.fixture
async def table(conn):
    await conn.execute("create temp table t (a int8, b text, c uuid)")


async def count(conn):
    return (await (await conn.execute("select count(*) from t")).fetchone())[0]


ROWS = [(number, f"row {number}", uuid.UUID(int=number)) for number in range(3000)]


async def test_copy_in_as_text_stores_every_row(conn, table):
    async with conn.cursor().copy("copy t from stdin") as copy:
        for row in ROWS:
            await copy.write_row(row)
    assert await count(conn) == len(ROWS)


async def test_binary_copy_brings_back_what_it_took_in(conn, table):
    async with conn.cursor().copy("copy t from stdin (format binary)") as copy:
        copy.set_types(["int8", "text", "uuid"])
        for row in ROWS:
            await copy.write_row(row)
    async with conn.cursor().copy("copy t to stdout (format binary)") as copy:
        copy.set_types(["int8", "text", "uuid"])
        assert [row async for row in copy.rows()] == ROWS


async def test_copy_out_yields_blocks(conn):
    query = "copy (select generate_series(1, 3)) to stdout"
    async with conn.cursor().copy(query) as copy:
        assert b"".join([bytes(block) async for block in copy]) == b"1\n2\n3\n"
    assert conn.info.transaction_status == IDLE


async def test_copy_in_that_failed_in_its_block_stores_nothing(conn, table):
    async def fail():
        async with conn.cursor().copy("copy t from stdin") as copy:
            await copy.write_row(ROWS[0])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert conn.info.transaction_status == IDLE
    assert await count(conn) == 0


async def test_copy_out_left_by_an_exception_ends_its_statement(conn):
    async def fail():
        async with conn.cursor().copy(ENDLESS) as copy:
            await copy.read()
            raise KeyError

    with pytest.raises(KeyError):
        await fail()
    assert conn.info.transaction_status == IDLE


async def test_copy_in_cancelled_in_its_block_stores_nothing(conn, table):
    with trio.CancelScope() as scope:
        async with conn.cursor().copy("copy t from stdin") as copy:
            await copy.write_row(ROWS[0])
            scope.cancel()
            await trio.lowlevel.checkpoint()
    assert scope.cancelled_caught
    assert conn.info.transaction_status == IDLE
    assert await count(conn) == 0


async def test_copy_in_cancelled_while_the_server_reads_nothing_stores_nothing(
    conn, observer, cancelled, table
):
    await conn.execute(
        "create function pg_temp.stall() returns trigger language plpgsql as"
        " $$ begin perform pg_sleep(60); return new; end $$"
    )
    await conn.execute(
        "create trigger stall before insert on t for each row execute function pg_temp.stall()"
    )

    async def flood():
        async with conn.cursor().copy("copy t (b) from stdin") as copy:
            while True:
                await copy.write_row(("x" * 10000,))

    async def cancel_once_full(scope):
        await observer.until_waiting(conn.info.backend_pid, "PgSleep")
        await trio.testing.wait_all_tasks_blocked(0.05)
        scope.cancel()

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            with trio.CancelScope() as scope:
                nursery.start_soon(cancel_once_full, scope)
                await flood()
    await observer.until_not_active(conn.info.backend_pid)
    assert conn.info.transaction_status == IDLE
    assert await count(conn) == 0


async def test_copy_out_cancelled_ends_its_statement(conn, cancelled):
    async def read():
        async with conn.cursor().copy(ENDLESS) as copy:
            while await copy.read():
                pass

    await cancelled(read)
    assert conn.info.transaction_status == IDLE
    assert await (await conn.execute("select 1")).fetchone() == (1,)
