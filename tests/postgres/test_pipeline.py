"""Pipelines: results in order, errors at the end, and nothing left behind by a cancellation."""

import pytest
import trio
from psycopg import errors, pq

IDLE = pq.TransactionStatus.IDLE


async def one(conn, query):
    return (await (await conn.execute(query)).fetchone())[0]


async def usable(conn) -> bool:
    return (
        not conn.in_pipeline
        and conn.info.transaction_status == IDLE
        and await one(conn, "select 42") == 42
    )


async def test_results_come_in_the_order_of_the_statements(conn):
    async with conn.pipeline() as pipeline:
        cursors = [await conn.execute("select %s::int", (number,)) for number in range(300)]
        await pipeline.sync()
        assert [(await cursor.fetchone())[0] for cursor in cursors] == list(range(300))
    assert await usable(conn)


@pytest.mark.parametrize("size", [10, 100_000, 1_000_000, 10_000_000])
@pytest.mark.parametrize("syncs", [False, True])
async def test_statements_larger_than_the_socket_takes_are_sent_to_their_end(conn, size, syncs):
    query = "select length(%s), %s"
    with trio.fail_after(60):
        async with conn.pipeline() as pipeline:
            text = "x" * size
            cursors = [await conn.execute(query, (text, text)) for _ in range(3)]
            if syncs:
                await pipeline.sync()
            assert [await cursor.fetchone() for cursor in cursors] == [(size, text)] * 3
    assert await usable(conn)


async def test_a_failed_statement_is_raised_at_the_end_of_the_block(conn):
    async def fail():
        async with conn.pipeline():
            await conn.execute("select 1 / 0")
            await conn.execute("select 1")

    with pytest.raises(errors.DivisionByZero):
        await fail()
    assert await usable(conn)


async def test_cancelled_while_waiting_for_a_result_the_statement_ends(conn, cancelled):
    async def run():
        async with conn.pipeline():
            cursor = await conn.execute("select pg_sleep(60)")
            await conn.execute("select 1")
            await cursor.fetchone()

    await cancelled(run)
    assert await usable(conn)


async def test_a_statement_sent_into_a_pipeline_ends_when_the_body_is_cancelled(conn, observer):
    pid, conn.grace = conn.info.backend_pid, 600
    with trio.fail_after(60):  # less than the grace: the server was told to stop
        with trio.CancelScope() as scope:
            async with conn.pipeline():
                await conn.execute("select pg_sleep(60)")
                conn.pgconn.send_flush_request()
                conn.pgconn.flush()
                await observer.until_active(pid)
                scope.cancel()
                await trio.lowlevel.checkpoint()
    assert scope.cancelled_caught
    await observer.until_not_active(pid)
    assert await usable(conn)


async def test_a_transaction_inside_a_pipeline_commits(conn):
    await conn.execute("create temp table t (a int)")
    async with conn.pipeline(), conn.transaction():
        for number in range(100):
            await conn.execute("insert into t values (%s)", (number,))
    assert await one(conn, "select count(*) from t") == 100


async def test_a_transaction_inside_a_pipeline_leaves_no_pipeline_when_cancelled(conn, cancelled):
    async def run():
        async with conn.pipeline(), conn.transaction():
            cursor = await conn.execute("select pg_sleep(60)")
            await cursor.fetchone()

    await cancelled(run)
    assert conn.closed or await usable(conn)


async def test_two_tasks_may_be_in_the_pipeline_of_one_connection(conn):
    async def run(opened: trio.Event, may_leave: trio.Event):
        async with conn.pipeline():
            await conn.execute("select 1")
            opened.set()
            await may_leave.wait()

    first, second, done = trio.Event(), trio.Event(), trio.Event()
    done.set()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run, first, second)
        await first.wait()
        nursery.start_soon(run, second, done)
    assert await usable(conn)


async def test_a_connection_left_in_pipeline_mode_is_closed(conn):
    """psycopg counts nested pipelines; should it count one too many, the mode would never end."""
    async with conn.pipeline() as pipeline:
        pipeline.level += 1
    assert conn.closed
