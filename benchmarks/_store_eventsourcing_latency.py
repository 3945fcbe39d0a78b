"""How late eventsourcing's projection runner is: in this process, another one, and ten at once."""

import json
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any
from uuid import uuid4

import trio
from _store_cases import Bench
from _store_eventsourcing import Commit, Projects, application, runner
from _store_latency import RATE, LatencyEntry, Lateness, Stamps, lateness, worker
from eventsourcing.domain import datetime_now_with_tzinfo


def append_paced(app: Projects, appends: int) -> list[tuple[int, float]]:
    """Append a hundred a second; gives each one's number, and when it had returned."""
    returned: list[tuple[int, float]] = []
    begin = time.monotonic()
    streams = [uuid4() for _ in range(20)]
    for number in range(appends):
        time.sleep(max(0.0, begin + number / RATE - time.monotonic()))
        stream, version = streams[number % len(streams)], number // len(streams) + 1
        event = Commit(stream, version, datetime_now_with_tzinfo(), "Ada Alder", 3, 1)
        [notification] = app.recorder.insert_events([app.mapper.to_stored_event(event)]) or [0]
        returned.append((notification, time.monotonic()))
    return returned


def take(running: Any, number: int, sequence: int) -> Stamps:
    """Wait until a runner has a notification; gives its stamps since the last call."""
    running.wait(sequence, timeout=600)
    stamps = running.projection.stamps
    while not stamps or stamps[-1][0] < sequence:  # committed, and about to be stamped
        time.sleep(0.001)
    taken = stamps[:]
    del stamps[: len(taken)]
    return {str(number): taken}


def in_this_process(schema: str, shards: int) -> Callable[[Bench], Any]:
    @asynccontextmanager
    async def opened(bench: Bench) -> AsyncIterator[Lateness]:
        app = application(bench, schema)
        async with AsyncExitStack() as stack:
            runners = [stack.enter_context(runner(bench.dsn, schema, n)) for n in range(shards)]

            def run(appends: int) -> list[float]:
                returned = append_paced(app, appends)
                stamps: Stamps = {}
                for number, running in enumerate(runners):
                    stamps |= take(running, number, returned[-1][0])
                return lateness(returned, stamps)

            async def run_in_thread(appends: int) -> list[float]:
                return await trio.to_thread.run_sync(run, appends)

            yield run_in_thread
        app.close()

    return opened


@asynccontextmanager
async def in_another(bench: Bench) -> AsyncIterator[Lateness]:
    schema = "es_latency_other"
    app = application(bench, schema)
    async with worker("eventsourcing", bench.dsn, schema) as take_there:

        async def run(appends: int) -> list[float]:
            returned = await trio.to_thread.run_sync(partial(append_paced, app, appends))
            return lateness(returned, await take_there(returned[-1][0]))

        yield run
    app.close()


def follow(dsn: str, schema: str) -> None:
    """Run a runner in this process, and answer each line with the stamps that led there."""
    with runner(dsn, schema) as running:
        print("runs", flush=True)
        for line in sys.stdin:
            print(json.dumps(take(running, 0, int(line))), flush=True)


LATENCY = [
    LatencyEntry("eventsourcing, same process", in_this_process("es_latency", 1), "its threads"),
    LatencyEntry("eventsourcing, other process", in_another, "the runner runs elsewhere"),
    LatencyEntry(
        "eventsourcing, ten runners",
        in_this_process("es_latency_ten", 10),
        "same process; the last of the ten counts",
    ),
]
