"""The daemon's three blocks, linked by an application with blocks of its own between."""

from collections import Counter
from uuid import UUID, uuid4

import attrs
import pytest
import trio

from flowstore.blocks import ActionBlock, Network, TransformBlock, run
from flowstore.daemon import event_source, group_by_stream, projection_sink
from flowstore.errors import DatabaseError, ProgressConflictError
from flowstore.events import EventBatch, EventPage
from flowstore.projections import AsyncOptions, aggregate_projection


@attrs.frozen
class Counted:
    by: int = 1


@attrs.frozen
class Other:
    pass


@attrs.define
class Total:
    id: UUID
    number: int = 0

    def apply(self, counted: Counted) -> None:
        self.number += counted.by


@pytest.fixture
def options(options):
    options.events.add_types(Counted, Other)
    return options


async def append(store, *events, stream_id=None):
    stream_id = stream_id or uuid4()
    async with store.session() as session:
        session.events.append(stream_id, *events)
        await session.save_changes()
    return stream_id


async def read(store, **options):
    """Collect the pages of a source that ends."""
    pages = []
    with trio.fail_after(60):
        await run(event_source(store, **options), ActionBlock(pages.append))
    return pages


def spans(pages):
    return [(page.floor, page.ceiling, [event.sequence for event in page.events]) for page in pages]


# -- the source --


async def test_pages_follow_each_other_without_gaps(store):
    await append(store, *[Counted()] * 5)
    pages = await read(store, follow=False, page_size=2)
    assert all(isinstance(page, EventPage) for page in pages)
    assert spans(pages) == [(0, 2, [1, 2]), (2, 4, [3, 4]), (4, 5, [5])]
    assert [event.data for page in pages for event in page.events] == [Counted()] * 5


async def test_without_following_it_ends_at_the_mark_of_the_start(store):
    await append(store, *[Counted()] * 3)
    seen = []

    async def note_and_append(page):
        seen.append(page.ceiling)
        await append(store, Counted())

    with trio.fail_after(60):
        source = event_source(store, follow=False, page_size=1)
        await run(source, ActionBlock(note_and_append, bounded_capacity=1))
    assert seen == [1, 2, 3]


async def test_an_empty_store_has_no_pages(store):
    assert await read(store, follow=False) == []


async def test_reading_begins_after_the_floor_and_ends_at_the_ceiling(store):
    await append(store, *[Counted()] * 9)
    assert spans(await read(store, floor=3, ceiling=6)) == [(3, 6, [4, 5, 6])]
    assert spans(await read(store, floor=3, ceiling=6, follow=False)) == [(3, 6, [4, 5, 6])]
    assert spans(await read(store, floor=7, ceiling=60, follow=False)) == [(7, 9, [8, 9])]
    assert await read(store, floor=4, ceiling=4) == []
    assert await read(store, floor=20, follow=False) == []


async def test_a_ceiling_that_is_not_there_yet_is_waited_for(store):
    async with trio.open_nursery() as nursery:
        seen = []

        async def follow():
            seen.extend(spans(await read(store, ceiling=3)))

        nursery.start_soon(follow)
        for _ in range(4):
            await append(store, Counted())
            await trio.testing.wait_all_tasks_blocked(0.01)
    assert [sequence for _, _, sequences in seen for sequence in sequences] == [1, 2, 3]


async def test_types_that_are_not_consumed_are_passed_over(store):
    await append(store, Counted(), Other(), Other(), Counted(), Other())
    pages = await read(store, follow=False, consumes=(Counted,), page_size=1)
    assert spans(pages) == [(0, 1, [1]), (1, 4, [4]), (4, 5, [])]


async def test_the_floor_may_be_a_projections_progress(store, recorder):
    await append(store, *[Counted()] * 4)
    async with store.build_projection_daemon() as daemon:
        await daemon.rewind("recorder", 3)
    assert spans(await read(store, floor=recorder, follow=False)) == [(3, 4, [4])]


async def test_a_following_source_ends_when_it_is_completed(store):
    await append(store, *[Counted()] * 3)
    arrived = trio.Event()
    source = event_source(store)
    with trio.fail_after(60):
        async with Network() as network:
            source.link_to(ActionBlock(lambda _: arrived.set()))
            network.add(source)
            await arrived.wait()
            source.complete()


async def test_a_source_that_is_full_ends_when_it_is_completed(store):
    """Its generators stand at a page that nobody takes."""
    await append(store, *[Counted()] * 9)
    source = event_source(store, page_size=1, bounded_capacity=1)
    first, opened = trio.Event(), trio.Event()
    taken = []

    async def take(page):
        taken.append(page.ceiling)
        first.set()
        await opened.wait()

    with trio.fail_after(60):
        async with Network() as network:
            source.link_to(ActionBlock(take, bounded_capacity=1))
            network.add(source)
            await first.wait()
            await trio.testing.wait_all_tasks_blocked(0.05)
            source.complete()
            opened.set()
    assert taken == list(range(1, len(taken) + 1))
    assert len(taken) < 9


async def test_back_pressure_bounds_what_is_read_ahead(store):
    await append(store, *[Counted()] * 20)
    source = event_source(store, page_size=1, bounded_capacity=3, follow=False)
    opened = trio.Event()

    async def hold(_):
        await opened.wait()

    async with Network() as network:
        source.link_to(ActionBlock(hold, bounded_capacity=1))
        network.add(source)
        await trio.testing.wait_all_tasks_blocked(0.1)
        assert source.statistics().accepted <= 5
        opened.set()


@pytest.mark.parametrize(
    ("wrong", "told"),
    [({"page_size": 0}, "page_size"), ({"floor": 5, "ceiling": 4}, "below floor")],
)
async def test_bounds_that_make_no_sense_are_refused(store, wrong, told):
    with pytest.raises(ValueError, match=told):
        event_source(store, **wrong)


async def test_a_source_that_can_not_read_faults_its_network(store, schema):
    async with store.connection() as connection:
        await connection.execute(f"alter table {schema}.events rename to elsewhere")
    with pytest.raises(ExceptionGroup) as caught:
        await read(store, follow=False)
    (error,) = caught.value.exceptions
    assert isinstance(error, DatabaseError)


# -- grouping --


async def test_grouping_keeps_floor_ceiling_and_failures(store, schema):
    first = await append(store, Counted(1))
    second = await append(store, Counted(2))
    async with store.connection() as connection:
        await connection.execute(
            f"insert into {schema}.events (stream_id, version, type, data)"
            " values (gen_random_uuid(), 1, 'unheard_of', '{}')"
        )
    await append(store, Counted(3), stream_id=first)
    batches = []
    await run(event_source(store, follow=False), group_by_stream(), ActionBlock(batches.append))
    (batch,) = batches
    assert isinstance(batch, EventBatch)
    assert (batch.floor, batch.ceiling) == (0, 4)
    assert [failure.sequence for failure in batch.failures] == [3]
    found = [(each.id, [event.version for event in each.events]) for each in batch.streams]
    assert found == [(first, [1, 2]), (second, [1])]


# -- the sink --


async def test_a_projection_that_is_not_registered_is_run_to_the_end(store):
    projection = aggregate_projection(Total)
    stream_id = await append(store, Counted(1), Counted(2))
    source = event_source(store, follow=False)
    await run(source, group_by_stream(), projection_sink(store, projection))
    assert await store.session().load(Total, stream_id) == Total(stream_id, 3)
    assert await store.progress(projection) == 2


async def test_a_pipeline_goes_on_from_the_projections_progress(store, table, make_recorder):
    recorder = make_recorder()
    for _ in range(3):
        await append(store, Counted(), Counted())
        source = event_source(store, floor=recorder, follow=False, page_size=1)
        await run(source, group_by_stream(), projection_sink(store, recorder))
    assert await table.sequences(store) == [1, 2, 3, 4, 5, 6]


async def test_a_daemon_goes_on_where_a_pipeline_ended(store, table, recorder):
    await append(store, *[Counted()] * 3)
    source = event_source(store, follow=False)
    await run(source, group_by_stream(), projection_sink(store, recorder))
    await append(store, Counted())
    async with store.build_projection_daemon() as daemon:
        await daemon.start_all()
        await daemon.wait_for_non_stale_results()
    assert recorder.calls == [[1, 2, 3], [4]]


async def test_an_applications_block_between_changes_what_is_applied(store, table, make_recorder):
    recorder = make_recorder()
    await append(store, *[Counted(number) for number in range(6)])

    def keep_even(page):
        return attrs.evolve(page, events=[each for each in page.events if each.data.by % 2 == 0])

    await run(
        event_source(store, follow=False, page_size=2),
        TransformBlock(keep_even),
        group_by_stream(),
        projection_sink(store, recorder),
    )
    assert await table.sequences(store) == [1, 3, 5]
    assert await store.progress(recorder) == 6


async def test_parallel_work_between_keeps_the_order(store, table, make_recorder):
    recorder = make_recorder()
    await append(store, *[Counted()] * 12)

    async def look_something_up(page):
        for _ in range((7 * page.ceiling) % 5):
            await trio.lowlevel.checkpoint()
        return page

    await run(
        event_source(store, follow=False, page_size=1),
        TransformBlock(look_something_up, max_degree_of_parallelism=4, bounded_capacity=8),
        group_by_stream(),
        projection_sink(store, recorder),
    )
    assert await table.sequences(store) == list(range(1, 13))


async def test_a_block_beside_sees_what_the_sink_sees(store, table, make_recorder):
    recorder = make_recorder()
    await append(store, Counted(), Other(), Counted())
    counts = Counter()

    def count(page):
        counts.update(event.type_name for event in page.events)
        return page

    await run(
        event_source(store, follow=False),
        TransformBlock(count),
        group_by_stream(),
        projection_sink(store, recorder),
    )
    assert counts == {"counted": 2, "other": 1}


async def test_a_sink_sets_poison_aside_as_the_projection_says(store, table, make_recorder):
    recorder = make_recorder(fails=lambda event: event.sequence == 2)
    await append(store, *[Counted()] * 3)
    source = event_source(store, follow=False)
    await run(source, group_by_stream(), projection_sink(store, recorder))
    assert await table.sequences(store) == [1, 3]
    assert [letter.sequence for letter in await store.dead_letters()] == [2]


async def test_a_sink_faults_before_poison_if_the_projection_says_stop(store, table, make_recorder):
    options = AsyncOptions(on_error="stop")
    recorder = make_recorder(fails=lambda event: event.sequence == 2, async_options=options)
    await append(store, *[Counted()] * 3)
    source = event_source(store, follow=False)
    with pytest.raises(ExceptionGroup) as caught:
        await run(source, group_by_stream(), projection_sink(store, recorder))
    (error,) = caught.value.exceptions
    assert (error.shard, error.sequence) == ("recorder", 2)
    assert await store.progress(recorder) == 1


@pytest.mark.parametrize("floor", [1, 3])
async def test_a_batch_off_the_progress_is_a_conflict_and_writes_nothing(
    store, table, recorder, floor
):
    await append(store, *[Counted()] * 4)
    async with store.build_projection_daemon() as daemon:
        await daemon.rewind("recorder", 2)
    source = event_source(store, floor=floor, follow=False)
    with pytest.raises(ExceptionGroup) as caught:
        await run(source, group_by_stream(), projection_sink(store, recorder))
    (error,) = caught.value.exceptions
    assert isinstance(error, ProgressConflictError)
    assert (error.shard, error.expected, error.found) == ("recorder", floor, 2)
    assert await table.sequences(store) == []
    assert await store.progress("recorder") == 2
