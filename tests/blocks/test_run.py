"""run(*blocks): pipes them, and runs them to the end."""

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from flowstore.blocks import (
    ActionBlock,
    BatchBlock,
    BlockState,
    BufferBlock,
    FanOutBlock,
    SourceBlock,
    StalledNetworkError,
    StreamBlock,
    TransformBlock,
    TransformManyBlock,
    run,
)


def doubled(number):
    return number * 2


async def doubled_later(number):
    await trio.lowlevel.checkpoint()
    return number * 2


@pytest.mark.parametrize("function", [doubled, doubled_later])
@pytest.mark.parametrize("parallelism", [1, 4])
@pytest.mark.parametrize("capacity", [1, 128])
async def test_it_runs_the_chain_to_its_end(function, parallelism, capacity):
    seen = []
    transform = TransformBlock(
        function, max_degree_of_parallelism=parallelism, bounded_capacity=capacity
    )
    sink = ActionBlock(seen.append)
    await run(SourceBlock(range(150)), transform, sink)
    assert seen == [number * 2 for number in range(150)]
    assert transform.state is sink.state is BlockState.COMPLETED


async def test_it_returns_none():
    assert await run(SourceBlock([1]), ActionBlock(lambda _: None)) is None


async def test_an_empty_source_ends_it_at_once():
    seen = []
    await run(SourceBlock([]), TransformBlock(doubled), ActionBlock(seen.append))
    assert seen == []


async def test_a_lone_block_is_completed_as_the_head():
    seen = []
    sink = ActionBlock(seen.append)
    sink.post("item")
    await run(sink)
    assert seen == ["item"]
    assert sink.state is BlockState.COMPLETED


async def test_items_posted_before_it_are_processed():
    seen = []
    buffer = BufferBlock()
    for item in range(3):
        buffer.post(item)
    await run(buffer, ActionBlock(seen.append))
    assert seen == [0, 1, 2]


async def test_it_runs_every_kind_of_block_in_a_row():
    async def totals(items):
        total = 0
        async for item in items:
            total += item
            yield total

    seen = []
    await run(
        SourceBlock(range(5)),
        BufferBlock(),
        TransformBlock(doubled),
        BatchBlock(2),
        TransformManyBlock(list),
        StreamBlock(totals),
        FanOutBlock(),
        ActionBlock(seen.append),
    )
    assert seen == [0, 2, 6, 12, 20]


@pytest.mark.parametrize("parallelism", [1, 4])
async def test_a_fault_leaves_as_the_only_member_of_a_flat_group(parallelism):
    def break_at_three(number):
        if number == 3:
            raise ZeroDivisionError
        return number

    transform = TransformBlock(
        break_at_three, name="breaker", max_degree_of_parallelism=parallelism
    )
    with pytest.RaisesGroup(ZeroDivisionError) as caught:
        await run(SourceBlock(range(10)), transform, ActionBlock(lambda _: None))
    notes = "\n".join(caught.value.exceptions[0].__notes__)
    assert "breaker" in notes
    assert "3" in notes
    assert transform.state is BlockState.FAULTED


@pytest.mark.parametrize("parallelism", [1, 4])
async def test_a_fault_behind_a_predicate_leaves_alone_although_its_link_has_gone(parallelism):
    """The item the source still holds for the faulted block is no second fault."""

    async def broken(number):
        await trio.lowlevel.checkpoint()
        raise ZeroDivisionError

    source = SourceBlock([1, 3, 5, 7])
    source.link_to(ActionBlock(lambda _: None), lambda number: number % 2 == 0)
    broken_sink = ActionBlock(broken, bounded_capacity=1, max_degree_of_parallelism=parallelism)
    source.link_to(broken_sink, lambda number: number % 2 == 1)
    with pytest.RaisesGroup(ZeroDivisionError):
        await run(source)


async def test_an_outer_cancellation_ends_it():
    blocks = SourceBlock(iter(int, 1)), ActionBlock(lambda _: None)
    with trio.CancelScope() as scope:

        async def cancel(item):
            scope.cancel()
            return item

        await run(blocks[0], TransformBlock(cancel), blocks[1])
    assert scope.cancelled_caught
    assert {block.state for block in blocks} == {BlockState.CANCELLED}


async def test_unread_output_of_the_last_block_is_a_stall(autojump_clock):
    with trio.fail_after(10), pytest.RaisesGroup(StalledNetworkError):
        await run(SourceBlock([1]), BufferBlock())


async def test_the_last_block_may_be_read_from_outside():
    received = []
    buffer = BufferBlock(bounded_capacity=1)

    async def reader():
        received.extend([item async for item in buffer])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(reader)
        await wait_all_tasks_blocked()
        await run(SourceBlock(range(5)), buffer)
    assert received == [0, 1, 2, 3, 4]


async def test_two_runs_at_once_do_not_mix():
    seen = [], []
    async with trio.open_nursery() as nursery:
        for index in range(2):
            source = SourceBlock([(index, item) for item in range(50)])
            nursery.start_soon(run, source, ActionBlock(seen[index].append))
    assert seen[0] == [(0, item) for item in range(50)]
    assert seen[1] == [(1, item) for item in range(50)]


@settings(deadline=None)
@given(
    delays=st.lists(st.integers(0, 3)),
    capacity=st.integers(1, 5),
    parallelism=st.integers(1, 4),
    schedule=st.random_module(),
)
async def test_items_arrive_in_the_order_they_left_at_any_parallelism(
    delays, capacity, parallelism, schedule
):
    seen = []

    async def delayed(item):
        for _ in range(item[1]):
            await trio.lowlevel.checkpoint()
        return item[0]

    transform = TransformBlock(
        delayed, bounded_capacity=capacity, max_degree_of_parallelism=parallelism
    )
    await run(SourceBlock(enumerate(delays)), transform, ActionBlock(seen.append))
    assert seen == list(range(len(delays)))
