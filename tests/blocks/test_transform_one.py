"""`TransformBlock`: one output for each input, in the order of the inputs."""

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from flowstore.blocks import ActionBlock, BlockState, Network, SourceBlock, TransformBlock, run


@pytest.mark.parametrize("parallelism", [1, 2, 8])
@pytest.mark.parametrize("capacity", [1, 2, 128])
async def test_each_input_gives_one_output_in_order(capacity, parallelism):
    seen = []

    async def square(item):
        for _ in range(item % 4):
            await trio.lowlevel.checkpoint()
        return item * item

    await run(
        SourceBlock(range(200)),
        TransformBlock(square, bounded_capacity=capacity, max_degree_of_parallelism=parallelism),
        ActionBlock(seen.append, bounded_capacity=capacity),
    )
    assert seen == [item * item for item in range(200)]


@pytest.mark.parametrize("parallelism", [1, 4])
async def test_none_is_a_result_like_any_other(parallelism):
    seen = []
    await run(
        SourceBlock(range(3)),
        TransformBlock(lambda _item: None, max_degree_of_parallelism=parallelism),
        ActionBlock(seen.append),
    )
    assert seen == [None] * 3


async def test_send_all_then_receive_all():
    async with Network() as network:
        block = network.add(TransformBlock(str))
        for item in range(100):
            await block.send(item)
        assert [await block.receive() for _ in range(100)] == [str(item) for item in range(100)]


async def test_chained_send_and_receive():
    async with Network() as network:
        block = network.add(TransformBlock(str, bounded_capacity=1))
        for item in range(100):
            await block.send(item)
            assert await block.receive() == str(item)


@pytest.mark.parametrize("parallelism", [1, 4])
async def test_a_full_output_stops_the_work(parallelism):
    started = []
    async with Network() as network:
        block = TransformBlock(
            started.append, bounded_capacity=2, max_degree_of_parallelism=parallelism
        )
        source = SourceBlock(range(10))
        source.link_to(block)
        network.add(block)
        await wait_all_tasks_blocked()
        assert started == [0, 1]
        await block.receive()
        await wait_all_tasks_blocked()
        assert started == [0, 1, 2]
        assert len([item async for item in block]) == 9


async def test_twenty_transforms_in_a_row_keep_order_and_completeness():
    seen = []
    stages = [
        TransformBlock(lambda item: item + 1, bounded_capacity=1 + number % 3)
        for number in range(20)
    ]
    await run(SourceBlock(range(100)), *stages, ActionBlock(seen.append))
    assert seen == list(range(20, 120))
    assert {stage.state for stage in stages} == {BlockState.COMPLETED}


@settings(deadline=None)
@given(
    delays=st.lists(st.integers(0, 5), max_size=20),
    capacity=st.integers(1, 5),
    parallelism=st.integers(1, 4),
    sink_capacity=st.integers(1, 3),
    seed=st.random_module(),
)
async def test_results_leave_in_the_order_of_their_inputs(
    delays, capacity, parallelism, sink_capacity, seed
):
    seen = []

    async def wait(entry):
        index, delay = entry
        for _ in range(delay):
            await trio.lowlevel.checkpoint()
        return index

    with trio.fail_after(60):
        await run(
            SourceBlock(enumerate(delays)),
            TransformBlock(wait, bounded_capacity=capacity, max_degree_of_parallelism=parallelism),
            ActionBlock(seen.append, bounded_capacity=sink_capacity),
        )
    assert seen == list(range(len(delays)))
