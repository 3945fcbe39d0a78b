"""How fast events are appended, projected and rebuilt, and how late a projection is.

    python benchmarks/daemon.py [--quick] [--dsn DSN] [--json FILE]

Beside each case stands the raw limit, measured in the same rounds on the same server: the same rows
by a bare INSERT, or a fold loop written by hand for this one view (`_daemon_raw.py`). The server is
an embedded one with PostgreSQL's own settings, durability included, unless `--dsn` names another;
schemas named flowstore_bench_* are dropped there before and after.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from itertools import count
from pathlib import Path
from uuid import UUID

import attrs
import trio
from _daemon_raw import Fact, RawStore
from _report import Case, Result, measure, publish
from psycopg import sql

from flowstore import DaemonSettings, ProjectionDaemon, Store, StoreOptions, open_store
from flowstore.cli._generate import generate_history
from flowstore.cli._projects import ActiveProject, Commit
from flowstore.postgres import Connection, embedded_postgres

PAGE_SIZE = 500
"""Events a page, ours by default and the hand-written loop's."""
SEED = 7
LATENCY_STREAM = UUID(int=1)


@attrs.frozen
class Sizes:
    """How much one run does.

    Attributes:
        appended: events by how many there are in a commit.
        history: events that are projected and rebuilt.
        saves: events saved one by one, to see when their projection has them.
    """

    appended: dict[int, int]
    history: int
    saves: int


FULL = Sizes({1: 500, 10: 3_000, 100: 20_000}, history=20_000, saves=200)
QUICK = Sizes({1: 10, 10: 40, 100: 200}, history=400, saves=5)


def main() -> None:
    arguments = _arguments()
    trio.run(_run, arguments.dsn, QUICK if arguments.quick else FULL)


async def _run(given_dsn: str | None, sizes: Sizes) -> None:
    async with AsyncExitStack() as stack:
        dsn = given_dsn or await stack.enter_async_context(_own_server())
        connection = await stack.enter_async_context(await Connection.connect(dsn))
        notes = await _server(connection)
        raw = RawStore(connection)
        await raw.create()
        appending = await _appending(dsn, connection, raw, sizes)
        projecting = await _projecting(dsn, connection, raw, sizes)
        latency = await _latency(dsn, connection, raw, sizes)
        await raw.drop()
    notes |= {"page size": PAGE_SIZE, "latency, in ms": latency.notes()}
    pairs = [(each, f"{each}, raw") for each in _names(sizes)]
    publish("daemon", [*appending, *projecting, *latency.results], pairs, notes)
    print(latency.table())


def _names(sizes: Sizes) -> list[str]:
    return [*map(_appended, sizes.appended), "project", "rebuild", "save to projected"]


def _appended(per_commit: int) -> str:
    return f"append, {per_commit} a commit"


# -- appending -------------------------------------------------------------------------------------


async def _appending(dsn: str, connection: Connection, raw: RawStore, sizes: Sizes) -> list[Result]:
    async with _fresh(dsn, connection, "flowstore_bench_append") as store:
        cases = []
        for per_commit, events in sizes.appended.items():
            cases += _append_cases(store, raw, per_commit, events)
        return await measure(cases)


def _append_cases(store: Store, raw: RawStore, per_commit: int, events: int) -> list[Case]:
    seeds, facts = count(SEED), list[Fact]()

    def draw() -> None:
        # Another seed, other streams: every round begins them, as the raw one does.
        facts[:] = generate_history(events, next(seeds))

    async def append() -> None:
        await _append(store, facts, per_commit)

    async def prepare_raw() -> None:
        await raw.prepare(facts, per_commit)

    name = _appended(per_commit)
    return [
        Case(name, append, events, prepare=draw),
        Case(f"{name}, raw", raw.insert, events, prepare=prepare_raw),
    ]


async def _append(store: Store, facts: Sequence[Fact], per_commit: int) -> None:
    for at in range(0, len(facts), per_commit):
        async with store.session() as session:
            for stream_id, event in facts[at : at + per_commit]:
                session.events.append(stream_id, event)
            await session.save_changes()


# -- projecting ------------------------------------------------------------------------------------


async def _projecting(
    dsn: str, connection: Connection, raw: RawStore, sizes: Sizes
) -> list[Result]:
    facts = list(generate_history(sizes.history, SEED))
    await raw.prepare(facts, PAGE_SIZE)
    await raw.insert()
    async with _fresh(dsn, connection, "flowstore_bench_project") as store:
        await _append(store, facts, PAGE_SIZE)
        async with store.build_projection_daemon() as daemon:
            results = await measure(_projecting_cases(store, daemon, raw, sizes.history))
        await _check_alike(store, raw)
    return results


def _projecting_cases(
    store: Store, daemon: ProjectionDaemon, raw: RawStore, events: int
) -> list[Case]:
    projection = store.options.projections.find(ActiveProject).projection

    async def tear_down() -> None:
        await store.teardown(projection)

    async def rebuild() -> None:
        await daemon.rebuild(ActiveProject)

    async def fold_by_hand() -> None:
        await raw.fold(PAGE_SIZE)

    async def rebuild_by_hand() -> None:
        await raw.wipe()
        await raw.fold(PAGE_SIZE)

    return [
        Case("project", daemon.catch_up, events, prepare=tear_down),
        Case("project, raw", fold_by_hand, events, prepare=raw.wipe),
        Case("rebuild", rebuild, events),
        Case("rebuild, raw", rebuild_by_hand, events),
    ]


async def _check_alike(store: Store, raw: RawStore) -> None:
    """Refuse to report on work that wasn't the same."""
    async with store.session() as session:
        documents = await session.load_many(ActiveProject, list(raw.projects))
    if documents != list(raw.projects.values()):
        raise RuntimeError("the daemon's documents aren't those of the hand-written loop")


# -- latency ---------------------------------------------------------------------------------------


@attrs.frozen
class Latency:
    """How long single events took.

    Attributes:
        results: the rounds' whole times.
        ours: seconds from the beginning of a save until its projection is committed, one a save.
        raw: the same for the raw limit: two commits, one after the other.
    """

    results: list[Result]
    ours: list[float]
    raw: list[float]

    def notes(self) -> dict[str, dict[str, float]]:
        """Give the percentiles in milliseconds."""
        return {
            name: {place: round(_percentile(times, at) * 1_000, 3) for place, at in PLACES.items()}
            for name, times in (("save to projected", self.ours), ("raw", self.raw))
        }

    def table(self) -> str:
        """Lay the percentiles out, a line each, with the ratio to raw."""
        lines = ["latency, each save alone" + "".join(f"{place:>12}" for place in PLACES)]
        for name, places in self.notes().items():
            lines.append(f"{name:24}" + "".join(f"{each:9.3f} ms" for each in places.values()))
        shares = [_percentile(self.ours, at) / _percentile(self.raw, at) for at in PLACES.values()]
        lines.append(f"{'times raw':24}" + "".join(f"{share:12.2f}" for share in shares))
        return "\n".join(lines)


PLACES = {"p50": 50, "p99": 99}


def _percentile(times: Sequence[float], at: int) -> float:
    return statistics.quantiles(times, n=100, method="inclusive")[at - 1]


async def _latency(dsn: str, connection: Connection, raw: RawStore, sizes: Sizes) -> Latency:
    async with _fresh(dsn, connection, "flowstore_bench_latency") as store:
        await raw.prepare((), 1)
        await raw.wipe()
        async with store.build_projection_daemon(settings=DaemonSettings()) as daemon:
            await daemon.start_all()
            ours, theirs = list[float](), list[float]()
            numbers = count(1)

            async def save() -> None:
                sequence = await _save_one(store)
                await daemon.wait_for(ActiveProject, sequence)

            async def save_by_hand() -> None:
                await raw.insert_and_write(next(numbers), (LATENCY_STREAM, _commit()))

            results = await measure(
                [
                    _timed("save to projected", save, sizes.saves, ours),
                    _timed("save to projected, raw", save_by_hand, sizes.saves, theirs),
                ]
            )
    warm_up = sizes.saves
    return Latency(results, ours[warm_up:], theirs[warm_up:])


def _timed(name: str, once: Callable[[], Awaitable[None]], saves: int, times: list[float]) -> Case:
    async def run() -> None:
        for _ in range(saves):
            begin = time.perf_counter()
            await once()
            times.append(time.perf_counter() - begin)

    return Case(name, run, saves, "saves")


async def _save_one(store: Store) -> int:
    async with store.session() as session:
        action = session.events.append(LATENCY_STREAM, _commit())
        await session.save_changes()
    return action.events[-1].sequence


def _commit() -> Commit:
    return Commit("Ada Alder", additions=3, deletions=1)


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
async def _fresh(dsn: str, connection: Connection, schema: str) -> AsyncIterator[Store]:
    """Open a store in an empty schema, and drop it afterwards."""
    drop = sql.SQL("drop schema if exists {} cascade").format(sql.Identifier(schema))
    await connection.execute(drop)
    options = StoreOptions(schema=schema)
    options.projections.aggregate_streams_with(ActiveProject)
    async with open_store(dsn, options) as store:
        yield store
    await connection.execute(drop)


async def _server(connection: Connection) -> dict[str, object]:
    """Tell of the settings that these figures depend on."""
    cursor = await connection.execute(
        "select name, setting from pg_settings where name = any(%s)",
        (["server_version", "fsync", "synchronous_commit", "full_page_writes", "shared_buffers"],),
    )
    return {"server": dict(await cursor.fetchall())}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few events: only shows that it works")
    parser.add_argument("--dsn", help="a server to use instead of an embedded one")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the JSON into this file")
    return parser.parse_args()


if __name__ == "__main__":
    main()
