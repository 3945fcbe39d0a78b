"""A process that is killed while it rebuilds leaves the old view or the new one, and no third."""

import random
import signal
import subprocess
import sys
import time

import psycopg
import pytest

WORKER = '''
import logging
import sys
from uuid import UUID

import attrs
import trio

from flowstore import AsyncOptions, Lifecycle, StoreOptions, open_store

STREAMS, EVENTS = 7, 140

@attrs.frozen
class Counted:
    by: int

@attrs.define
class Total:
    id: UUID
    number: int = 0
    seen: list[int] = attrs.field(factory=list)

    def apply(self, counted: Counted) -> None:
        self.number += counted.by
        self.seen.append(counted.by)

async def publish(store):
    for stream in range(STREAMS):
        async with store.session() as session:
            if await session.events.fetch_stream_state(UUID(int=stream)) is None:
                events = [Counted(number) for number in range(stream, EVENTS, STREAMS)]
                session.events.start_stream(UUID(int=stream), *events)
                await session.save_changes()

async def spoil(store):
    """Make the whole view wrong in one statement."""
    async with store.connection() as connection:
        await connection.execute(
            "update killed.doc_total set data = data || '{\\"number\\": -1}'"
        )

async def main(dsn, lifecycle, rounds):
    options = StoreOptions(schema="killed")
    options.projections.aggregate_streams_with(
        Total, lifecycle=Lifecycle[lifecycle], async_options=AsyncOptions(page_size=5)
    )
    async with open_store(dsn, options) as store, store.build_projection_daemon() as daemon:
        await publish(store)
        await daemon.start_all()
        await daemon.wait_for_non_stale_results()
        print("ready", flush=True)
        for _ in range(rounds):
            await spoil(store)
            await daemon.rebuild(Total, swap=True)
        session = store.session()
        for stream in range(STREAMS):
            stored = await session.load(Total, UUID(int=stream))
            assert stored == await session.events.aggregate_stream(Total, UUID(int=stream))

# The tests' server is told to forget, which a daemon warns of.
logging.getLogger("flowstore.daemon").setLevel(logging.ERROR)
trio.run(main, sys.argv[1], sys.argv[2], int(sys.argv[3]))
'''
STREAMS, EVENTS = 7, 140


def start(dsn, lifecycle, rounds):
    command = [sys.executable, "-c", WORKER, dsn, lifecycle, str(rounds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def kill_after(seconds, dsn, lifecycle):
    """Kill a worker so long after it has begun to spoil and rebuild its view."""
    process = start(dsn, lifecycle, 1000)
    try:
        assert process.stdout.readline() == "ready\n", process.communicate()
        time.sleep(seconds)
        assert process.poll() is None, process.communicate()
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == -signal.SIGKILL


def rows(dsn, query):
    with psycopg.connect(dsn) as connection:
        # Whoever was killed in a transaction may still be rolled back.
        connection.execute("lock table killed.progress in share mode")
        return connection.execute(query).fetchall()


def leftovers(dsn):
    tables = "select tablename from pg_tables where tablename like 'shadow%'"
    return rows(dsn, tables) + rows(dsn, "select shard from killed.progress where shard like 'sh%'")


@pytest.mark.parametrize("lifecycle", ["ASYNC", "INLINE"])
def test_a_killed_rebuild_leaves_the_old_view_or_the_new_one(dsn, lifecycle):
    right = [sum(range(stream, EVENTS, STREAMS)) for stream in range(STREAMS)]
    drawn = random.Random(7)
    seen = []
    for _ in range(6):
        kill_after(drawn.uniform(0, 0.4), dsn, lifecycle)
        view = rows(dsn, "select (data ->> 'number')::int from killed.doc_total order by id")
        seen.append([number for (number,) in view])
        assert seen[-1] in (right, [-1] * STREAMS)
        if lifecycle == "ASYNC":
            progress = "select sequence from killed.progress where shard = 'Total'"
            assert rows(dsn, progress) == [(EVENTS,)]
    process = start(dsn, lifecycle, 1)
    _, err = process.communicate(timeout=300)
    assert (process.returncode, err) == (0, "")
    view = rows(dsn, "select (data ->> 'number')::int from killed.doc_total order by id")
    assert [number for (number,) in view] == right
    assert leftovers(dsn) == []
