"""Does the speed last, and the memory stay, however long the history and however many its streams?

Each history is imported once, and caught up from nothing by a new process in every round: its memory
is the daemon's, not the benchmark's.
"""

import json
import os
import statistics
import sys
from collections.abc import Sequence
from typing import Any

import attrs
import trio
from _report import Result
from _store_cases import Bench
from _store_flowstore import imported, options, schema_of
from _store_latency import WORKER

from flowstore import Store, open_store
from flowstore.cli._projects import ActiveProject


@attrs.frozen
class Shape:
    """One history.

    Attributes:
        events: how many.
        streams: how many they are spread over.
    """

    events: int
    streams: int

    @property
    def name(self) -> str:
        """What the table calls it."""
        return f"{self.events:,} events in {self.streams:,} streams"

    @property
    def schema(self) -> str:
        """Where it is stored."""
        return schema_of(self.events, self.streams)


@attrs.frozen
class Flat:
    """What catching one history up took.

    Attributes:
        result: each round's time.
        before: bytes held before, the median of the rounds.
        throughout: bytes held at every tenth of the way, each a median.
        peak: the most bytes held, the median.
    """

    result: Result
    before: int
    throughout: tuple[int, ...]
    peak: int


def shapes(bench: Bench, *, long: bool) -> list[Shape]:
    """List the histories: the usual one, two of other shapes, and one of ten times the length."""
    events, streams = bench.sizes.events, bench.sizes.streams
    found = [Shape(events, streams), Shape(events, max(1, streams // 100))]
    found.append(Shape(events, max(streams, events // 2)))
    return [*found, Shape(events * 10, streams)] if long else found


async def measure_flat(bench: Bench, rounds: int, *, long: bool) -> list[Flat]:
    """Catch all histories up in turns, after one round to warm up."""
    chosen = shapes(bench, long=long)
    told: dict[str, list[dict[str, Any]]] = {shape.name: [] for shape in chosen}
    for shape in chosen:
        await imported(bench, shape.events, shape.streams)
    for number in range(-1, rounds):
        for shape in chosen:
            await _wipe(bench, shape)
            found = await _catch_up(bench, shape)
            if number >= 0:
                told[shape.name].append(found)
    return [_summed(shape, told[shape.name]) for shape in chosen]


async def _wipe(bench: Bench, shape: Shape) -> None:
    store: Store
    async with open_store(bench.dsn, options(shape.schema)) as store:
        await store.teardown(store.options.projections.find(ActiveProject).projection)


async def _catch_up(bench: Bench, shape: Shape) -> dict[str, Any]:
    done = await trio.run_process(
        [sys.executable, str(WORKER), "catch-up", shape.schema],
        capture_stdout=True,
        env={**os.environ, "FLOWSTORE_BENCH_DSN": bench.dsn},
    )
    return json.loads(done.stdout)


def _summed(shape: Shape, rounds: Sequence[dict[str, Any]]) -> Flat:
    def median(values: Sequence[int]) -> int:
        return int(statistics.median(values))

    seconds = tuple(each["seconds"] for each in rounds)
    tenths = zip(*(each["throughout"] for each in rounds), strict=False)
    return Flat(
        Result(shape.name, shape.events, "events", seconds),
        median([each["before"] for each in rounds]),
        tuple(map(median, tenths)),
        median([each["peak"] for each in rounds]),
    )
