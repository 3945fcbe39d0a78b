"""Graphs that keep their order pass, graphs that don't are found, and many schedules are tried."""

import re

import attrs
import pytest
import trio
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

from flowstore.blocks import (
    ActionBlock,
    BatchBlock,
    BufferBlock,
    FanOutBlock,
    StreamBlock,
    TransformBlock,
    TransformManyBlock,
    pipe,
)
from flowstore.testing import (
    KeyedItem,
    check_key_order,
    check_nothing_lost,
    check_pipeline_order,
    event_histories,
    keyed_items,
    pipelines,
)
from flowstore.testing._exploring import law_settings

HUNDRED = settings(max_examples=100, deadline=None, database=None)


@attrs.frozen
class Ordered:
    item: str


def look_up_by(probe):
    async def look_up(item):
        await probe.delay(item)
        return item

    return look_up


def parallel(source, probe):
    return pipe(source, TransformBlock(look_up_by(probe), max_degree_of_parallelism=4))


def keyed(source, probe):
    look_up = TransformBlock(
        look_up_by(probe), max_degree_of_parallelism=4, partition_by=lambda item: item.key
    )
    return pipe(source, look_up)


def batched(source):
    return pipe(source, BatchBlock(3), TransformManyBlock(list))


def copied(source):
    tee = FanOutBlock()
    source.link_to(tee)
    return pipe(tee, BufferBlock()), pipe(tee, BufferBlock(bounded_capacity=1))


def shared(source):
    even, odd = BufferBlock(), BufferBlock()
    source.link_to(even, lambda item: item.key % 2 == 0)
    source.link_to(odd)
    return even, odd


def told(source, probe):
    async def arrive(item):
        await probe.delay()
        probe.arrive(item)

    pipe(source, ActionBlock(arrive))


def passing(source):
    return source


@pytest.mark.parametrize("build", [passing, parallel, keyed, batched, copied, shared, told])
def test_graphs_that_keep_their_order_pass(build):
    check_pipeline_order(build, settings=HUNDRED)


def test_drawn_graphs_keep_their_order():
    check_pipeline_order(pipelines())
    check_pipeline_order(pipelines(), items=event_histories(Ordered), settings=HUNDRED)


def test_a_block_that_is_hasty_is_found_among_drawn_ones():
    def with_a_hasty_end(pipeline):
        return lambda source, probe: hasty(pipeline(source, probe), probe)

    with pytest.raises(AssertionError, match="arrived before"):
        check_pipeline_order(pipelines(most=2).map(with_a_hasty_end))


def test_a_drawn_graph_tells_itself_in_a_line():
    kinds = find(pipelines(), lambda drawn: len(drawn.stages) == 2, settings=HUNDRED)
    assert str(kinds) == "buffer(1, 1) -> buffer(1, 1)"


def test_graphs_of_every_kind_of_block_are_drawn():
    drawn = set()

    @settings(HUNDRED, phases=[Phase.generate])
    @given(pipelines())
    def look(pipeline):
        drawn.update(stage.kind for stage in pipeline.stages)

    look()
    assert drawn == {"buffer", "transform", "keyed", "batch", "stream", "split"}


async def test_an_async_test_may_ask_too():
    check_pipeline_order(parallel, settings=HUNDRED)
    await trio.lowlevel.checkpoint()


def test_events_keep_the_order_of_their_streams():
    check_pipeline_order(
        parallel, items=event_histories(Ordered, tenants=["a", "b"]), settings=HUNDRED
    )


# The planted bugs


def hasty(source, probe):
    look_up = TransformBlock(look_up_by(probe), max_degree_of_parallelism=2, ensure_ordered=False)
    return pipe(source, look_up)


def wrongly_keyed(source, probe):
    look_up = TransformBlock(
        look_up_by(probe), max_degree_of_parallelism=2, partition_by=lambda item: item.number
    )
    return pipe(source, look_up)


def two_ways(source, probe):
    """Items of one key take either of two ways that end in one."""
    end = BufferBlock()
    for way in (0, 1):
        slow = TransformBlock(look_up_by(probe))
        source.link_to(slow, lambda item, way=way: item.number % 2 == way)
        slow.link_to(end)
    return end


def losing(source, probe):
    async def arrive(item):
        with trio.move_on_after(0.5):
            await trio.sleep(0 if item.number < 2 else 1)
            probe.arrive(item)

    pipe(source, ActionBlock(arrive))


def doubling(source):
    return pipe(source, TransformManyBlock(lambda item: [item] * (1 + item.number // 3)))


def inventing(source):
    return pipe(source, TransformBlock(lambda item: attrs.evolve(item, number=item.number + 1)))


def newest_first(source):
    async def turned_round(items):
        for item in reversed([item async for item in items]):
            yield item

    return pipe(source, StreamBlock(turned_round))


def forgetful_when_cancelled(source, probe):
    """Passes the second on before the first, which a cancellation then loses."""

    async def arrive(item):
        if item.number == 0:
            await probe.delay()
        probe.arrive(item)

    pipe(source, ActionBlock(arrive, max_degree_of_parallelism=2))


BUGS = [
    # The seed of the schedule doesn't shrink together with the items: it may take one item more.
    (hasty, "[12] arrived before [01]"),
    (wrongly_keyed, "[12] arrived before [01]"),
    (two_ways, "[12] arrived before [01]"),
    (losing, "2 never arrived"),
    (doubling, "3 arrived 2 times"),
    (inventing, "1 arrived, and nobody sent it"),
    (newest_first, "1 arrived before 0"),
]


@pytest.mark.parametrize(("build", "story"), BUGS, ids=lambda value: getattr(value, "__name__", ""))
def test_a_planted_bug_is_found_and_told_in_short(build, story):
    with pytest.raises(AssertionError) as caught:
        check_pipeline_order(build)
    first, sent, arrived = str(caught.value).splitlines()
    assert re.fullmatch(f"key 0: {story}", first)
    assert sent.startswith("  sent ")
    assert len(sent.split()) <= 5
    assert arrived.startswith("  arrived")


def test_what_a_cancellation_loses_in_the_middle_is_found():
    with pytest.raises(AssertionError, match="arrived before"):
        check_pipeline_order(forgetful_when_cancelled)
    with pytest.raises(AssertionError, match="0 never arrived, though later ones did"):
        check_nothing_lost([0, 1], [1])


def test_hasty_blocks_are_found_without_a_probe_as_well():
    async def look_up(item):
        await trio.sleep(1)
        return item

    def build(source):
        return pipe(
            source, TransformBlock(look_up, max_degree_of_parallelism=3, ensure_ordered=False)
        )

    with pytest.raises(AssertionError, match="arrived before"):
        check_pipeline_order(build)


def test_a_pipeline_that_drops_some_is_checked_for_the_rest():
    def build(source):
        return pipe(source, TransformManyBlock(lambda item: [item] if item.number % 2 else []))

    check_pipeline_order(build, complete=False, settings=HUNDRED)
    with pytest.raises(AssertionError, match="0 never arrived"):
        check_pipeline_order(build, settings=HUNDRED)


def test_one_story_is_told_where_hypothesis_would_tell_several_as_a_group():
    assert not law_settings(settings(report_multiple_bugs=True), 100).report_multiple_bugs
    assert not law_settings(None, 100).report_multiple_bugs


def test_a_share_that_no_output_has_is_missed():
    def build(source):
        sink, some = BufferBlock(), BufferBlock()
        source.link_to(sink, lambda item: item.number != 1)
        source.link_to(some, lambda item: item.key == 1)
        source.link_to(ActionBlock(lambda _: None))
        return sink, some

    with pytest.raises(AssertionError, match="1 never arrived"):
        check_pipeline_order(build)


def test_what_a_block_raises_is_raised():
    def refuse(item):
        raise ValueError(item)

    def build(source):
        return pipe(source, TransformBlock(refuse))

    with pytest.raises(ExceptionGroup) as caught:
        check_pipeline_order(build)
    assert caught.group_contains(ValueError)


def test_hundreds_of_interleavings_are_reached():
    """Trio's scheduler is seeded under Hypothesis: without a drawn seed all runs would be alike."""
    one_run = tuple(KeyedItem(number % 2, number // 2) for number in range(8))

    def build(source, probe):
        trace = []
        traces.append(trace)

        async def look_up(item):
            trace.append(("begins", item))
            await probe.delay()
            trace.append(("ends", item))
            return item

        return pipe(source, TransformBlock(look_up, max_degree_of_parallelism=4))

    traces = []
    check_pipeline_order(build, items=st.just(one_run), cancellations=False)
    seen = {tuple(trace) for trace in traces}
    assert len(seen) >= 200


def test_cancellations_are_drawn_at_every_stage():
    counts = []

    def build(source, probe):
        counts.append(0)

        async def count(item):
            await probe.delay()
            counts[-1] += 1

        pipe(source, ActionBlock(count))

    items, many = st.just(tuple(keyed_items_of(6))), settings(HUNDRED, max_examples=900)
    check_pipeline_order(build, items=items, complete=False, settings=many)
    assert set(counts) == set(range(7))


def keyed_items_of(count):
    return [KeyedItem(0, number) for number in range(count)]


def test_items_of_one_key_and_place_are_refused():
    with pytest.raises(ValueError, match="give place="):
        check_key_order([1, 1], [1, 1])


def test_a_law_uses_the_settings_it_is_given():
    runs = []

    def build(source):
        runs.append(source)
        return source

    check_pipeline_order(
        build, items=keyed_items(most=3), settings=settings(max_examples=7, database=None)
    )
    assert 1 <= len(runs) <= 7
