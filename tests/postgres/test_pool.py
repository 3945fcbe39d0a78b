"""The pool: how many, which one, in which state, and until when."""

import psycopg
import pytest
import trio
from psycopg.conninfo import make_conninfo

from flowstore.errors import DatabaseUnavailableError
from flowstore.postgres import Pool, PoolSettings


def pid_of(conn):
    return conn.info.backend_pid


async def lend_and_tell(pool):
    async with pool.connection() as conn:
        return pid_of(conn)


async def test_no_more_than_max_size_are_lent_at_once(pg_dsn):
    lent = most = 0

    async def borrow(pool):
        nonlocal lent, most
        async with pool.connection() as conn:
            lent += 1
            most = max(most, lent)
            await conn.execute("select pg_sleep(0.001)")
            lent -= 1

    async with Pool.open(pg_dsn, max_size=3) as pool:
        async with trio.open_nursery() as nursery:
            for _ in range(30):
                nursery.start_soon(borrow, pool)
        assert pool.spare == 3
    assert most == 3


async def test_who_waits_is_served_in_order(pg_dsn):
    served = []

    async def borrow(pool, number):
        async with pool.connection():
            served.append(number)

    async with (
        Pool.open(pg_dsn, max_size=1) as pool,
        trio.open_nursery() as nursery,
        pool.connection(),
    ):
        for number in range(5):
            nursery.start_soon(borrow, pool, number)
            await trio.testing.wait_all_tasks_blocked()
    assert served == list(range(5))


async def test_the_connection_used_last_is_lent_first(pg_dsn):
    async with Pool.open(pg_dsn) as pool:
        async with pool.connection() as first, pool.connection() as second:
            pids = pid_of(first), pid_of(second)
        assert await lend_and_tell(pool) == pids[0]  # the outer block was left last


async def test_a_task_may_borrow_several(pg_dsn):
    async with (
        Pool.open(pg_dsn, max_size=2) as pool,
        pool.connection() as first,
        pool.connection() as second,
    ):
        assert pid_of(first) != pid_of(second)


async def test_waiting_for_a_connection_ends_with_an_error_that_says_why(pg_dsn):
    settings = PoolSettings(acquire_timeout=0.01)
    async with Pool.open(pg_dsn, max_size=1, settings=settings) as pool, pool.connection():
        with pytest.raises(DatabaseUnavailableError, match=r"all 1 connections .* 0.01 s"):
            await lend_and_tell(pool)


async def test_a_closed_pool_lends_nothing(pg_dsn):
    async with Pool.open(pg_dsn) as pool:
        pass
    with pytest.raises(DatabaseUnavailableError, match="closed"):
        await lend_and_tell(pool)


async def test_min_size_connections_are_opened_at_once(pg_dsn):
    async with Pool.open(pg_dsn, min_size=2) as pool:
        assert pool.spare == 2


async def test_a_new_connection_is_configured_before_it_is_lent(pg_dsn):
    async def configure(conn):
        await conn.execute("set search_path = chosen")

    async with Pool.open(pg_dsn, configure=configure) as pool, pool.connection() as conn:
        assert await (await conn.execute("show search_path")).fetchone() == ("chosen",)


async def test_the_bodys_exception_leaves_as_it_is(pg_dsn):
    async def fail():
        async with Pool.open(pg_dsn):
            raise KeyError

    with pytest.raises(KeyError):
        await fail()


async def test_a_server_that_cannot_be_reached_is_psycopgs_error():
    async def use():
        async with Pool.open("host=127.0.0.1 port=1 user=x", min_size=1):
            pytest.fail("opened")

    with pytest.raises(psycopg.OperationalError):
        await use()


async def test_a_cancelled_borrower_takes_nothing_from_the_pool(pg_dsn):
    async with Pool.open(pg_dsn, max_size=2) as pool:
        for number in range(30):
            with trio.move_on_after(0.003 * (number % 4)):
                async with pool.connection() as conn:
                    await conn.execute("select pg_sleep(0.004)")
        assert pool.lent == 0
        async with pool.connection() as conn:
            assert await (await conn.execute("select 1")).fetchone() == (1,)


async def test_a_transaction_left_open_is_rolled_back(pg_dsn):
    async with Pool.open(pg_dsn, max_size=1) as pool:
        async with pool.connection() as conn:
            pid = pid_of(conn)
            await conn.execute("begin")
            await conn.execute("create temp table leak (a int)")
        async with pool.connection() as conn:
            assert pid_of(conn) == pid
            found = await conn.execute("select to_regclass('leak')")
            assert await found.fetchone() == (None,)


async def test_a_transaction_left_open_by_a_cancelled_task_is_rolled_back(pg_dsn):
    async with Pool.open(pg_dsn, max_size=1) as pool:
        with trio.CancelScope() as scope:
            async with pool.connection() as conn:
                pid = pid_of(conn)
                await conn.execute("begin")
                scope.cancel()
                await trio.lowlevel.checkpoint()
        async with pool.connection() as conn:
            assert pid_of(conn) == pid
            assert conn.info.transaction_status == psycopg.pq.TransactionStatus.IDLE


async def test_a_connection_whose_session_was_changed_is_not_lent_again(pg_dsn):
    async with Pool.open(pg_dsn, max_size=1) as pool:
        async with pool.connection() as conn:
            pid = pid_of(conn)
            await conn.set_autocommit(False)
        assert await lend_and_tell(pool) != pid


async def test_a_statement_still_running_when_its_connection_comes_back_ends(pg_dsn, observer):
    async with Pool.open(pg_dsn, max_size=1) as pool:
        async with pool.connection() as conn:
            pid = pid_of(conn)
            conn.pgconn.send_query(b"select pg_sleep(60)")
            conn.pgconn.flush()
            await observer.until_active(pid)
        await observer.until_not_active(pid)
        assert conn.closed


async def test_a_connection_in_pipeline_mode_is_not_lent_again(pg_dsn):
    async with Pool.open(pg_dsn, max_size=1) as pool:
        async with pool.connection() as conn:
            conn.pgconn.enter_pipeline_mode()
        assert conn.closed
        assert pool.spare == 0


async def test_a_connection_the_server_ended_is_replaced_before_it_is_lent(pg_dsn, observer):
    async with Pool.open(pg_dsn, max_size=1) as pool:
        pid = await lend_and_tell(pool)
        await observer.value("select pg_terminate_backend(%s)", pid)
        await observer.until("select count(*) = 0 from pg_stat_activity where pid = %s", pid)
        async with pool.connection() as conn:
            assert pid_of(conn) != pid
            assert await (await conn.execute("select 1")).fetchone() == (1,)


async def test_a_connection_is_asked_whether_it_is_alive_after_idleness(pg_dsn, freeze, conn):
    """A frozen server looks as silent as an idle one."""
    settings = PoolSettings(check_after=0.0)
    async with Pool.open(pg_dsn, max_size=1, settings=settings) as pool:
        async with pool.connection() as borrowed:
            borrowed.grace = 0.05
            pid = pid_of(borrowed)
        freeze(pid)
        with trio.move_on_after(0.1):
            await lend_and_tell(pool)
        assert borrowed.closed
        assert (pool.size, pool.lent) == (0, 0)


async def test_idle_connections_close_down_to_min_size(pg_dsn):
    settings = PoolSettings(max_idle=0.02)
    async with Pool.open(pg_dsn, min_size=1, settings=settings) as pool:
        async with pool.connection(), pool.connection(), pool.connection():
            pass
        with trio.fail_after(60):
            while pool.spare > 1:
                await trio.lowlevel.checkpoint()


async def test_a_connection_is_replaced_at_the_end_of_its_life(pg_dsn):
    async with Pool.open(pg_dsn, settings=PoolSettings(max_lifetime=0.0)) as pool:
        assert await lend_and_tell(pool) != await lend_and_tell(pool)


async def test_a_cancelled_pool_leaves_no_connection_behind(pg_dsn, observer):
    dsn = make_conninfo(pg_dsn, application_name="left")

    async def work(pool):
        while True:
            async with pool.connection() as conn:
                await conn.execute("select pg_sleep(0.001)")

    with trio.move_on_after(0.05):
        async with Pool.open(dsn, max_size=3) as pool, trio.open_nursery() as nursery:
            for _ in range(6):
                nursery.start_soon(work, pool)
    query = "select count(*) = 0 from pg_stat_activity where application_name = 'flowstore: left'"
    await observer.until(query)


def test_a_pool_shows_no_password():
    pool = Pool(
        "host=x password=hidden",
        max_size=1,
        configure=None,
        application_name="flowstore",
        settings=PoolSettings(),
    )
    assert "hidden" not in repr(pool)
