"""flowstore's store and daemon beside their peers and the physical limits, on one server, in one run.

    python benchmarks/store.py [--quick] [--events N] [--streams N] [--long] [--only WORKLOAD ...]
                               [--rounds 5] [--dsn DSN] [--emmett FOLDER] [--json FILE]

The server is an embedded one with PostgreSQL's own settings, durability included, unless `--dsn`
names another; a database named flowstore_bench is made there, and dropped at the end. Peers that
aren't installed are skipped with a line; `pip install flowstore[bench]` brings those in Python.
`python benchmarks/draw.py FILE` makes charts and a page of the JSON.
"""

import argparse
import gc
import importlib
import os
import tempfile
from collections.abc import AsyncIterator, Generator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import trio
from _blocks_table import Outcome, told, write
from _report import LEAST_ROUNDS, Case, measure
from _store_cases import Bench, Entry, Job, SkippedError
from _store_flat import Flat, measure_flat
from _store_latency import LatencyEntry, LatencyResult, measure_latency
from _store_table import document, told_flat, told_latency, told_machine
from _store_work import Sizes, folded
from _store_worker import resident
from psycopg import conninfo, sql

from flowstore.postgres import Connection, embedded_postgres

PEER_MODULES = (
    "_store_flowstore",
    "_store_raw",
    "_store_loops",
    "_store_fold",
    "_store_pgbench",
    "_store_message_db",
    "_store_eventsourcing",
    "_store_emmett",
    "_store_starting",
)
LATENCY_MODULES = ("_store_latency", "_store_eventsourcing_latency")
WORKLOADS = {
    "append 1": "Append, one event a commit, one writer",
    "append 10": "Append, ten events a commit, one writer",
    "append 100": "Append, a hundred events a commit, one writer",
    "append 1, 8 writers": "Append, one event a commit, eight writers at once",
    "append 10, 8 writers": "Append, ten events a commit, eight writers at once",
    "import": "Bulk import into an empty store",
    "read": "Read all events, in pages of 500",
    "fold": "Decode, group and apply, in memory: no database",
    "catch up": "Project the history into documents, with progress",
    "rebuild": "Rebuild: wipe the documents, and project the history again",
    "continuous": "A running daemon projects the history, beside a loop that could go on",
    "ten shards": "Append ten a commit while shards follow, until all have the last event",
    "start": "Start a program",
}
LATENCY, FLAT = "latency", "flat"
LONG = "rebuild, long"
LONG_TITLE = "Rebuild a history of ten times the length"
WARM_UP = 1
DATABASE = "flowstore_bench"
EVENTS, STREAMS = 200_000, 2_000
QUICK = Sizes.of(400, 8)


def main() -> None:
    arguments = _arguments()
    with _bytecode_kept():
        trio.run(_run, arguments)


@contextmanager
def _bytecode_kept() -> Generator[None]:
    """Let programs that are started find what they have compiled before, as installed ones do."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = folder
        yield


async def _run(arguments: argparse.Namespace) -> None:
    entries, latencies, skipped = load_peers()
    sizes = QUICK if arguments.quick else Sizes.of(arguments.events, arguments.streams)
    wanted = arguments.only or [*WORKLOADS, LATENCY, FLAT, *([LONG] if arguments.long else [])]
    outcomes: list[Outcome] = []
    late: list[LatencyResult] = []
    flat: list[Flat] = []
    async with AsyncExitStack() as stack:
        server = arguments.dsn or await stack.enter_async_context(_own_server())
        dsn = await stack.enter_async_context(_own_database(server))
        notes = await _notes(dsn, sizes)
        bench = Bench(dsn, sizes, arguments.emmett)

        async def measured(key: str) -> None:
            outcome, missing = await _measure(key, entries, bench, arguments.rounds)
            skipped.extend(missing)
            outcomes.append(outcome)
            notes["resident, MiB"][key] = resident() >> 20
            print(f"\n{told(outcome)}", flush=True)

        for key in (key for key in WORKLOADS if key in wanted):
            await measured(key)
        if LATENCY in wanted:
            late = await measure_latency(latencies, bench, arguments.rounds)
            print(f"\n{told_latency(late)}", flush=True)
        if FLAT in wanted:
            flat = await measure_flat(bench, arguments.rounds, long=arguments.long)
            print(f"\n{told_flat(flat)}", flush=True)
        if LONG in wanted:
            await measured(LONG)
    print("", *dict.fromkeys(skipped), told_machine(notes), sep="\n")
    write(document(outcomes, late, flat, list(dict.fromkeys(skipped)), notes), arguments)


async def _measure(
    key: str, entries: Sequence[Entry], bench: Bench, rounds: int
) -> tuple[Outcome, list[str]]:
    """Let all cases of a workload take turns; the first one is the base."""
    skipped: list[str] = []
    async with AsyncExitStack() as stack:
        jobs: dict[Entry, Job] = {}
        for entry in entries:
            if entry.workload == key:
                try:
                    jobs[entry] = await stack.enter_async_context(entry.open(bench))
                except SkippedError as error:
                    skipped.append(f"skipped {entry.name}: {error}")
        rows = {entry: _rows(bench, job) for entry, job in jobs.items()}
        gc.collect()
        gc.freeze()  # else every collection would look through the history that only we hold
        results = await measure([_case(*each) for each in jobs.items()], rounds, WARM_UP)
        gc.unfreeze()
        for entry, job in jobs.items():
            await _check_documents(entry, job, bench)
            _check_rows(entry, job, _rows(bench, job) - rows[entry], rounds)
    remarks = {entry.name: _remark(entry, job, results[0].count) for entry, job in jobs.items()}
    title = WORKLOADS.get(key, LONG_TITLE)
    return Outcome(key, title, results[0].name, results, remarks), skipped


def _case(entry: Entry, job: Job) -> Case:
    unit = "starts" if entry.workload == "start" else "events"
    return Case(entry.name, job.run, job.count, unit, job.prepare)


def _remark(entry: Entry, job: Job, usual: int) -> str:
    """Say so where a case handled another number of events than the base."""
    fewer = f" ({job.count:,} events a round, not {usual:,})" if job.count != usual else ""
    return f"{entry.remark}{fewer}"


def _rows(bench: Bench, job: Job) -> int:
    """Count the rows of the table that a case writes to."""
    if job.table is None:
        return 0
    count = sql.SQL("select count(*) from {}").format(sql.Identifier(*job.table.split(".")))
    with bench.connect() as connection:
        return (connection.execute(count).fetchone() or (0,))[0]


def _check_rows(entry: Entry, job: Job, found: int, rounds: int) -> None:
    """Refuse to report on appends that didn't store every event.

    Raises:
        RuntimeError: there are more or fewer rows.
    """
    wanted = job.count * (rounds + WARM_UP) if job.table else 0
    if found != wanted:
        raise RuntimeError(
            f"{entry.name} stored {found} events in {entry.workload!r}, not {wanted}"
        )


async def _check_documents(entry: Entry, job: Job, bench: Bench) -> None:
    """Refuse to report on work that wasn't the same.

    Raises:
        RuntimeError: the documents aren't those of the history.
    """
    if job.documents is None:
        return
    found = await job.documents()
    wanted = folded(bench.facts(job.count) if job.facts is None else job.facts())
    if found.keys() != wanted.keys() or any(found[each] != wanted[each] for each in wanted):
        raise RuntimeError(f"{entry.name} made other documents in {entry.workload!r}")


def load_peers() -> tuple[list[Entry], list[LatencyEntry], list[str]]:
    """Import whatever is installed; tell of each peer that isn't."""
    entries: list[Entry] = []
    latencies: list[LatencyEntry] = []
    skipped: list[str] = []
    for name in (*PEER_MODULES, *LATENCY_MODULES):
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError as error:
            told_name = name.removeprefix("_store_").replace("_", " ")
            skipped.append(f"skipped {told_name}: {error.name} isn't installed")
        else:
            entries += getattr(module, "ENTRIES", ())
            latencies += getattr(module, "LATENCY", ())
    return entries, latencies, skipped


# -- the server ------------------------------------------------------------------------------------


@asynccontextmanager
async def _own_server() -> AsyncIterator[str]:
    with _home() as home:
        async with embedded_postgres(home) as dsn:
            yield dsn


@contextmanager
def _home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="flowstore-bench-") as home:
        Path(home).chmod(0o755)  # the server has a user of its own, where we are root
        yield Path(home)


@asynccontextmanager
async def _own_database(server: str) -> AsyncIterator[str]:
    """Make a database for the block: some peers can't be told a schema."""
    drop = sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(DATABASE))
    create = sql.SQL("create database {}").format(sql.Identifier(DATABASE))
    async with await Connection.connect(server) as connection:
        await connection.execute(drop)
        await connection.execute(create)
        try:
            yield conninfo.make_conninfo(server, dbname=DATABASE)
        finally:
            await connection.execute(drop)


async def _notes(dsn: str, sizes: Sizes) -> dict[str, Any]:
    """Tell of the settings that these figures depend on."""
    names = ["server_version", "fsync", "synchronous_commit", "full_page_writes", "shared_buffers"]
    async with await Connection.connect(dsn) as connection:
        cursor = await connection.execute(
            "select name, current_setting(name) from pg_settings where name = any(%s)", (names,)
        )
        server = dict(await cursor.fetchall())
    history = {"events": sizes.events, "streams": sizes.streams}
    return {"server": server, "history": history, "resident, MiB": {}}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--quick", action="store_true", help="few events: only shows that it works")
    add("--events", type=int, default=EVENTS, help=f"in the history; {EVENTS:,} by default")
    add("--streams", type=int, default=STREAMS, help=f"that they are in; {STREAMS:,} by default")
    add("--long", action="store_true", help="catch up and rebuild ten times the history")
    add("--only", nargs="+", choices=[*WORKLOADS, LATENCY, FLAT, LONG], help="some workloads")
    add("--rounds", type=int, default=LEAST_ROUNDS, help="at least 5")
    add("--dsn", help="a server to use instead of an embedded one")
    add("--emmett", type=Path, metavar="FOLDER", help="where npm may install Emmett; else without")
    add("--json", type=Path, metavar="FILE", help="write the JSON into this file")
    return parser.parse_args()


if __name__ == "__main__":
    main()
