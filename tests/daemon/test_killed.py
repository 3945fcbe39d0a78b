"""A process that is killed in the middle and started again ends with the same documents."""

import signal
import subprocess
import sys
import time

import psycopg
from psycopg import sql

WORKER = '''
import logging
import sys
from uuid import UUID

import attrs
import trio

from flowstore import AsyncOptions, DaemonSettings, StoreOptions, open_store

STREAMS = 7

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

async def publish(store, count):
    """Append what isn't there yet, one event of a stream after the other."""
    for stream in range(STREAMS):
        async with store.session() as session:
            state = await session.events.fetch_stream_state(UUID(int=stream))
            done = state.version if state else 0
            for number in range(done * STREAMS + stream, count, STREAMS):
                session.events.append(UUID(int=stream), Counted(number))
                await session.save_changes()

async def main(dsn, schema, count, is_killed):
    options = StoreOptions(schema=schema)
    options.projections.aggregate_streams_with(
        Total, async_options=AsyncOptions(page_size=5)
    )
    async with open_store(dsn, options) as store, store.build_projection_daemon() as daemon:
        await daemon.start_all()
        await publish(store, count)
        if is_killed:  # however fast it is
            await trio.sleep_forever()
        await daemon.wait_for_non_stale_results()
        async with store.session() as session:
            for total in await session.query(Total, "true order by id"):
                print(total.id.int, total.number, total.seen)

# The tests' server is told to forget, which a daemon warns of.
logging.getLogger("flowstore.daemon").setLevel(logging.ERROR)
trio.run(main, sys.argv[1], sys.argv[2], int(sys.argv[3]), "killed" in sys.argv[4:])
'''
STREAMS, EVENTS = 7, 420
PATIENCE = 300
"""Seconds, on however busy a machine."""


def start(dsn, schema, *more, count=EVENTS):
    command = [sys.executable, "-c", WORKER, dsn, schema, str(count), *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def progress(dsn, schema):
    """Read how far the projection has come: 0 also while there is no store."""
    with psycopg.connect(dsn) as connection:
        query = sql.SQL("select max(sequence) from {}")
        try:
            row = connection.execute(query.format(sql.Identifier(schema, "progress"))).fetchone()
        except psycopg.errors.UndefinedTable:
            return 0
        return row[0] or 0


def kill_beyond(place, dsn, schema):
    """Start a worker and kill it once its projection has come beyond a place."""
    process = start(dsn, schema, "killed", count=place + 150)
    deadline = time.monotonic() + PATIENCE
    try:
        while progress(dsn, schema) <= place:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.005)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == -signal.SIGKILL


def test_a_killed_process_started_again_ends_with_the_same_documents(dsn):
    for place in (0, 200):
        kill_beyond(place, dsn, "killed")
        assert progress(dsn, "killed") < EVENTS
    process = start(dsn, "killed")
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, err) == (0, "")
    expected = [list(range(stream, EVENTS, STREAMS)) for stream in range(STREAMS)]
    assert out.splitlines() == [f"{n} {sum(seen)} {seen}" for n, seen in enumerate(expected)]
    assert progress(dsn, "killed") >= EVENTS
