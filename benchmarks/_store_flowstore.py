"""flowstore itself, as an application uses it: sessions, import, pages and a daemon."""

import gc
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial

import attrs
import trio
from _store_cases import Bench, Documents, Drawn, Entry, Job
from _store_work import APPENDS, PAGE_SIZE, Batch, history

from flowstore import ProjectionDaemon, Store, StoreOptions, open_store
from flowstore.cli._projects import ActiveProject
from flowstore.postgres import Connection

NAME = "flowstore"
BESIDE, BY_TWO = "flowstore, beside the view", "flowstore, two processes"
BESIDE_REMARK = "one process, swap=True: what two do"
BY_TWO_REMARK = "beside the view that serves; their start included"
SOURCE = "flowstore_source"
"""The schema with the history that is read, caught up and rebuilt."""


def options(schema: str, shards: int = 1) -> StoreOptions:
    """Register the project view: once, or as so many shards with documents of their own."""
    made = StoreOptions(schema=schema)
    for view in views(shards):
        made.projections.aggregate_streams_with(view)
    return made


def views(shards: int) -> list[type[ActiveProject]]:
    """Give the view, and subclasses of it that differ in name only."""
    names = [f"ActiveProject{number}" for number in range(1, shards)]
    return [ActiveProject, *(attrs.define(type(name, (ActiveProject,), {})) for name in names)]


async def source(bench: Bench) -> str:
    """Import the history once, and give its schema."""

    async def load() -> str:
        async with open_store(bench.dsn, options(SOURCE)) as store:
            await store.import_events(bench.facts())
            async with store.connection() as connection:
                await connection.execute("analyze")
        return SOURCE

    return await bench.once(SOURCE, load)


def schema_of(events: int, streams: int) -> str:
    """Tell where a history of its own length and shape is stored."""
    return f"flat_{events}_{streams}"


async def imported(bench: Bench, events: int, streams: int) -> str:
    """Import a history of its own length and shape once, and give its schema."""
    schema = schema_of(events, streams)

    async def load() -> str:
        async with open_store(bench.dsn, options(schema)) as store:
            await store.import_events(history(events, streams))
            async with store.connection() as connection:
                await connection.execute("analyze")
        return schema

    return await bench.once(schema, load)


# -- writing ---------------------------------------------------------------------------------------


def appending(key: str) -> Callable[[Bench], AbstractAsyncContextManager[Job]]:
    @asynccontextmanager
    async def opened(bench: Bench) -> AsyncIterator[Job]:
        drawn = Drawn(bench, key)
        schema = f"flowstore_{key.replace(', ', '_').replace(' ', '_')}"
        async with open_store(bench.dsn, options(schema)) as store:

            async def run() -> None:
                async with trio.open_nursery() as nursery:
                    for share in drawn.shares:
                        nursery.start_soon(append, store, share)

            yield Job(run, drawn.count, drawn.draw, table=f"{schema}.events")

    return opened


async def append(store: Store, batches: Sequence[Batch]) -> None:
    for batch in batches:
        async with store.session() as session:
            session.events.append(batch.stream_id, *batch.events, expected_version=batch.version)
            await session.save_changes()


@asynccontextmanager
async def importing(bench: Bench) -> AsyncIterator[Job]:
    schema, events = "flowstore_import", bench.sizes.imported
    facts = list(history(events, min(bench.sizes.streams, events)))
    async with await Connection.connect(bench.dsn) as connection:

        async def empty() -> None:
            # Events are append-only, and TRUNCATE is refused: a new schema is the way.
            await connection.execute(f"drop schema if exists {schema} cascade")
            async with open_store(bench.dsn, options(schema)):
                pass

        async def run() -> None:
            await opened.import_events(facts)

        await empty()
        async with open_store(bench.dsn, options(schema)) as opened:
            yield Job(run, events, empty)


# -- reading and projecting ------------------------------------------------------------------------


@asynccontextmanager
async def reading(bench: Bench) -> AsyncIterator[Job]:
    async with open_store(bench.dsn, options(await source(bench))) as store:

        async def run() -> None:
            read, floor, mark = 0, 0, await store.high_water()
            while floor < mark:
                page = await store.fetch_page(floor, mark, limit=PAGE_SIZE)
                read, floor = read + len(page.events), page.ceiling
            if read != bench.sizes.events:
                raise RuntimeError(f"read {read} events, not {bench.sizes.events}")

        yield Job(run, bench.sizes.events)


def projecting(
    run: Callable[[ProjectionDaemon], object], *, wiped: bool = False, times: int = 1
) -> Callable[[Bench], AbstractAsyncContextManager[Job]]:
    """Make a case that projects the history, or one so many times as long.

    Outside the time its documents are wiped, if they are to be.
    """

    @asynccontextmanager
    async def opened(bench: Bench) -> AsyncIterator[Job]:
        shape = (bench.sizes.events * times, bench.sizes.streams)
        schema = await (source(bench) if times == 1 else imported(bench, *shape))
        async with (
            open_store(bench.dsn, options(schema)) as store,
            store.build_projection_daemon() as daemon,
        ):

            async def wipe() -> None:
                await daemon.stop_all()
                await store.teardown(store.options.projections.find(ActiveProject).projection)
                await daemon.look_up()

            yield Job(
                partial(run, daemon),
                shape[0],
                wipe if wiped else None,
                partial(documents, store, *shape),
                None if times == 1 else partial(history, *shape),
            )

    return opened


async def documents(store: Store, events: int, streams: int) -> Documents:
    async with store.session() as session:
        ids = list(dict.fromkeys(stream_id for stream_id, _ in history(events, streams)))
        return {each.id: each for each in await session.load_many(ActiveProject, ids)}


async def catch_up(daemon: ProjectionDaemon) -> None:
    await daemon.catch_up()


async def rebuild(daemon: ProjectionDaemon) -> None:
    await daemon.rebuild(ActiveProject)


async def rebuild_beside(daemon: ProjectionDaemon) -> None:
    await daemon.rebuild(ActiveProject, swap=True)


async def rebuild_by_two(daemon: ProjectionDaemon) -> None:
    await daemon.rebuild(ActiveProject, workers=2)


def collecting_rarely(
    do: Callable[[ProjectionDaemon], Awaitable[None]],
) -> Callable[[ProjectionDaemon], Awaitable[None]]:
    """Have Python look for garbage a fifteenth as often meanwhile."""

    async def run(daemon: ProjectionDaemon) -> None:
        usual = gc.get_threshold()
        gc.set_threshold(10_000, *usual[1:])
        try:
            await do(daemon)
        finally:
            gc.set_threshold(*usual)

    return run


async def run_to_the_tail(daemon: ProjectionDaemon) -> None:
    await daemon.start_all()
    await daemon.wait_for_non_stale_results()


def following(shards: int) -> Callable[[Bench], AbstractAsyncContextManager[Job]]:
    """Make a case that appends while shards run, until all of them have the last event."""

    @asynccontextmanager
    async def opened(bench: Bench) -> AsyncIterator[Job]:
        drawn = Drawn(bench, "append 10")
        drawn.count = bench.sizes.tail
        schema = f"flowstore_tail_{shards}"
        async with (
            open_store(bench.dsn, options(schema, shards)) as store,
            store.build_projection_daemon() as daemon,
        ):
            await daemon.start_all()

            async def run() -> None:
                for share in drawn.shares:
                    await append(store, share)
                await daemon.wait_for_non_stale_results()

            yield Job(run, drawn.count, drawn.draw, table=f"{schema}.events")

    return opened


ENTRIES = [
    *(
        Entry(key, NAME, appending(key), "events as objects, encoded in the time")
        for key in APPENDS
    ),
    Entry("import", NAME, importing, "three indexes, and a row a stream"),
    Entry("read", NAME, reading, "decoded: the events' classes, with their metadata"),
    Entry(
        "catch up",
        NAME,
        projecting(catch_up, wiped=True),
        "pages of 500, as many a commit as there are",
    ),
    Entry("rebuild", NAME, projecting(rebuild), "wiping included"),
    Entry(
        "rebuild",
        "flowstore, garbage sought rarely",
        projecting(collecting_rarely(rebuild)),
        "gc.set_threshold(10_000, 10, 10): what a process of its own may do",
    ),
    Entry("rebuild", BESIDE, projecting(rebuild_beside), BESIDE_REMARK),
    Entry("rebuild", BY_TWO, projecting(rebuild_by_two), BY_TWO_REMARK),
    Entry("rebuild, long", NAME, projecting(rebuild, times=10), "wiping included"),
    Entry("rebuild, long", BESIDE, projecting(rebuild_beside, times=10), BESIDE_REMARK),
    Entry("rebuild, long", BY_TWO, projecting(rebuild_by_two, times=10), BY_TWO_REMARK),
    Entry(
        "continuous",
        NAME,
        projecting(run_to_the_tail, wiped=True),
        "a running daemon, from nothing",
    ),
    Entry("ten shards", "flowstore, one shard", following(1)),
    Entry("ten shards", "flowstore, ten shards", following(10)),
]
