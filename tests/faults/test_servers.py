"""A server that restarts, ends sessions, is full or busy: the daemon goes on by itself."""

import logging
import os
import random
import signal
import subprocess
import time
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import attrs
import psycopg
import pytest
import trio
from psycopg import sql

from flowstore import DatabaseError, DatabaseUnavailableError, open_store
from flowstore.postgres import Connection
from flowstore.postgres._binaries import binaries_for
from flowstore.postgres._cluster import command_line, server_user

LOG = logging.getLogger("faults")
HOW = {"immediate": signal.SIGQUIT, "fast": signal.SIGINT}


async def execute(dsn, *statements):
    async with await Connection.connect(dsn) as connection:
        for statement in statements:
            cursor = await connection.execute(statement)
        return await cursor.fetchall() if cursor.description else []


# -- restarts ------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", HOW)
async def test_the_server_restarts_during_appends(how, victim, server, soak):
    dice = random.Random(how)
    await victim.prepare(server.dsn)
    took = []
    async with victim.scene(server.dsn, server.dsn) as at:
        for _ in range(soak(2, 20)):
            await trio.sleep(dice.uniform(0.1, 0.6))
            await server.stop(HOW[how])
            await trio.sleep(dice.uniform(0, 0.5))
            await server.start()
            took.append(await at.goes_on())
        verdict = await at.end()
    LOG.info("%s: %s restarts, longest standstill %.1f s: %s", how, len(took), max(took), verdict)
    verdict.check()


@pytest.mark.parametrize("how", HOW)
async def test_the_server_restarts_while_the_daemon_catches_up(how, victim, server, soak):
    """A running shard goes on by itself; so does `catch_up`, or it tells its caller."""
    dice = random.Random(how)
    await victim.prepare(server.dsn)
    rounds = refused = 0
    async with victim.opened(server.dsn) as store:
        told = []
        writer = victim.Writer("writer", dice, told.extend)
        for _ in range(soak(1, 5)):
            await append_much(store, writer)
            async with store.build_projection_daemon(victim.SETTINGS) as daemon:
                await daemon.start_all()
                for _ in range(3):
                    await trio.sleep(dice.uniform(0.05, 0.2))
                    await restart(server, how)
                    rounds += 1
                await daemon.wait_for_non_stale_results(timeout=victim.PATIENCE)
            await append_much(store, writer)
            async with store.build_projection_daemon(victim.SETTINGS) as daemon:
                refused += await catch_up(daemon, server, how, dice)
                rounds += 3
    verdict = await victim.judge(server.dsn, told)
    LOG.info("%s: %s restarts in a catch-up, told %s times: %s", how, rounds, refused, verdict)
    verdict.check()


async def append_much(store, writer):
    writer.poison = 0
    async with store.session() as session:
        numbers = [
            writer.queue(session, f"{len(writer.name)} {time.monotonic_ns()} {n}")
            for n in range(100)
        ]
        await session.save_changes()
    for each in numbers:
        writer.told(each)


async def restart(server, how):
    await server.stop(HOW[how])
    await server.start()


async def catch_up(daemon, server, how, dice):
    """Catch up with a server that restarts three times; tells how often the caller was told."""
    told = 0

    async def insist():
        nonlocal told
        while True:
            try:
                await daemon.catch_up()
            except DatabaseUnavailableError:
                told += 1
                await trio.sleep(0.05)
            else:
                return

    with trio.fail_after(300):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(insist)
            for _ in range(3):
                await trio.sleep(dice.uniform(0.02, 0.1))
                await restart(server, how)
    return told


# -- sessions that are ended ---------------------------------------------------------------------

TERMINATE = """
select pid, pg_terminate_backend(pid) from (
    select pid from pg_stat_activity
    where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'
    order by random() limit %s
) as victims"""


async def test_backends_are_ended_at_random(victim, dsn, soak):
    dice = random.Random(13)
    await victim.prepare(dsn)
    ended = 0
    async with victim.scene(dsn, dsn) as at, await Connection.connect(dsn) as other:
        while ended < soak(60, 1000):
            await trio.sleep(dice.uniform(0, 0.1))
            cursor = await other.execute(TERMINATE, (dice.randint(1, 3),))
            ended += len(await cursor.fetchall())
        took = await at.goes_on()
        verdict = await at.end()
    LOG.info("%s backends ended, standstill %.1f s: %s", ended, took, verdict)
    verdict.check()


# -- a full disk ---------------------------------------------------------------------------------

SIZE = 4 << 20


@contextmanager
def small_disk(home):
    """Mount a disk that is soon full; None where nobody may."""
    place = Path(home) / "small"
    place.mkdir(mode=0o777)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=777", "tmpfs", place],
        check=False, capture_output=True,
    )  # fmt: skip
    if mounted.returncode:
        yield None
        return
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def postgres_owns(place):
    user = server_user()
    if user is not None:
        os.chown(place, *user)


class Disk:
    """A disk of 4 MiB for tables, which can be filled."""

    def __init__(self, place):
        self.ballast = place / "ballast"
        self.space = place / "space"
        self.space.mkdir()
        postgres_owns(self.space)

    async def take(self, dsn):
        """Move tables onto it: a log that can't be written would end the whole server."""
        await execute(
            dsn,
            sql.SQL("create tablespace small location {}").format(str(self.space)),
            "alter table faults.events set tablespace small",
            "alter table faults.seen set tablespace small",
            "alter table faults.doc_total set tablespace small",
        )

    async def fill(self, _):
        with self.ballast.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(4096))

    async def make_room(self, _):
        self.ballast.unlink()


class Triggers:
    """Raise what the server would, where no disk can be mounted."""

    async def take(self, dsn):
        await execute(
            dsn,
            "create function faults.fail() returns trigger language plpgsql as $$"
            " begin raise exception 'no space left on device' using errcode = '53100'; end $$",
        )

    async def fill(self, dsn):
        for table in ("events", "seen", "doc_total"):
            await execute(
                dsn,
                f"create trigger is_full before insert or update on faults.{table}"
                " for each statement execute function faults.fail()",
            )

    async def make_room(self, dsn):
        for table in ("events", "seen", "doc_total"):
            await execute(dsn, f"drop trigger is_full on faults.{table}")


async def test_the_disk_is_full(victim, server, home, soak):
    await victim.prepare(server.dsn)
    took = []
    with small_disk(home) as place:
        disk = Triggers() if place is None else Disk(place)
        await disk.take(server.dsn)
        async with victim.scene(server.dsn, server.dsn) as at:
            for _ in range(soak(2, 10)):
                await disk.fill(server.dsn)
                with trio.fail_after(
                    victim.PATIENCE
                ):  # pages that are there have room for some more
                    while not at.is_full():  # noqa: ASYNC110 - writers find out
                        await trio.sleep(0.02)
                await trio.sleep(0.5)
                await disk.make_room(server.dsn)
                took.append(await at.goes_on())
            verdict = await at.end()
        LOG.info(
            "%s: full %s times, longest standstill %.1f s: %s",
            type(disk).__name__, len(took), max(took), verdict,
        )  # fmt: skip
        verdict.check()
        await server.stop(signal.SIGINT)  # it has files open there
    await server.start()


# -- locks ---------------------------------------------------------------------------------------

LOCKED = ("events", "streams", "progress", "seen", "doc_total", "dead_letters")


async def test_tables_are_locked_for_seconds(victim, dsn, soak):
    """Whoever waits for a lock waits; nothing is given up."""
    dice = random.Random(17)
    await victim.prepare(dsn)
    took = []
    async with victim.scene(dsn, dsn) as at:
        refused = at.refused()
        for table in LOCKED * soak(1, 3):
            async with await Connection.connect(dsn, autocommit=False) as other:
                await other.execute(f"lock table faults.{table} in access exclusive mode")
                await trio.sleep(dice.uniform(0.2, soak(0.7, 6)))
            took.append(await at.goes_on())
        assert at.refused() == refused
        verdict = await at.end()
    LOG.info("locked %s times, longest standstill %.1f s: %s", len(took), max(took), verdict)
    verdict.check()


async def test_a_lock_that_is_held_for_long_is_told(victim, dsn):
    await victim.prepare(dsn)
    async with victim.scene(dsn, dsn) as at:
        async with await Connection.connect(dsn, autocommit=False) as other:
            await other.execute("lock table faults.seen in access exclusive mode")
            await at.tells("recorder 7", "applying the page")
        await at.goes_on()
        (await at.end()).check()


# -- a replica ------------------------------------------------------------------------------------


@asynccontextmanager
async def as_replica(server):
    """Start a server that was stopped as one that waits for another's log."""
    home = server.lease.home
    (home.data / "standby.signal").touch()
    user = server_user()
    if user is not None:
        os.chown(home.data / "standby.signal", *user)
    command = command_line(home, await binaries_for(home.data), {"fsync": False})
    changed = {} if user is None else {"user": user[0], "group": user[1], "extra_groups": []}
    process = await trio.lowlevel.open_process(
        command, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **changed
    )
    try:
        with trio.fail_after(60):
            while True:
                with suppress(psycopg.OperationalError):
                    async with await Connection.connect(server.dsn) as connection:
                        cursor = await connection.execute("select pg_is_in_recovery()")
                        assert await cursor.fetchone() == (True,)
                        break
                await trio.sleep(0.05)
        yield
    finally:
        process.send_signal(signal.SIGQUIT)
        await process.wait()


async def test_a_replica_is_refused_the_mark_and_a_daemon_says_so(victim, server):
    """What it shows of appends under way is nothing to go by."""
    await victim.prepare(server.dsn)
    await server.stop(signal.SIGINT)
    options = attrs.evolve(victim.make_options(), auto_create="none")
    async with as_replica(server), open_store(server.dsn, options) as store:
        with pytest.raises(
            DatabaseError, match="can't be told on a replica: connect to the primary"
        ):
            await store.high_water()
        async with store.build_projection_daemon(victim.SETTINGS) as daemon:
            await daemon.start_all()
            with trio.fail_after(victim.PATIENCE):
                while not all(each.reason for each in daemon.statuses()):  # noqa: ASYNC110 - as a user looks
                    await trio.sleep(0.02)
            for status in daemon.statuses():
                assert "replica" in status.reason or "read-only" in status.reason, status
