"""How late a projection is while a hundred events a second are appended.

Timed from the moment an append has returned until the document's transaction had committed, by the
clock that all processes of a machine share. A round's percentiles are over its appends; a case's are
medians of its rounds'.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from bisect import bisect_left
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import attrs
import trio
from _store_cases import Bench
from _store_flowstore import options

from flowstore import ProjectionDaemon, Store, open_store
from flowstore.cli._projects import Commit

RATE = 100
WARM_UP = 20
PLACES = {"p50": 50, "p99": 99}
WORKER = Path(__file__).with_name("_store_worker.py")

Stamps = dict[str, list[tuple[int, float]]]
"""By shard: what had been committed up to, and when; both rise."""
Lateness = Callable[[int], Awaitable[list[float]]]
"""Appends so many, and gives how late each one's document was, in seconds."""


@attrs.frozen
class LatencyEntry:
    """One case.

    Attributes:
        name: who does it.
        open: makes what it needs, and clears it away.
        remark: what a reader must know to compare it.
    """

    name: str
    open: Callable[[Bench], AbstractAsyncContextManager[Lateness]]
    remark: str = ""


@attrs.frozen
class LatencyResult:
    """The percentiles of one case.

    Attributes:
        name: the case's name.
        remark: what a reader must know.
        rounds: for every round its percentiles, in milliseconds.
    """

    name: str
    remark: str
    rounds: tuple[dict[str, float], ...]

    @property
    def medians(self) -> dict[str, float]:
        """The medians of the rounds' percentiles, in milliseconds."""
        return {place: statistics.median(each[place] for each in self.rounds) for place in PLACES}


async def measure_latency(
    entries: Sequence[LatencyEntry], bench: Bench, rounds: int
) -> list[LatencyResult]:
    """Let all cases take turns within a round, after one round to warm up."""
    found: dict[str, list[dict[str, float]]] = {entry.name: [] for entry in entries}
    for number in range(-1, rounds):
        for entry in entries:
            times = await _round(entry, bench)
            if number >= 0:
                found[entry.name].append(_percentiles(times))
    return [LatencyResult(each.name, each.remark, tuple(found[each.name])) for each in entries]


async def _round(entry: LatencyEntry, bench: Bench) -> list[float]:
    """Open a case for one round only: ten runners that idle would hold their connections."""
    async with entry.open(bench) as run:
        await run(WARM_UP)
        return await run(bench.sizes.latency)


def _percentiles(times: Sequence[float]) -> dict[str, float]:
    cuts = statistics.quantiles(times, n=100, method="inclusive")
    return {place: cuts[at - 1] * 1_000 for place, at in PLACES.items()}


def lateness(returned: Sequence[tuple[int, float]], stamps: Stamps) -> list[float]:
    """Give how late the last shard was, for each append; below 0 where it came first."""
    late: list[float] = []
    for sequence, at in returned:
        seen = [_seen(sequence, each) for each in stamps.values()]
        late.append(max(seen) - at)
    return late


def _seen(sequence: int, stamps: Sequence[tuple[int, float]]) -> float:
    place = bisect_left(stamps, sequence, key=lambda stamp: stamp[0])
    return stamps[place][1]


# -- flowstore -------------------------------------------------------------------------------------


async def append_paced(store: Store, appends: int) -> list[tuple[int, float]]:
    """Append a hundred a second; gives each one's sequence, and when it had returned."""
    streams = [uuid4() for _ in range(20)]
    returned: list[tuple[int, float]] = []
    begin = trio.current_time()
    for number in range(appends):
        await trio.sleep_until(begin + number / RATE)
        sequence = await _append_one(store, streams[number % len(streams)])
        returned.append((sequence, time.monotonic()))
    return returned


async def _append_one(store: Store, stream_id: UUID) -> int:
    async with store.session() as session:
        action = session.events.append(stream_id, Commit("Ada Alder", additions=3, deletions=1))
        await session.save_changes()
    return action.events[-1].sequence


class Watched:
    """A running daemon whose commits are stamped."""

    def __init__(self, daemon: ProjectionDaemon) -> None:
        self._daemon = daemon
        self._stamps: Stamps = {}
        self._moved = trio.Event()

    async def watch(self) -> None:
        """Stamp every change, until it is cancelled."""
        async for status in self._daemon.watch():
            self._stamps.setdefault(status.name, []).append((status.progress, time.monotonic()))
            self._moved.set()
            self._moved = trio.Event()

    async def take(self, sequence: int) -> Stamps:
        """Wait until every shard has a sequence; gives the stamps since the last call."""
        while not self._stamps or any(each[-1][0] < sequence for each in self._stamps.values()):
            await self._moved.wait()
        taken = self._stamps
        self._stamps = {name: each[-1:] for name, each in taken.items()}
        return taken


@asynccontextmanager
async def watched(dsn: str, schema: str, shards: int) -> AsyncIterator[tuple[Store, Watched]]:
    """Open a store and run its daemon, watched, for the block."""
    async with (
        open_store(dsn, options(schema, shards)) as store,
        store.build_projection_daemon() as daemon,
        trio.open_nursery() as nursery,
    ):
        await daemon.start_all()
        watching = Watched(daemon)
        nursery.start_soon(watching.watch)
        yield store, watching
        nursery.cancel_scope.cancel()


def in_this_process(schema: str, shards: int) -> Callable[[Bench], Any]:
    @asynccontextmanager
    async def opened(bench: Bench) -> AsyncIterator[Lateness]:
        async with watched(bench.dsn, schema, shards) as (store, watching):

            async def run(appends: int) -> list[float]:
                returned = await append_paced(store, appends)
                return lateness(returned, await watching.take(returned[-1][0]))

            yield run

    return opened


@asynccontextmanager
async def in_another(bench: Bench) -> AsyncIterator[Lateness]:
    schema = "flowstore_latency_other"
    async with (
        open_store(bench.dsn, options(schema)) as store,
        worker("flowstore", bench.dsn, schema) as take,
    ):

        async def run(appends: int) -> list[float]:
            returned = await append_paced(store, appends)
            return lateness(returned, await take(returned[-1][0]))

        yield run


@asynccontextmanager
async def worker(
    kind: str, dsn: str, schema: str
) -> AsyncIterator[Callable[[int], Awaitable[Stamps]]]:
    """Run a projection in another process; gives a function as `Watched.take` is."""
    start = partial(
        trio.run_process,
        [sys.executable, str(WORKER), kind, schema],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "FLOWSTORE_BENCH_DSN": dsn},
    )
    async with trio.open_nursery() as nursery:
        process: trio.Process = await nursery.start(start)
        orders, answers = process.stdin, process.stdout
        if orders is None or answers is None:
            raise RuntimeError("the worker was started without pipes")
        lines = _lines(answers)
        await anext(lines)  # it runs

        async def take(sequence: int) -> Stamps:
            await orders.send_all(f"{sequence}\n".encode())
            return json.loads(await anext(lines))

        yield take
        await orders.aclose()


async def _lines(stream: Any) -> AsyncIterator[bytes]:
    rest = b""
    async for more in stream:
        *whole, rest = (rest + more).split(b"\n")
        for line in whole:
            yield line


LATENCY = [
    LatencyEntry(
        "flowstore, same process", in_this_process("flowstore_latency", 1), "one task appends"
    ),
    LatencyEntry("flowstore, other process", in_another, "the daemon runs elsewhere"),
    LatencyEntry(
        "flowstore, ten shards",
        in_this_process("flowstore_latency_ten", 10),
        "same process; the last of the ten counts",
    ),
]
