"""Two versions of a projection live side by side, each with documents and progress of its own."""

from uuid import UUID, uuid4

import attrs
import pytest
import trio

from flowstore.blocks import pipe, run
from flowstore.daemon import event_source, group_by_stream, projection_sink
from flowstore.projections import (
    Composite,
    FlatTable,
    Lifecycle,
    Projections,
    across_streams_projection,
    aggregate_projection,
    transform_projection,
)

PATIENCE = 60


@attrs.frozen
class Counted:
    by: int


@attrs.define
class Total:
    id: UUID
    number: int = 0

    def apply(self, counted: Counted) -> None:
        self.number += counted.by


@attrs.define
class ByParity:
    id: int
    number: int = 0

    def apply(self, counted: Counted) -> None:
        self.number += counted.by


@attrs.frozen
class Entry:
    id: UUID
    by: int


def entry(counted: Counted) -> Entry:
    return Entry(UUID(int=counted.by), counted.by)


def rows(version):
    return FlatTable("rows", key="id", key_type=UUID, columns={"n": int}, version=version).on(
        Counted, increment={"n": "by"}
    )


MAKERS = {
    "aggregate": lambda version: aggregate_projection(Total, version=version),
    "across streams": lambda version: across_streams_projection(
        ByParity, group_by={Counted: lambda e: e.by % 2}, version=version
    ),
    "transform": lambda version: transform_projection(entry, version=version),
    "flat table": rows,
    "composite": lambda version: Composite("both", version=version).stage(
        aggregate_projection(Total, version=version), rows(version)
    ),
}
TABLES = {
    "aggregate": ["doc_total"],
    "across streams": ["doc_by_parity"],
    "transform": ["doc_entry"],
    "flat table": ["rows"],
    "composite": ["doc_total", "rows"],
}


def registered(projection, lifecycle=Lifecycle.ASYNC):
    projections = Projections()
    projections.add(projection, lifecycle=lifecycle)
    return projections


async def append(store, *numbers):
    async with store.session() as session:
        for number in numbers:
            session.events.append(uuid4(), Counted(number))
        await session.save_changes()


async def contents(store, tables):
    """Read what the tables hold; rows of documents without when and how often they were written."""
    found = {}
    async with store.connection() as connection:
        for table in tables:
            query = (
                f"select to_jsonb(t) - 'modified' - 'version' from {store.options.schema}.{table} t"
            )
            cursor = await connection.execute(query)
            found[table] = sorted(str(row) for (row,) in await cursor.fetchall())
    return found


async def run_until_current(store):
    with trio.fail_after(PATIENCE):
        async with store.build_projection_daemon() as daemon:
            await daemon.start_all()
            await daemon.wait_for_non_stale_results()


@pytest.mark.parametrize("kind", MAKERS)
async def test_two_versions_run_side_by_side_and_the_old_one_can_be_cleaned_up(serving, kind):
    make, old = MAKERS[kind], TABLES[kind]
    new = [f"{table}_v2" for table in old]
    async with serving(registered(make(1))) as blue, serving(registered(make(2))) as green:
        await append(blue, 1, 2, 3)
        await run_until_current(blue)
        assert (await green.progress(make(1)), await green.progress(make(2))) == (3, 0)
        assert not any((await contents(green, new)).values())
        await append(blue, 4)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run_until_current, blue)
            nursery.start_soon(run_until_current, green)
        before = await contents(green, new)
        assert list(before.values()) == list((await contents(blue, old)).values())
        assert all(before.values())

        # Blue is gone; green takes away what it left.
        await green.teardown(make(1))
        assert not any((await contents(green, old)).values())
        assert await contents(green, new) == before
        assert (await green.progress(make(1)), await green.progress(make(2))) == (0, 4)


async def test_load_reads_the_registered_versions_documents(serving):
    async with (
        serving(registered(aggregate_projection(Total), Lifecycle.INLINE)) as blue,
        serving(registered(aggregate_projection(Total, version=2), Lifecycle.INLINE)) as green,
    ):
        first, second = uuid4(), uuid4()
        for store, stream in ((blue, first), (green, second)):
            async with store.session() as session:
                session.events.append(stream, Counted(1))
                await session.save_changes()
        for store, has, lacks in ((blue, first, second), (green, second, first)):
            assert await store.session().load(Total, has) == Total(has, 1)
            assert await store.session().load(Total, lacks) is None


async def test_a_rebuild_of_one_version_leaves_the_other_alone(serving):
    async with (
        serving(registered(aggregate_projection(Total))) as blue,
        serving(registered(aggregate_projection(Total, version=2))) as green,
    ):
        await append(blue, 1, 2)
        await run_until_current(blue)
        before = await contents(blue, ["doc_total"])
        async with green.build_projection_daemon() as daemon:
            await daemon.rebuild(Total)
        assert await contents(blue, ["doc_total"]) == before
        assert len((await contents(green, ["doc_total_v2"]))["doc_total_v2"]) == 2


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("known", [1, 2])
async def test_a_sink_writes_where_its_own_version_does_whichever_is_registered(
    serving, kind, known
):
    make, old = MAKERS[kind], TABLES[kind]
    new = [f"{table}_v2" for table in old]
    own, other = (old, new) if known == 1 else (new, old)
    async with serving(registered(make(known))) as store:
        await append(store, 1, 2, 3)
        await run_until_current(store)
        before = await contents(store, own)
        beside = make(3 - known)
        for count in (1, 2):
            if count == 2:
                await append(store, 1, 4)
            source = event_source(store, floor=beside, follow=False, page_size=2)
            with trio.fail_after(PATIENCE):
                await run(pipe(source, group_by_stream(), projection_sink(store, beside)))
        assert await contents(store, own) == before
        await run_until_current(store)
        there = await contents(store, own)
        assert all(there.values())
        assert list((await contents(store, other)).values()) == list(there.values())
