"""Transactions: what commits, what rolls back, and what is said when nobody can know."""

import psycopg
import pytest
import trio
from psycopg import pq

from flowstore.postgres import Connection

IDLE = pq.TransactionStatus.IDLE


@pytest.fixture
async def table(conn):
    await conn.execute("create temp table t (a int)")


@pytest.fixture
async def slow_commit(conn, table):
    """COMMIT takes as long as somebody else keeps the advisory lock 7200."""
    await conn.execute(
        "create function pg_temp.wait() returns trigger language plpgsql as"
        " $$ begin perform pg_advisory_xact_lock(7200); return null; end $$"
    )
    await conn.execute(
        "create constraint trigger wait after insert on t deferrable initially deferred"
        " for each row execute function pg_temp.wait()"
    )


async def add(conn, number):
    await conn.execute("insert into t values (%s)", (number,))


async def fail_after_adding(conn, number):
    async with conn.transaction():
        await add(conn, number)
        raise KeyError


async def stored(conn):
    return [row[0] for row in await (await conn.execute("select a from t order by a")).fetchall()]


async def rolled_back(conn) -> bool:
    return conn.info.transaction_status == IDLE and await stored(conn) == []


async def test_a_block_that_ends_commits(conn, table):
    async with conn.transaction():
        await add(conn, 1)
    assert await stored(conn) == [1]


async def test_a_block_left_by_an_exception_rolls_back(conn, table):
    with pytest.raises(KeyError):
        await fail_after_adding(conn, 1)
    assert await rolled_back(conn)


async def test_an_inner_block_rolls_back_alone(conn, table):
    async with conn.transaction():
        await add(conn, 1)
        with pytest.raises(KeyError):
            await fail_after_adding(conn, 2)
        async with conn.transaction("named"):
            await add(conn, 3)
        async with conn.transaction(force_rollback=True):
            await add(conn, 4)
    assert await stored(conn) == [1, 3]


async def test_rollback_ends_its_block_quietly(conn, table):
    async with conn.transaction() as tx:
        await add(conn, 1)
        raise psycopg.Rollback(tx)
    assert await rolled_back(conn)


async def test_cancelled_in_a_statement_it_rolls_back(conn, table, cancelled):
    async def run():
        async with conn.transaction():
            await add(conn, 1)
            await conn.execute("select pg_sleep(60)")

    await cancelled(run)
    assert await rolled_back(conn)


async def test_cancelled_in_the_body_of_a_savepoint_all_rolls_back(conn, table):
    with trio.CancelScope() as scope:
        async with conn.transaction():
            await add(conn, 1)
            async with conn.transaction():
                await add(conn, 2)
                scope.cancel()
                await trio.lowlevel.checkpoint()
    assert scope.cancelled_caught
    assert await rolled_back(conn)


async def test_cancelled_before_commit_was_sent_it_rolls_back(conn, table):
    with trio.CancelScope() as scope:
        async with conn.transaction():
            await add(conn, 1)
            scope.cancel()
    assert scope.cancelled_caught
    assert await rolled_back(conn)


async def test_no_transaction_begins_in_a_cancelled_scope(conn):
    with trio.CancelScope() as scope:
        scope.cancel()
        async with conn.transaction():
            pytest.fail("entered")
    assert conn.info.transaction_status == IDLE


async def test_a_commit_that_was_sent_is_awaited_though_cancelled(conn, observer, slow_commit):
    pid = conn.info.backend_pid
    await observer.value("select pg_advisory_lock(7200)")

    async def cancel_during_commit(scope):
        await observer.until_waiting(pid, "advisory")
        scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        await observer.value("select pg_advisory_unlock(7200)")

    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            nursery.start_soon(cancel_during_commit, scope)
            async with conn.transaction():
                await add(conn, 1)
            after = "reached"
    assert after == "reached"
    assert await stored(conn) == [1]


async def test_a_slow_commit_that_nobody_cancels_is_awaited_beyond_the_grace(
    conn, observer, slow_commit
):
    conn.grace = 0.01
    await observer.value("select pg_advisory_lock(7200)")

    async def let_go():
        await observer.until_waiting(conn.info.backend_pid, "advisory")
        await trio.sleep(5 * conn.grace)
        await observer.value("select pg_advisory_unlock(7200)")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(let_go)
        async with conn.transaction():
            await add(conn, 1)
    assert await stored(conn) == [1]


@pytest.mark.parametrize("explicitly", [False, True], ids=["block", "commit()"])
async def test_no_answer_to_a_cancelled_commit_is_an_unknown_outcome(
    conn, observer, slow_commit, explicitly
):
    conn.grace = 0.1
    pid = conn.info.backend_pid
    await observer.value("select pg_advisory_lock(7200)")

    async def cancel_during_commit(scope):
        await observer.until_waiting(pid, "advisory")
        scope.cancel()

    async def run():
        if not explicitly:
            async with conn.transaction():
                await add(conn, 1)
        else:
            await conn.set_autocommit(False)
            await add(conn, 1)
            await conn.commit()

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            with trio.CancelScope() as scope:
                nursery.start_soon(cancel_during_commit, scope)
                with pytest.raises(psycopg.OperationalError, match="unknown"):
                    await run()
    assert conn.closed
    await observer.value("select pg_advisory_unlock(7200)")


async def test_a_rollback_that_is_not_answered_closes_the_connection(conn, freeze):
    conn.grace = 0.1
    with trio.fail_after(60), trio.CancelScope() as scope:
        async with conn.transaction():
            await conn.execute("select 1")
            freeze(conn.info.backend_pid)
            scope.cancel()
            await trio.lowlevel.checkpoint()
    assert scope.cancelled_caught
    assert conn.closed


async def test_a_block_cancelled_while_another_task_has_the_connection_closes_it(conn, observer):
    """Nothing may be committed, and the ROLLBACK can't wait for a stranger's statement."""

    async def occupy():
        with pytest.raises(psycopg.OperationalError):
            await conn.execute("select pg_sleep(60)")

    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            async with conn.transaction():
                await conn.execute("select 1")
                nursery.start_soon(occupy)
                await observer.until_active(conn.info.backend_pid)
                scope.cancel()
                await trio.lowlevel.checkpoint()
    assert scope.cancelled_caught
    assert conn.closed


async def test_a_connections_block_left_by_a_cancellation_commits_nothing(pg_dsn, schema, observer):
    with trio.CancelScope() as scope:
        async with await Connection.connect(pg_dsn, autocommit=False) as conn:
            await conn.execute(f"create schema {schema}")
            scope.cancel()
            await trio.lowlevel.checkpoint()
    assert conn.closed
    await observer.until("select to_regnamespace(%s) is null", schema)


async def test_explicit_commit_and_rollback_end_the_transaction(pg_dsn):
    async with await Connection.connect(pg_dsn, autocommit=False) as conn:
        await conn.execute("create temp table t (a int)")
        await conn.commit()
        await add(conn, 1)
        await conn.rollback()
        assert await stored(conn) == []
