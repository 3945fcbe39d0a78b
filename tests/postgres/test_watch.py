"""Whoever waits for what will never come is told; whoever the server works for is left alone."""

import os
import signal
import socket
import subprocess
import tempfile
from contextlib import aclosing
from pathlib import Path

import attrs
import psycopg
import pytest
import trio

from flowstore.postgres import Connection, Pool
from flowstore.postgres._binaries import binaries_for
from flowstore.postgres._cluster import (
    DATABASE,
    ROLE,
    Home,
    command_line,
    create_data,
    make_places,
    server_user,
)
from flowstore.postgres._connect import TIME_LIMITS, with_time_limits
from flowstore.postgres._forsaken import Ours, Theirs, is_forsaken
from flowstore.postgres._supervisor import identity

LONG = 4.0
"""Seconds: longer than a silence that is given up."""
PATIENCE = 60.0
"""Seconds in which a silence is given up, on however busy a machine."""
LARGE = "x" * 20_000_000
"""More than a socket takes while nobody reads it."""


async def test_a_statement_that_the_server_never_hears_of_is_given_up(tcp_dsn, relay):
    async with Pool.open(tcp_dsn) as pool, pool.connection():
        async with pool.connection():
            pass
        assert pool.spare == 1
        async with pool.connection() as conn:
            relay.mute()
            with (
                pytest.raises(psycopg.OperationalError, match="the server owes none"),
                trio.fail_after(PATIENCE),
            ):
                await conn.execute("select 1")
            assert conn.closed
        assert pool.spare == 0


async def test_its_backend_is_ended(tcp_dsn, relay, observer):
    """The answer is lost, and the transaction would stay open with its locks."""
    async with Pool.open(tcp_dsn) as pool, pool.connection() as conn:
        pid = conn.info.backend_pid
        await conn.execute("begin")
        await conn.execute("select pg_advisory_xact_lock(7301)")
        relay.mute()
        with pytest.raises(psycopg.OperationalError), trio.fail_after(PATIENCE):
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
        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(unlock)
                nursery.start_soon(run, f"select pg_sleep({LONG})")
                nursery.start_soon(run, "select pg_advisory_lock(7302), pg_advisory_unlock(7302)")
                nursery.start_soon(copy)
                nursery.start_soon(listen)
                nursery.start_soon(think)
    assert len(done) == 5


# -- a server that lets nobody run ---------------------------------------------------------------


@pytest.fixture
async def server_on_tcp(unused_port):
    """A server that is spoken to over TCP, with nothing in between."""
    with tempfile.TemporaryDirectory(prefix="flowstore-tests-") as path:
        Path(path).chmod(0o755)  # noqa: ASYNC240 - the server has a user of its own, where we are root
        home, user = Home(Path(path)), server_user()
        make_places(home, user)
        binaries = await binaries_for(home.data)
        await create_data(home, binaries, user)
        command = [
            *command_line(home, binaries, {"fsync": False}),
            "-c", "listen_addresses=127.0.0.1", "-c", f"port={unused_port}",
        ]  # fmt: skip
        process = await trio.lowlevel.open_process(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **identity(user)
        )
        try:
            dsn = f"host=127.0.0.1 port={unused_port} user={ROLE} dbname={DATABASE}"
            with trio.fail_after(PATIENCE):
                while not await listens(dsn):  # noqa: ASYNC110 - it is another process
                    await trio.sleep(0.05)
            yield dsn
        finally:
            process.send_signal(signal.SIGQUIT)
            await process.wait()


@pytest.fixture
def unused_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


async def listens(dsn):
    try:
        async with await Connection.connect(dsn):
            return True
    except psycopg.OperationalError:
        return False


async def check_that_who_is_not_let_run_is_left_alone(dsn, freeze, text):
    """It answers as soon as it is let run, and what others hold is spared too."""

    async def execute():
        cursor = await conn.execute("select length(%s::text)", (text,))
        answers.extend(await cursor.fetchall())

    answers = []
    async with Pool.open(dsn) as pool, pool.connection() as conn:
        async with pool.connection():
            pass
        freeze(pid := conn.info.backend_pid)
        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(execute)
                await trio.sleep(LONG)
                assert answers == []
                os.kill(pid, signal.SIGCONT)
        assert pool.spare == 1
    assert answers == [(len(text),)]


@pytest.mark.parametrize("text", ["small", LARGE], ids=["small", "large"])
async def test_who_has_not_read_a_statement_yet_is_left_alone(pg_dsn, freeze, text):
    await check_that_who_is_not_let_run_is_left_alone(pg_dsn, freeze, text)


@pytest.mark.parametrize("text", ["small", LARGE], ids=["small", "large"])
async def test_so_is_who_has_not_read_one_over_tcp(server_on_tcp, freeze, text):
    await check_that_who_is_not_let_run_is_left_alone(server_on_tcp, freeze, text)


# -- deciding ------------------------------------------------------------------------------------

US, SERVER, PROXY = ("10.0.0.1", 40000), ("10.0.0.9", 5432), ("10.0.0.5", 6000)
WAITS = Theirs(waits_for_us=True, idle_for=3.1, here=US, there=SERVER)
"""The server has been idle since before a silence of three seconds."""
SENT = Ours(here=US, there=SERVER)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (SENT, attrs.evolve(WAITS, waits_for_us=False)),
        (SENT, WAITS),
        (SENT, attrs.evolve(WAITS, idle_for=None)),  # reads what is large, or may not tell
        (Ours(unread=1), Theirs(waits_for_us=True, idle_for=3.1)),
        (Ours(unread=1), Theirs(waits_for_us=True, idle_for=2.9)),
        (Ours(), Theirs(waits_for_us=True, idle_for=3.1)),  # a socket of which nobody can tell
        (Ours(unread=0), Theirs(waits_for_us=False)),
    ],
)
def test_an_answer_may_still_come(ours, theirs):
    assert not is_forsaken(ours, theirs, silence=3.0)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (SENT, None),
        (Ours(unread=1), None),
        (SENT, attrs.evolve(WAITS, idle_for=2.9)),  # it has answered since
        (attrs.evolve(SENT, is_resent=True), WAITS),
        (attrs.evolve(SENT, there=PROXY), WAITS),
        (SENT, attrs.evolve(WAITS, here=PROXY)),
        (SENT, Theirs(waits_for_us=True, idle_for=3.1)),  # a proxy beside the server
        (Ours(unread=0), Theirs(waits_for_us=True, idle_for=3.1)),
        (Ours(unread=0), WAITS),
        (Ours(), Theirs(waits_for_us=True, idle_for=2.9)),
    ],
)
def test_an_answer_will_not_come(ours, theirs):
    assert is_forsaken(ours, theirs, silence=3.0)


def test_time_limits_are_set_where_nobody_gives_them(monkeypatch):
    assert with_time_limits({"host": "there"}) == {"host": "there", **TIME_LIMITS}
    given = {"connect_timeout": "60", "tcp_user_timeout": "0"}
    assert with_time_limits(given) == {**TIME_LIMITS, **given}
    monkeypatch.setenv("PGCONNECT_TIMEOUT", "7")
    assert "connect_timeout" not in with_time_limits({})
    assert with_time_limits({"service": "payroll"}) == {"service": "payroll"}
