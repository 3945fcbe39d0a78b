"""Whoever waits for what will never come is told; whoever the server works for is left alone."""

from contextlib import aclosing

import psycopg
import pytest
import trio

from flowstore.postgres import Pool
from flowstore.postgres._connect import TIME_LIMITS, with_time_limits

LONG = 4.0
"""Seconds: longer than a silence that is given up."""


async def test_a_statement_that_the_server_never_hears_of_is_given_up(pg_dsn, freeze, observer):
    async with Pool.open(pg_dsn) as pool:
        async with pool.connection():
            async with pool.connection():
                pass
            assert pool.spare == 1
            async with pool.connection() as conn:
                freeze(pid := conn.info.backend_pid)
                with (
                    pytest.raises(psycopg.OperationalError, match="the server owes none"),
                    trio.fail_after(10),
                ):
                    await conn.execute("select 1")
                assert conn.closed
            assert pool.spare == 0
        assert await observer.value("select count(*) from pg_stat_activity where pid = %s", pid)


async def test_its_backend_is_ended(tcp_dsn, relay, observer):
    """The answer is lost, and the transaction would stay open with its locks."""
    async with Pool.open(tcp_dsn) as pool, pool.connection() as conn:
        pid = conn.info.backend_pid
        await conn.execute("begin")
        await conn.execute("select pg_advisory_xact_lock(7301)")
        relay.mute()
        with pytest.raises(psycopg.OperationalError), trio.fail_after(10):
            await conn.execute("select 1")
        await observer.until("select count(*) = 0 from pg_stat_activity where pid = %s", pid)


async def test_what_takes_long_is_left_alone(pg_dsn, observer):
    await observer.value("select pg_advisory_lock(7302)")

    async def unlock():
        await trio.sleep(LONG)
        await observer.value("select pg_advisory_unlock(7302)")

    async def run(statement):
        async with pool.connection() as conn:
            await conn.execute(statement)
            done.append(statement)

    async def copy():
        async with pool.connection() as conn, conn.cursor() as cursor:
            await conn.execute("create temporary table copied (id int)")
            async with cursor.copy("copy copied from stdin") as into:
                await into.write_row([1])
                await trio.sleep(LONG)
                await into.write_row([2])
            done.append("copy")

    async def listen():
        async with pool.connection() as conn:
            await conn.execute("listen nobody")
            async with aclosing(conn.notifies(timeout=LONG)) as notifications:
                async for _ in notifications:
                    raise AssertionError
            await conn.execute("unlisten nobody")
            done.append("listen")

    async def think():
        async with pool.connection() as conn, conn.transaction():
            await conn.execute("select 1")
            await trio.sleep(LONG)
            await conn.execute("select 1")
            done.append("think")

    done = []
    async with Pool.open(pg_dsn) as pool:
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(unlock)
                nursery.start_soon(run, f"select pg_sleep({LONG})")
                nursery.start_soon(run, "select pg_advisory_lock(7302), pg_advisory_unlock(7302)")
                nursery.start_soon(copy)
                nursery.start_soon(listen)
                nursery.start_soon(think)
    assert len(done) == 5


def test_time_limits_are_set_where_nobody_gives_them(monkeypatch):
    assert with_time_limits({"host": "there"}) == {"host": "there", **TIME_LIMITS}
    given = {"connect_timeout": "60", "tcp_user_timeout": "0"}
    assert with_time_limits(given) == {**TIME_LIMITS, **given}
    monkeypatch.setenv("PGCONNECT_TIMEOUT", "7")
    assert "connect_timeout" not in with_time_limits({})
    assert with_time_limits({"service": "payroll"}) == {"service": "payroll"}
