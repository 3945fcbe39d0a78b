"""A process that is killed in the middle and started again has found what it would have anyway."""

import signal
import subprocess
import sys
import time

import psycopg
import pytest
from psycopg import sql

WORKER = """
import logging
import sys
from datetime import UTC, datetime, timedelta
from uuid import UUID

import attrs
import trio

from flowstore import AsyncOptions, NewEvent, StoreOptions, open_store

# The tests' server is told to forget, which a daemon warns of.
logging.getLogger("flowstore.daemon").setLevel(logging.ERROR)
START = datetime(2026, 1, 1, tzinfo=UTC)

@attrs.frozen
class Reopened:
    number: int

@attrs.frozen
class Alert:
    id: UUID
    numbers: list[int]

async def often(events):
    recent = []
    async for event in events:
        recent.append((event.timestamp, event.data.number))
        recent = [(at, n) for at, n in recent if at >= event.timestamp - timedelta(hours=24)]
        if len(recent) == 3:
            yield Alert(event.id, [number for _, number in recent])

async def main(dsn, schema, count, window, is_killed):
    options = StoreOptions(schema=schema)
    options.projections.process(
        "often", often, produces=Alert, consumes=[Reopened],
        window=timedelta(hours=24) if window == "window" else None,
        async_options=AsyncOptions(page_size=4),
    )
    async with open_store(dsn, options) as store, store.build_projection_daemon() as daemon:
        await daemon.start_all()
        for number in range(await store.highest_sequence(), count):
            hours = number * 8 + number % 5 * 9
            event = NewEvent(Reopened(number), timestamp=START + timedelta(hours=hours))
            async with store.session() as session:
                session.events.append(UUID(int=number), event)
                await session.save_changes()
        if is_killed:  # however fast it is
            await trio.sleep_forever()
        await daemon.wait_for_non_stale_results()
        async with store.session() as session:
            alerts = await session.query(Alert, "true")
            print(sorted(alert.numbers for alert in alerts))
            async with store.connection() as connection:
                found = await connection.execute(f"select max(version) from {schema}.doc_alert")
                print((await found.fetchone())[0])

trio.run(main, *sys.argv[1:3], int(sys.argv[3]), sys.argv[4], "killed" in sys.argv[5:])
"""
EVENTS = 160
PATIENCE = 300
"""Seconds, on however busy a machine."""


def start(dsn, schema, window, *more, count=EVENTS):
    command = [sys.executable, "-c", WORKER, dsn, schema, str(count), window, *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def progress(dsn, schema):
    """Read how far the process has come: 0 also while there is no store."""
    with psycopg.connect(dsn) as connection:
        query = sql.SQL("select max(sequence) from {}")
        try:
            row = connection.execute(query.format(sql.Identifier(schema, "progress"))).fetchone()
        except psycopg.errors.UndefinedTable:
            return 0
        return row[0] or 0


def kill_beyond(place, dsn, schema, window):
    """Start a worker and kill it once it has committed beyond a place."""
    process = start(dsn, schema, window, "killed", count=place + 60)
    deadline = time.monotonic() + PATIENCE
    try:
        while progress(dsn, schema) <= place:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.002)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == -signal.SIGKILL


def expected():
    recent, found = [], []
    for number in range(EVENTS):
        hours = number * 8 + number % 5 * 9
        recent = [(at, n) for at, n in [*recent, (hours, number)] if at >= hours - 24]
        if len(recent) == 3:
            found.append([n for _, n in recent])
    return sorted(found)


@pytest.mark.parametrize("window", ["window", "forever"])
def test_a_killed_process_finds_what_it_would_have_anyway(dsn, window):
    for place in (10, 60):
        kill_beyond(place, dsn, "killed", window)
        assert progress(dsn, "killed") < EVENTS
    process = start(dsn, "killed", window)
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, err) == (0, "")
    # Each was written once: a second writing would have raised the document's version.
    assert out.splitlines() == [str(expected()), "1"]
    assert len(expected()) > 10
