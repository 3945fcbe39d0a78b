"""`partition_by` keeps order per key and works across keys in parallel."""

import math
from collections import defaultdict

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
    run,
)


def key_of(item):
    return item[0]


ITEMS = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 4)), max_size=20)


@settings(deadline=None)
@given(
    items=ITEMS,
    parallelism=st.integers(1, 4),
    capacity=st.integers(1, 6),
    seed=st.random_module(),
)
async def test_items_of_a_key_start_and_finish_in_order(items, parallelism, capacity, seed):
    log = defaultdict(list)
    running = 0

    async def work(entry):
        nonlocal running
        index, (key, delay) = entry
        running += 1
        assert running <= parallelism
        log[key].append(("start", index))
        for _ in range(delay):
            await trio.lowlevel.checkpoint()
        log[key].append(("finish", index))
        running -= 1

    with trio.fail_after(60):
        await run(
            SourceBlock(enumerate(items)),
            ActionBlock(
                work,
                partition_by=lambda entry: entry[1][0],
                max_degree_of_parallelism=parallelism,
                bounded_capacity=capacity,
            ),
        )
    for key in "abc":
        own = [index for index, item in enumerate(items) if item[0] == key]
        assert log[key] == [(what, index) for index in own for what in ("start", "finish")]


@settings(deadline=None)
@given(
    items=ITEMS,
    parallelism=st.integers(1, 4),
    capacity=st.integers(1, 6),
    sink_capacity=st.integers(1, 3),
    seed=st.random_module(),
)
async def test_results_of_a_key_leave_in_order(items, parallelism, capacity, sink_capacity, seed):
    seen = defaultdict(list)

    async def work(entry):
        index, (key, delay) = entry
        for _ in range(delay):
            await trio.lowlevel.checkpoint()
        return key, index

    with trio.fail_after(60):
        await run(
            SourceBlock(enumerate(items)),
            TransformBlock(
                work,
                partition_by=lambda entry: entry[1][0],
                max_degree_of_parallelism=parallelism,
                bounded_capacity=capacity,
            ),
            ActionBlock(
                lambda result: seen[result[0]].append(result[1]), bounded_capacity=sink_capacity
            ),
        )
    for key in "abc":
        assert seen[key] == [index for index, item in enumerate(items) if item[0] == key]


async def test_different_keys_run_in_parallel():
    gate = trio.Event()
    running = []

    async def hold(item):
        running.append(item)
        await gate.wait()

    async with Network() as network:
        sink = network.add(ActionBlock(hold, partition_by=key_of, max_degree_of_parallelism=3))
        await sink.send_many(["a1", "b1", "c1"])
        await wait_all_tasks_blocked()
        assert sorted(running) == ["a1", "b1", "c1"]
        gate.set()


async def test_the_parallelism_limits_all_keys_together():
    gate = trio.Event()
    running = []

    async def hold(item):
        running.append(item)
        await gate.wait()

    async with Network() as network:
        sink = network.add(ActionBlock(hold, partition_by=key_of, max_degree_of_parallelism=2))
        await sink.send_many(["a1", "b1", "c1", "d1"])
        await wait_all_tasks_blocked()
        assert running == ["a1", "b1"]
        gate.set()
    assert sorted(running) == ["a1", "b1", "c1", "d1"]


@pytest.mark.parametrize("parallelism", [2, 8, math.inf])
async def test_a_blocked_key_never_blocks_others(parallelism):
    gate = trio.Event()
    finished = []

    async def hold_a(item):
        if item[0] == "a":
            await gate.wait()
        finished.append(item)

    async with Network() as network:
        sink = network.add(
            ActionBlock(hold_a, partition_by=key_of, max_degree_of_parallelism=parallelism)
        )
        blocked = [f"a{number}" for number in range(20)]
        await sink.send_many([*blocked, "b1", "c1", "b2"])
        await wait_all_tasks_blocked()
        assert sorted(finished) == ["b1", "b2", "c1"]
        assert finished.index("b1") < finished.index("b2")
        gate.set()
        await network.wait_idle()
        assert finished[3:] == blocked


async def test_results_of_other_keys_do_not_wait_for_a_blocked_key():
    gate = trio.Event()

    async def hold_a(item):
        if item[0] == "a":
            await gate.wait()
        return item

    async with Network() as network:
        block = network.add(
            TransformBlock(hold_a, partition_by=key_of, max_degree_of_parallelism=2)
        )
        await block.send_many(["a1", "a2", "b1", "b2"])
        await wait_all_tasks_blocked()
        assert block.receive_all_nowait() == ["b1", "b2"]
        gate.set()
        await wait_all_tasks_blocked()
        assert block.receive_all_nowait() == ["a1", "a2"]


@pytest.mark.parametrize("kind", ["plain", "async"])
async def test_one_key_alone_runs_one_item_at_a_time(kind):
    running = 0
    seen = []

    def plain(item):
        seen.append(item)

    async def work(item):
        nonlocal running
        running += 1
        assert running == 1
        await trio.lowlevel.checkpoint()
        running -= 1
        seen.append(item)

    await run(
        SourceBlock(range(50)),
        ActionBlock(
            plain if kind == "plain" else work,
            partition_by=lambda _item: "one key",
            max_degree_of_parallelism=8,
        ),
    )
    assert seen == list(range(50))


@pytest.mark.parametrize("parallelism", [1, 4])
async def test_a_key_function_that_raises_faults_the_block(parallelism):
    def no_key(_item):
        raise ValueError("no key")

    sink = ActionBlock(
        str, partition_by=no_key, max_degree_of_parallelism=parallelism, name="keyed"
    )
    with pytest.RaisesGroup(ValueError) as caught:
        async with Network() as network:
            network.add(sink)
            sink.post("the item")
            await trio.sleep_forever()
    assert sink.state is BlockState.FAULTED
    notes = "\n".join(caught.value.exceptions[0].__notes__)
    assert "keyed" in notes
    assert "'the item'" in notes


@pytest.mark.parametrize("parallelism", [1, 3])
async def test_a_key_function_that_raises_faults_an_async_block_and_names_the_item(parallelism):
    def no_key(_item):
        raise ValueError("no key")

    sink = ActionBlock(
        trio.sleep, partition_by=no_key, max_degree_of_parallelism=parallelism, name="keyed"
    )
    assert sink.post("the item")
    with pytest.RaisesGroup(ValueError) as caught:
        async with Network() as network:
            network.add(sink)
    assert sink.statistics().failed == 1
    notes = "\n".join(caught.value.exceptions[0].__notes__)
    assert "keyed" in notes
    assert "'the item'" in notes


async def test_many_keys_leave_nothing_behind():
    sink = ActionBlock(
        str, partition_by=lambda item: item % 1000, max_degree_of_parallelism=3, bounded_capacity=7
    )
    await run(SourceBlock(range(5000)), sink)
    assert sink.statistics().finished == 5000


async def test_on_error_keeps_the_order_of_its_key():
    log = []

    async def fail(item):
        await trio.lowlevel.checkpoint()
        log.append(("fail", item))
        raise ValueError

    async def handle(item, _error):
        await trio.lowlevel.checkpoint()
        log.append(("handled", item))

    await run(
        SourceBlock(["a1", "a2", "a3"]),
        ActionBlock(fail, on_error=handle, partition_by=key_of, max_degree_of_parallelism=4),
    )
    assert log == [(what, item) for item in ("a1", "a2", "a3") for what in ("fail", "handled")]
