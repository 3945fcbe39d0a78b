"""A daemon takes over from a process that was killed, or frozen in the middle of a commit."""

import os
import signal
import subprocess
import sys
from collections import deque
from contextlib import asynccontextmanager
from uuid import uuid4

import attrs
import pytest
import trio

from flowstore.daemon import DaemonSettings

LEASE_TIME = 2.0
SOON = 60
"""Seconds in which another daemon has taken over, on however busy a machine."""
FOR_EVER = 6000
"""Tenths of a second that nobody waits for a commit to end by itself."""
HOT_COLD = DaemonSettings(mode="hot_cold", lease_time=LEASE_TIME)

WORKER = '''
import sys
from contextlib import aclosing

import attrs
import trio

from flowstore import AsyncOptions, DaemonSettings, StoreOptions, open_store

@attrs.frozen
class Counted:
    by: int = 1

class Recorder:
    """Writes what the test's recorder writes, slowly, and says that it was this process."""

    name = "recorder"
    consumes = ()
    produces = None
    async_options = AsyncOptions(page_size=1)

    def apply(self, session, streams):
        for stream in streams:
            for event in stream.events:
                session.execute(
                    f"insert into {SCHEMA}.seen (shard, sequence, stream) values (%s, %s, %s)",
                    self.name, event.sequence, "worker",
                )
                session.execute("select pg_sleep(%s)", event.data.by / 10)

DSN, SCHEMA, LEASE_TIME = sys.argv[1:]

async def main():
    options = StoreOptions(schema=SCHEMA)
    options.events.add_types(Counted)
    options.projections.add(Recorder())
    settings = DaemonSettings(mode="hot_cold", lease_time=float(LEASE_TIME))
    async with open_store(DSN, options) as store, store.build_projection_daemon(settings) as daemon:
        await daemon.start_all()
        async with aclosing(daemon.watch()) as statuses:
            async for status in statuses:
                print(status.state, status.progress, flush=True)

trio.run(main)
'''


@attrs.frozen
class Counted:
    by: int = 1


async def append(store, *tenths):
    """Append events whose pages take so many tenths of a second in the worker."""
    async with store.session() as session:
        session.events.append(uuid4(), *map(Counted, tenths))
        await session.save_changes()


@attrs.define
class Worker:
    process: trio.Process
    lines: deque = attrs.field(factory=deque)
    _rest: bytes = b""

    async def says(self, state, progress=None):
        """Read what the worker says until it says this."""
        with trio.fail_after(20):
            while True:
                while self.lines:
                    line = self.lines.popleft().split()
                    assert line[0] != "failed"
                    if line[0] == state and progress in {None, int(line[1])}:
                        return
                data = await self.process.stdout.receive_some()
                assert data, "the worker has ended"
                *lines, self._rest = (self._rest + data).split(b"\n")
                self.lines.extend(line.decode() for line in lines)


@asynccontextmanager
async def working(pg_dsn, schema):
    command = [sys.executable, "-c", WORKER, pg_dsn, schema, str(LEASE_TIME)]
    process = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE)
    try:
        yield Worker(process)
    finally:
        process.kill()
        await process.wait()


@pytest.fixture
async def worker(store, recorder, pg_dsn, schema):
    """A process that runs the shard."""
    store.options.events.add_types(Counted)
    async with working(pg_dsn, schema) as running:
        await running.says("running")
        yield running


async def asleep(store):
    """Wait until the worker is in the middle of a commit."""
    with trio.fail_after(20):
        async with store.connection() as connection:
            while True:
                cursor = await connection.execute(
                    "select from pg_stat_activity where wait_event = 'PgSleep'"
                )
                if await cursor.fetchall():
                    return
                await trio.sleep(0.01)


async def takes_over(daemon, until, seconds):
    with trio.fail_after(seconds):
        await until(daemon, lambda status: status.state == "running")


async def sequences_by_worker(store, table):
    return [sequence for sequence, stream, _ in await table.rows(store) if stream == "worker"]


async def test_a_killed_owner_is_followed(store, worker, table, until):
    async with store.build_projection_daemon(HOT_COLD) as daemon:
        await daemon.start_all()
        await append(store, 0, 0, FOR_EVER, 0)
        await worker.says("running", 2)
        await asleep(store)
        os.kill(worker.process.pid, signal.SIGKILL)
        await takes_over(daemon, until, SOON)
        await daemon.wait_for_non_stale_results(timeout=60)
    assert await table.sequences(store) == [1, 2, 3, 4]


async def test_an_idle_owner_that_is_frozen_is_followed_and_comes_back_cold(
    store, worker, table, until
):
    async with store.build_projection_daemon(HOT_COLD) as daemon:
        await daemon.start_all()
        await append(store, 0, 0)
        await worker.says("running", 2)
        os.kill(worker.process.pid, signal.SIGSTOP)
        await takes_over(daemon, until, LEASE_TIME + SOON)
        await append(store, 0, 0)
        await daemon.wait_for_non_stale_results(timeout=60)
        os.kill(worker.process.pid, signal.SIGCONT)
        await worker.says("starting")
        await append(store, 0, 0)
        await worker.says("starting", 6)
        assert daemon.statuses()[0].state == "running"
    assert await table.sequences(store) == [1, 2, 3, 4, 5, 6]
    assert await sequences_by_worker(store, table) == [1, 2]


async def test_an_owner_frozen_in_the_middle_of_a_commit_is_followed_and_comes_back_cold(
    store, worker, table, until
):
    async with store.build_projection_daemon(HOT_COLD) as daemon:
        await daemon.start_all()
        await append(store, 0, 0, FOR_EVER, 0)
        await worker.says("running", 2)
        await asleep(store)
        os.kill(worker.process.pid, signal.SIGSTOP)
        await takes_over(daemon, until, LEASE_TIME + SOON)
        await daemon.wait_for_non_stale_results(timeout=60)
        os.kill(worker.process.pid, signal.SIGCONT)
        await worker.says("starting", 4)
        await append(store, 0)
        await worker.says("starting", 5)
        assert daemon.statuses()[0].state == "running"
    assert await table.sequences(store) == [1, 2, 3, 4, 5]
    assert await sequences_by_worker(store, table) == [1, 2]


async def test_of_two_processes_one_runs_the_shard(store, worker, table, pg_dsn, schema):
    async with working(pg_dsn, schema) as other:
        await other.says("starting")
        await append(store, *[0] * 5)
        await worker.says("running", 5)
        await other.says("starting", 5)
        os.kill(worker.process.pid, signal.SIGKILL)
        with trio.fail_after(SOON):
            await other.says("running")
        await append(store, 0)
        await other.says("running", 6)
    assert await table.sequences(store) == [1, 2, 3, 4, 5, 6]
