"""Events reach a projection in pages; progress covers them without gaps."""

from uuid import UUID, uuid4

import attrs
import pytest

from flowstore.daemon import open_store
from flowstore.projections import AsyncOptions, Lifecycle
from flowstore.store import StoreOptions


@attrs.frozen
class Counted:
    by: int = 1


@attrs.frozen
class Other:
    pass


async def append(store, *events, stream_id=None):
    stream_id = stream_id or uuid4()
    async with store.session() as session:
        session.events.append(stream_id, *events)
        await session.save_changes()
    return stream_id


async def run_to_the_end(store):
    async with store.build_projection_daemon() as daemon:
        await daemon.start_all()
        await daemon.wait_for_non_stale_results(timeout=60)


@pytest.mark.parametrize("page_size", [1, 2, 3, 5, 6, 7])
async def test_a_page_holds_at_most_page_size_events(store, recorder, table, page_size):
    recorder.async_options = AsyncOptions(page_size=page_size)
    await append(store, *[Counted()] * 6)
    await run_to_the_end(store)
    everything = list(range(1, 7))
    assert recorder.calls == [everything[at : at + page_size] for at in range(0, 6, page_size)]
    assert await table.sequences(store) == everything


async def test_streams_of_a_page_stand_in_order_of_their_first_event(store):
    seen = []

    class Noting:
        name = "noting"
        consumes = ()
        produces = None
        async_options = AsyncOptions()

        def apply(self, session, streams):
            seen.extend((each.id, [event.version for event in each.events]) for each in streams)

    store.options.projections.add(Noting())
    first, second = uuid4(), uuid4()
    for stream_id in (first, second, second, first):
        await append(store, Counted(), stream_id=stream_id)
    await run_to_the_end(store)
    assert seen == [(first, [1, 2]), (second, [1, 2])]


async def test_progress_moves_over_types_that_are_not_consumed(store, make_recorder, table):
    recorder = make_recorder(Counted, async_options=AsyncOptions(page_size=2))
    store.options.projections.add(recorder)
    await append(store, Counted(), Other(), Other(), Counted(), Other(), Counted(), *[Other()] * 9)
    await run_to_the_end(store)
    assert recorder.calls == [[1, 4], [6]]
    assert await store.progress(recorder) == 15


async def test_a_page_whose_every_event_was_filtered_out_moves_progress(store, make_recorder):
    recorder = make_recorder(Counted)
    store.options.projections.add(recorder)
    await append(store, *[Other()] * 5)
    await run_to_the_end(store)
    assert recorder.calls == []
    assert await store.progress(recorder) == 5


async def test_versions_have_holes_where_types_are_not_consumed(store, make_recorder, table):
    recorder = make_recorder(Counted)
    store.options.projections.add(recorder)
    stream_id = await append(store, Counted(), Other(), Counted())
    await run_to_the_end(store)
    assert await table.rows(store) == [(1, str(stream_id), 1), (3, str(stream_id), 3)]


async def test_archived_events_are_passed_over_and_progress_moves_over_them(store, recorder, table):
    archived = await append(store, Counted(), Counted())
    await append(store, Counted())
    await append(store, Counted(), stream_id=archived)
    async with store.session() as session:
        session.events.archive_stream(archived)
        await session.save_changes()
    await run_to_the_end(store)
    assert await table.sequences(store) == [3]
    assert await store.progress(recorder) == 4


async def test_archived_events_are_applied_where_that_is_asked_for(store, recorder, table):
    recorder.async_options = AsyncOptions(include_archived=True)
    archived = await append(store, Counted(), Counted())
    async with store.session() as session:
        session.events.archive_stream(archived)
        await session.save_changes()
    await run_to_the_end(store)
    assert await table.sequences(store) == [1, 2]


async def test_a_hole_of_a_rolled_back_append_is_passed(store, recorder, table, schema):
    async with store.connection() as connection:
        await connection.execute(f"select nextval('{schema}.events_sequence')")
    await append(store, Counted())
    await run_to_the_end(store)
    assert await table.sequences(store) == [2]


@pytest.mark.parametrize(("begin", "expected"), [("beginning", [1, 2, 3, 4]), (0, [1, 2, 3, 4])])
async def test_a_new_projection_begins_at_the_beginning(
    store, make_recorder, table, begin, expected
):
    await append(store, *[Counted()] * 4)
    store.options.projections.add(make_recorder(async_options=AsyncOptions(start_from=begin)))
    await run_to_the_end(store)
    assert await table.sequences(store) == expected


async def test_a_new_projection_begins_after_a_sequence(store, make_recorder, table):
    await append(store, *[Counted()] * 4)
    store.options.projections.add(make_recorder(async_options=AsyncOptions(start_from=3)))
    await run_to_the_end(store)
    assert await table.sequences(store) == [4]


async def test_a_new_projection_begins_now(store, make_recorder, table):
    await append(store, *[Counted()] * 4)
    recorder = make_recorder(async_options=AsyncOptions(start_from="now"))
    store.options.projections.add(recorder)
    async with store.build_projection_daemon() as daemon:
        await daemon.start_all()
        assert await store.progress(recorder) == 4
        await append(store, Counted())
        await daemon.wait_for_non_stale_results()
        await daemon.stop_all()
        await append(store, Counted())
        await daemon.start_all()
        await daemon.wait_for_non_stale_results()
    assert await table.sequences(store) == [5, 6]


async def test_a_new_projection_begins_at_a_time(store, make_recorder, table):
    await append(store, *[Counted()] * 2)
    async with store.connection() as connection:
        (when,) = await (await connection.execute("select clock_timestamp()")).fetchone()
    await append(store, *[Counted()] * 2)
    store.options.projections.add(make_recorder(async_options=AsyncOptions(start_from=when)))
    await run_to_the_end(store)
    assert await table.sequences(store) == [3, 4]


async def test_a_new_version_begins_at_the_beginning_and_leaves_the_old_alone(
    store, make_recorder, table
):
    await append(store, Counted())
    store.options.projections.add(make_recorder())
    await run_to_the_end(store)

    @attrs.define(eq=False)
    class Second:
        name: str = "recorder"
        version: int = 2
        consumes: tuple = ()
        produces: type | None = None
        async_options: AsyncOptions = attrs.field(factory=AsyncOptions)
        calls: list = attrs.field(factory=list)

        def apply(self, session, streams):
            self.calls += streams

    changed = Second()
    store.options.projections._registered.clear()
    store.options.projections.add(changed)
    async with store.build_projection_daemon() as daemon:
        await daemon.start("recorder")
        assert [status.name for status in daemon.statuses()] == ["recorder:v2"]
        await daemon.wait_for_non_stale_results()
    assert len(changed.calls) == 1
    assert await table.sequences(store) == [1]


@attrs.define
class Total:
    id: UUID
    number: int = 0
    seen: list[int] = attrs.field(factory=list)

    def apply(self, counted: Counted) -> None:
        self.number += counted.by
        self.seen.append(counted.by)


async def test_one_that_ran_inline_goes_on_in_the_daemon_where_it_was(opening):
    """What it has written stays, and what comes is added once, whoever appends it."""
    stream = uuid4()
    async with opening() as store:
        schema = store.options.schema
        store.options.projections.aggregate_streams_with(Total, lifecycle=Lifecycle.INLINE)
    options = StoreOptions(schema=schema)
    options.projections.aggregate_streams_with(
        Total, async_options=AsyncOptions(start_from="inline")
    )
    async with open_store(store.dsn, store.options) as inline:
        await append(inline, Counted(1), Counted(2), stream_id=stream)
    async with open_store(store.dsn, options) as store:
        async with store.build_projection_daemon() as daemon:
            await daemon.start_all()
            await daemon.wait_for_non_stale_results(timeout=60)
            assert await store.session().load(Total, stream) == Total(stream, 3, [1, 2])
            await append(store, Counted(3), stream_id=stream)
            await daemon.wait_for(Total, 3)
        await append(store, Counted(4), stream_id=stream)
        await run_to_the_end(store)
        assert await store.session().load(Total, stream) == Total(stream, 10, [1, 2, 3, 4])
