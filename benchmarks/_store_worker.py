"""A process of its own for the store benchmark: it is started by the others, not by hand.

    python _store_worker.py flowstore SCHEMA       run a daemon: how late it is
    python _store_worker.py eventsourcing SCHEMA   run its projection runner: how late it is
    python _store_worker.py catch-up SCHEMA        catch up once: how much memory that takes

The database stands in FLOWSTORE_BENCH_DSN. The first two answer each line, a sequence, with the
stamps that led there.
"""

import importlib
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Callable

import trio

VARIABLE = "FLOWSTORE_BENCH_DSN"


def main() -> None:
    kind, schema = sys.argv[1:]
    dsn = os.environ[VARIABLE]
    if kind == "flowstore":
        trio.run(_follow, dsn, schema)
    elif kind == "catch-up":
        trio.run(_catch_up, dsn, schema)
    else:
        importlib.import_module("_store_eventsourcing_latency").follow(dsn, schema)


async def _follow(dsn: str, schema: str) -> None:
    latency = importlib.import_module("_store_latency")
    async with latency.watched(dsn, schema, 1) as (_, watching):
        print("runs", flush=True)
        async for line in _orders():
            print(json.dumps(await watching.take(int(line))), flush=True)


async def _orders() -> AsyncIterator[str]:
    while line := await trio.to_thread.run_sync(sys.stdin.readline):
        yield line


async def _catch_up(dsn: str, schema: str) -> None:
    flowstore = importlib.import_module("_store_flowstore")
    opening = importlib.import_module("flowstore")
    async with (
        opening.open_store(dsn, flowstore.options(schema)) as store,
        store.build_projection_daemon() as daemon,
        trio.open_nursery() as nursery,
    ):
        before = resident()
        held: list[tuple[int, int]] = []
        nursery.start_soon(_watch, daemon, lambda at: held.append((at, resident())))
        begin = time.perf_counter()
        await daemon.catch_up()
        seconds = time.perf_counter() - begin
        nursery.cancel_scope.cancel()
    told = {"seconds": seconds, "before": before, "throughout": _tenths(held), "peak": peak()}
    print(json.dumps(told))


async def _watch(daemon: object, tell: Callable[[int], None]) -> None:
    async for status in daemon.watch():  # type: ignore[attr-defined]
        tell(status.progress)


def _tenths(held: list[tuple[int, int]]) -> list[int]:
    """Give the memory at every tenth of the way."""
    end = held[-1][0]
    found: list[int] = []
    for at, size in held:
        if at * 10 >= end * (len(found) + 1):
            found.append(size)
    return found


def resident() -> int:
    """Give the bytes of memory that this process holds."""
    return _status("VmRSS")


def peak() -> int:
    """Give the most bytes of memory that it has held."""
    return _status("VmHWM")


def _status(name: str) -> int:
    with open("/proc/self/status", encoding="ascii") as file:  # noqa: PTH123 - asked often
        for line in file:
            if line.startswith(name):
                return int(line.split()[1]) * 1024
    return 0


if __name__ == "__main__":
    main()
