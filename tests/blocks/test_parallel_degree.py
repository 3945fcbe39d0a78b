"""`max_degree_of_parallelism` and `ensure_ordered`."""

import math

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from flowstore.blocks import (
    ActionBlock,
    BlockState,
    Network,
    SourceBlock,
    TransformBlock,
    TransformManyBlock,
    run,
)


@pytest.mark.parametrize("make", [ActionBlock, TransformBlock, TransformManyBlock])
@pytest.mark.parametrize("degree", [0, -1, -math.inf, 0.5])
def test_a_degree_below_one_is_a_value_error(make, degree):
    with pytest.raises(ValueError):
        make(str, max_degree_of_parallelism=degree)


@pytest.mark.parametrize("degree", [1, 2, 5])
@pytest.mark.parametrize("make", [ActionBlock, TransformBlock])
async def test_as_many_items_run_as_the_degree_allows(make, degree):
    gate = trio.Event()
    started = []

    async def hold(item):
        started.append(item)
        await gate.wait()

    async with Network() as network:
        block = network.add(make(hold, max_degree_of_parallelism=degree))
        await block.send_many(range(10))
        await wait_all_tasks_blocked()
        assert started == list(range(degree))
        assert block.statistics().running == degree
        gate.set()
        await wait_all_tasks_blocked()
        assert sorted(started) == list(range(10))
        if make is TransformBlock:
            block.receive_all_nowait()


async def test_an_infinite_degree_runs_all_that_the_capacity_admits():
    gate = trio.Event()
    started = []

    async def hold(item):
        started.append(item)
        await gate.wait()

    async with Network() as network:
        block = network.add(
            ActionBlock(hold, max_degree_of_parallelism=math.inf, bounded_capacity=50)
        )
        source = SourceBlock(range(200))
        source.link_to(block)
        await wait_all_tasks_blocked()
        assert started == list(range(50))
        gate.set()
    assert sorted(started) == list(range(200))


async def test_the_capacity_limits_the_parallelism():
    gate = trio.Event()
    started = []

    async def hold(item):
        started.append(item)
        await gate.wait()

    async with Network() as network:
        block = network.add(ActionBlock(hold, max_degree_of_parallelism=8, bounded_capacity=2))
        source = SourceBlock(range(5))
        source.link_to(block)
        await wait_all_tasks_blocked()
        assert started == [0, 1]
        gate.set()
    assert sorted(started) == list(range(5))


async def test_a_free_worker_goes_on_while_another_is_blocked():
    gate = trio.Event()
    finished = []

    async def hold_the_first(item):
        if item == 0:
            await gate.wait()
        await trio.lowlevel.checkpoint()
        finished.append(item)

    async with Network() as network:
        sink = network.add(ActionBlock(hold_the_first, max_degree_of_parallelism=2))
        await sink.send_many(range(20))
        await wait_all_tasks_blocked()
        assert finished == list(range(1, 20))
        gate.set()
    assert finished[-1] == 0


@pytest.mark.parametrize("degree", [2, 4])
async def test_without_order_results_leave_as_they_are_ready(degree, autojump_clock):
    async def sleep(item):
        await trio.sleep(item)
        return item

    seen = []
    await run(
        SourceBlock([9, 1]),
        TransformBlock(sleep, max_degree_of_parallelism=degree, ensure_ordered=False),
        ActionBlock(seen.append),
    )
    assert seen == [1, 9]


async def test_with_order_results_wait_for_older_ones(autojump_clock):
    async def sleep(item):
        await trio.sleep(item)
        return item

    seen = []
    await run(
        SourceBlock([9, 1]),
        TransformBlock(sleep, max_degree_of_parallelism=2),
        ActionBlock(seen.append),
    )
    assert seen == [9, 1]


@pytest.mark.parametrize("make", [ActionBlock, TransformBlock])
async def test_siblings_of_a_failed_item_are_cancelled(make):
    cancelled = []

    async def work(item):
        if item == 2:
            await trio.lowlevel.checkpoint()
            raise ValueError
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            cancelled.append(item)
            raise

    block = make(work, max_degree_of_parallelism=3)
    with pytest.RaisesGroup(ValueError):
        async with Network() as network:
            network.add(block)
            await block.send_many(range(3))
            await trio.sleep_forever()
    assert sorted(cancelled) == [0, 1]
    assert block.state is BlockState.FAULTED


@pytest.mark.parametrize("degree", [1, 4])
async def test_an_unordered_block_of_any_degree_loses_nothing(degree):
    seen = []

    async def work(item):
        for _ in range(item * 7 % 5):
            await trio.lowlevel.checkpoint()
        return item

    await run(
        SourceBlock(range(300)),
        TransformBlock(
            work, max_degree_of_parallelism=degree, ensure_ordered=False, bounded_capacity=3
        ),
        ActionBlock(seen.append),
    )
    assert sorted(seen) == list(range(300))


@settings(deadline=None)
@given(
    delays=st.lists(st.integers(0, 5), max_size=20),
    degree=st.integers(1, 5),
    capacity=st.integers(1, 6),
    seed=st.random_module(),
)
async def test_items_start_in_order_and_never_more_than_the_degree(delays, degree, capacity, seed):
    started = []
    running = 0

    async def work(entry):
        nonlocal running
        index, delay = entry
        started.append(index)
        running += 1
        assert running <= min(degree, capacity)
        for _ in range(delay):
            await trio.lowlevel.checkpoint()
        running -= 1

    with trio.fail_after(60):
        await run(
            SourceBlock(enumerate(delays)),
            ActionBlock(work, max_degree_of_parallelism=degree, bounded_capacity=capacity),
        )
    assert started == list(range(len(delays)))
