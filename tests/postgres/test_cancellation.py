"""Cancelling statements: they end on the server too, and the connection stays usable or closes."""

from contextlib import aclosing
from functools import partial

import psycopg
import pytest
import trio
from psycopg import generators, pq

from flowstore.postgres import Connection

IDLE = pq.TransactionStatus.IDLE


async def one(conn, query, *params):
    return (await (await conn.execute(query, params)).fetchone())[0]


async def usable(conn) -> bool:
    return (
        not conn.closed
        and conn.info.transaction_status == IDLE
        and await one(conn, "select 42") == 42
    )


async def test_a_cancelled_statement_ends_on_the_server_and_leaves_the_connection_usable(
    conn, cancelled
):
    await cancelled(partial(conn.execute, "select pg_sleep(60)"))
    assert await usable(conn)


def one_after_the_other(conn, *queries):
    """Send each once the one before is over, however that was: as PREPARE and what it is for."""
    for query in queries:
        conn.pgconn.send_query(query)
        yield from generators.execute(conn.pgconn)


async def test_so_does_what_is_sent_after_the_cancelled_one(conn, cancelled):
    async def run():
        async with conn.lock:
            await conn.wait(
                one_after_the_other(conn, b"select pg_sleep(60)", b"select pg_sleep(61)")
            )

    await cancelled(run)
    assert await usable(conn)


async def test_a_wait_for_a_lock_can_be_cancelled(conn, observer, cancelled):
    await observer.value("select pg_advisory_lock(7100)")
    await cancelled(partial(conn.execute, "select pg_advisory_lock(7100)"))
    assert await usable(conn)


async def test_a_timeout_around_a_statement_is_trios_own_error(conn):
    with pytest.raises(trio.TooSlowError), trio.fail_after(0.01):
        await conn.execute("select pg_sleep(60)")
    assert await usable(conn)


async def test_a_cancellation_never_hits_the_next_statement(conn):
    for number in range(60):
        with trio.move_on_after(0.001 * (number % 4)):
            await conn.execute("select pg_sleep(0.002)")
        assert await one(conn, "select %s::int", number) == number


async def test_no_statement_begins_in_a_cancelled_scope(conn, observer):
    await conn.execute("select 'first'")
    with trio.CancelScope() as scope:
        scope.cancel()
        await conn.execute("select 'second'")
    assert scope.cancelled_caught
    last = "select query from pg_stat_activity where pid = %s"
    assert await observer.value(last, conn.info.backend_pid) == "select 'first'"


async def test_cancelling_a_task_that_waits_its_turn_leaves_the_running_statement_alone(
    conn, observer
):
    await observer.value("select pg_advisory_lock(7100)")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(conn.execute, "select pg_advisory_lock(7100)")
        await observer.until_active(conn.info.backend_pid)
        with trio.CancelScope() as scope:
            scope.cancel()
            await conn.execute("select 1")
        assert scope.cancelled_caught
        await observer.value("select pg_advisory_unlock(7100)")
    assert await one(conn, "select pg_advisory_unlock(7100)")


async def test_executemany_can_be_cancelled(conn, cancelled):
    rows = [(0.05,)] * 1000
    await cancelled(partial(conn.cursor().executemany, "select pg_sleep(%s)", rows))
    assert not conn.in_pipeline
    assert await usable(conn)


async def test_a_stream_cancelled_while_waiting_ends_its_statement(conn, cancelled):
    query = "select g, case when g > 5 then pg_sleep(60) end from generate_series(1, 1000) g"

    async def read():
        async for _ in conn.cursor().stream(query):
            pass

    await cancelled(read)
    assert await usable(conn)


async def test_a_stream_cancelled_between_rows_ends_its_statement(conn):
    stream = conn.cursor().stream("select generate_series(1, 100000000)")
    with trio.CancelScope() as scope:
        async with aclosing(stream) as rows:
            async for row in rows:
                if row == (10,):
                    scope.cancel()
                    await trio.lowlevel.checkpoint()
    assert scope.cancelled_caught
    assert await usable(conn)


async def test_a_server_cursor_left_by_a_cancellation_is_closed(conn):
    with trio.CancelScope() as scope:
        async with conn.cursor("part", withhold=True) as cursor:
            await cursor.execute("select generate_series(1, 10)")
            scope.cancel()
            await trio.lowlevel.checkpoint()
    assert scope.cancelled_caught
    assert await one(conn, "select count(*) from pg_cursors where name = 'part'") == 0


async def test_a_request_to_cancel_is_sent_from_a_cancelled_scope_too(conn, observer):
    ended = []

    async def run():
        with pytest.raises(psycopg.errors.QueryCanceled):
            await conn.execute("select pg_sleep(60)")
        ended.append(True)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await observer.until_active(conn.info.backend_pid)
        with trio.CancelScope() as scope:
            scope.cancel()
            await conn.cancel_safe()
    assert ended == [True]


async def test_a_frozen_server_holds_a_cancelled_task_for_no_longer_than_the_grace(
    conn, observer, cancelled, freeze
):
    conn.grace = 0.2
    pid = conn.info.backend_pid
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            with trio.CancelScope() as scope:

                @nursery.start_soon
                async def _():
                    await observer.until_active(pid)
                    freeze(pid)
                    scope.cancel()

                await conn.execute("select pg_sleep(60)")
    assert scope.cancelled_caught
    assert conn.closed


async def test_a_network_that_swallows_the_request_to_cancel_stops_nobody_else(
    tcp_dsn, relay, observer
):
    conn = await Connection.connect(tcp_dsn)
    conn.grace = 1.0
    turns = 0

    async def count_turns():
        nonlocal turns
        while not conn.closed:
            await trio.sleep(0.01)
            turns += 1

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            with trio.CancelScope() as scope:
                relay.silent = True
                nursery.start_soon(observer.cancel_when_active, conn.info.backend_pid, scope)
                nursery.start_soon(count_turns)
                await conn.execute("select pg_sleep(60)")
    assert conn.closed
    assert relay.accepted == 2
    assert turns > 5


async def test_cancelling_while_a_frozen_server_reads_nothing_is_bounded_too(conn, freeze):
    conn.grace = 0.2
    freeze(conn.info.backend_pid)
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            with trio.CancelScope() as scope:

                @nursery.start_soon
                async def _():
                    await trio.testing.wait_all_tasks_blocked(0.05)
                    scope.cancel()

                await conn.execute("select length(%s)", ("x" * (20 << 20),))
    assert scope.cancelled_caught
    assert conn.closed


@pytest.mark.parametrize("size", [1, 20 << 20], ids=["reading", "writing"])
async def test_closing_ends_the_wait_of_another_task(conn, freeze, size):
    freeze(conn.info.backend_pid)
    failures = []

    async def run():
        with pytest.raises(psycopg.OperationalError) as caught:
            await conn.execute("select length(%s)", ("x" * size,))
        failures.append(caught.value)

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            await trio.testing.wait_all_tasks_blocked(0.05)
            await conn.close()
    assert len(failures) == 1
    assert conn.closed


async def test_a_terminated_backend_is_an_operational_error_and_closes(conn, observer):
    async def terminate():
        await observer.until_active(conn.info.backend_pid)
        await observer.value("select pg_terminate_backend(%s)", conn.info.backend_pid)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(terminate)
        with pytest.raises(psycopg.OperationalError):
            await conn.execute("select pg_sleep(60)")
    assert conn.closed
