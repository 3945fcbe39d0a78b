"""A slow sink behind many events: memory stays where it is, whatever there is to read."""

import json
import logging
import subprocess
import sys

import attrs
import pytest

from flowstore import StoreOptions, open_store

WORKER = """
import json
import os
import sys
from pathlib import Path

import attrs
import trio

from flowstore import AsyncOptions, DaemonSettings, StoreOptions, open_store

@attrs.frozen
class Happened:
    text: str = ""

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

@attrs.define
class Slow:
    name = "slow"
    consumes = (Happened,)
    produces = None
    async_options: AsyncOptions
    applied: int = 0
    sizes: list = attrs.field(factory=list)

    async def apply(self, session, streams):
        self.applied += sum(len(stream.events) for stream in streams)
        await trio.sleep(0.002)
        self.sizes.append(resident())

async def main(dsn, page_size, page_bytes):
    options = StoreOptions(schema="faults")
    slow = Slow(AsyncOptions(page_size=page_size))
    options.projections.add(slow)
    settings = DaemonSettings(page_bytes=page_bytes)
    async with open_store(dsn, options) as store:
        before = resident()
        async with store.build_projection_daemon(settings) as daemon:
            await daemon.start_all()
            await daemon.wait_for_non_stale_results()
        print(json.dumps([slow.applied, before, slow.sizes]))

trio.run(main, sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
"""
LOG = logging.getLogger("faults")
MEGABYTE = 2**20


@attrs.frozen
class Happened:
    text: str = ""


@pytest.fixture
def fill(dsn):
    """Store many events of some size, without asking Python for each."""

    async def insert(count, size):
        options = StoreOptions(schema="faults")
        options.events.add_types(Happened)
        async with open_store(dsn, options) as store, store.connection() as connection:
            await connection.execute(
                "insert into faults.events (stream_id, version, type, data)"
                " select md5(mod(n, 1000)::text)::uuid, 1 + n / 1000, 'happened',"
                " jsonb_build_object('text', repeat('x', %s)) from generate_series(0, %s) n",
                (size, count - 1),
            )

    return insert


def run_worker(dsn, page_size, page_bytes=4 * MEGABYTE):
    command = [sys.executable, "-c", WORKER, dsn, str(page_size), str(page_bytes)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=550, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


async def test_memory_stays_flat_behind_a_slow_sink(fill, dsn, soak):
    count = soak(60_000, 1_000_000)
    await fill(count, 100)
    applied, before, sizes = run_worker(dsn, 200)
    assert applied == count
    settled, rest = max(sizes[: len(sizes) // 5]), max(sizes[len(sizes) // 5 :])
    sizes = [size // 1024 for size in (before, settled, rest)]
    LOG.info("%s events; KiB resident before, settled, at most: %s", count, sizes)
    assert rest - settled < 8 * MEGABYTE, (before, settled, rest)
    assert rest - before < 32 * MEGABYTE, (before, settled, rest)


async def test_large_events_are_held_a_few_at_a_time(fill, dsn):
    """120 MB of events, of which a page of 500 would hold all: it is bounded in bytes too."""
    await fill(240, MEGABYTE // 2)
    applied, before, sizes = run_worker(dsn, 500)
    assert applied == 240
    assert max(sizes) - before < 64 * MEGABYTE, (before, max(sizes))


async def test_without_a_bound_in_bytes_a_page_of_large_events_is_all_in_memory(fill, dsn):
    """It shows that the test above could fail."""
    await fill(240, MEGABYTE // 2)
    _, before, sizes = run_worker(dsn, 500, 1000 * MEGABYTE)
    assert max(sizes) - before > 100 * MEGABYTE
