"""`TransformManyBlock`: any number of outputs for each input."""

import functools

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
    TransformManyBlock,
    null_target,
    run,
)


async def async_list(item):
    await trio.lowlevel.checkpoint()
    return [item] * item


async def async_generator(item):
    for _ in range(item):
        await trio.lowlevel.checkpoint()
        yield item


async def async_generator_of(times, item):
    for _ in range(item * times):
        yield item


def generator(item):
    for _ in range(item):
        yield item


class Repeater:
    async def method(self, item):
        for _ in range(item):
            yield item

    async def __call__(self, item):
        for _ in range(item):
            yield item


class AsyncIterable:
    def __init__(self, item):
        self.item = item

    async def __aiter__(self):
        for _ in range(self.item):
            yield self.item


FUNCTIONS = [
    pytest.param(lambda item: [item] * item, id="list"),
    pytest.param(lambda item: (item,) * item, id="tuple"),
    pytest.param(lambda item: dict.fromkeys(range(item), item).values(), id="view"),
    pytest.param(lambda item: iter([item] * item), id="iterator"),
    pytest.param(generator, id="generator"),
    pytest.param(async_list, id="coroutine returning a list"),
    pytest.param(functools.partial(async_list), id="partial of a coroutine function"),
    pytest.param(async_generator, id="async generator"),
    pytest.param(functools.partial(async_generator_of, 1), id="partial of an async generator"),
    pytest.param(Repeater().method, id="async generator method"),
    pytest.param(Repeater(), id="object with async generator __call__"),
    pytest.param(AsyncIterable, id="async iterable"),
]


@pytest.mark.parametrize("parallelism", [1, 3])
@pytest.mark.parametrize("capacity", [1, 2, 128])
@pytest.mark.parametrize("function", FUNCTIONS)
async def test_every_kind_of_iterable_is_taken_apart_in_order(function, capacity, parallelism):
    seen = []
    block = TransformManyBlock(
        function, bounded_capacity=capacity, max_degree_of_parallelism=parallelism
    )
    await run(SourceBlock([2, 0, 1, 3]), block, ActionBlock(seen.append))
    assert seen == [2, 2, 1, 3, 3, 3]
    assert block.statistics().finished == 4


@pytest.mark.parametrize("parallelism", [1, 3])
@pytest.mark.parametrize("result", [None, 5])
@pytest.mark.parametrize("kind", ["plain", "async"])
async def test_a_result_that_is_no_iterable_is_a_type_error(kind, result, parallelism):
    def plain(_item):
        return result

    async def from_async(_item):
        return result

    block = TransformManyBlock(
        plain if kind == "plain" else from_async, max_degree_of_parallelism=parallelism
    )
    with pytest.RaisesGroup(TypeError):
        await run(SourceBlock([1]), block, ActionBlock(str))
    assert block.state is BlockState.FAULTED


async def test_a_text_is_an_iterable_of_its_letters():
    seen = []
    await run(SourceBlock(["ab", "", "c"]), TransformManyBlock(str), ActionBlock(seen.append))
    assert seen == ["a", "b", "c"]


@pytest.mark.parametrize("capacity", [1, 2, 5])
@pytest.mark.parametrize("kind", ["generator", "async generator"])
async def test_it_never_holds_more_outputs_than_its_capacity(kind, capacity):
    pulled = []

    def endless(_item):
        while True:
            pulled.append(len(pulled))
            yield pulled[-1]

    async def endless_async(_item):
        for output in endless(None):
            yield output

    async with Network() as network:
        block = network.add(
            TransformManyBlock(
                endless if kind == "generator" else endless_async, bounded_capacity=capacity
            )
        )
        await block.send("go")
        await wait_all_tasks_blocked()
        assert len(pulled) == capacity
        for expected in range(10):
            assert await block.receive() == expected
            await wait_all_tasks_blocked()
            assert len(pulled) == capacity + expected + 1
        network.cancel()


async def test_waiting_inputs_leave_the_running_one_a_single_output():
    pulled = []

    def endless(_item):
        while True:
            pulled.append(True)
            yield len(pulled)

    async with Network() as network:
        block = network.add(TransformManyBlock(endless, bounded_capacity=3))
        assert [block.post(item) for item in range(4)] == [True, True, True, False]
        await wait_all_tasks_blocked()
        assert len(pulled) == 1
        assert await block.receive() == 1
        await wait_all_tasks_blocked()
        assert len(pulled) == 2
        network.cancel()


async def test_unread_outputs_of_a_running_input_take_up_its_capacity():
    def endless(_item):
        while True:
            yield "output"

    async with Network() as network:
        block = network.add(TransformManyBlock(endless, bounded_capacity=3))
        assert block.post(1)
        await wait_all_tasks_blocked()
        assert block.post(2) is False
        network.cancel()


async def test_an_input_not_next_in_order_pauses_after_one_output():
    pulled = {"first": 0, "second": 0}
    gate = trio.Event()

    async def outputs(name):
        if name == "first":
            await gate.wait()
        for _ in range(5):
            pulled[name] += 1
            yield name

    async with Network() as network:
        block = network.add(TransformManyBlock(outputs, max_degree_of_parallelism=2))
        await block.send_many(["first", "second"])
        await wait_all_tasks_blocked()
        assert pulled == {"first": 0, "second": 1}
        gate.set()
        await wait_all_tasks_blocked()
        assert block.receive_all_nowait() == ["first"] * 5 + ["second"] * 5


async def test_without_order_a_later_input_does_not_wait_for_an_earlier_one():
    gate = trio.Event()

    async def outputs(name):
        if name == "first":
            await gate.wait()
        for _ in range(3):
            yield name

    async with Network() as network:
        block = network.add(
            TransformManyBlock(outputs, max_degree_of_parallelism=2, ensure_ordered=False)
        )
        await block.send_many(["first", "second"])
        await wait_all_tasks_blocked()
        assert block.receive_all_nowait() == ["second"] * 3
        gate.set()
        await wait_all_tasks_blocked()
        assert block.receive_all_nowait() == ["first"] * 3


@pytest.mark.parametrize("parallelism", [1, 2])
async def test_an_error_in_the_middle_of_an_iteration_faults(parallelism):
    def fail_after_two(_item):
        yield 1
        yield 2
        raise ValueError

    block = TransformManyBlock(fail_after_two, max_degree_of_parallelism=parallelism)
    with pytest.RaisesGroup(ValueError):
        await run(SourceBlock(["go"]), block, ActionBlock(str))
    assert block.state is BlockState.FAULTED
    assert block.statistics().failed == 1


async def test_cancellation_closes_a_running_async_generator():
    closed = []

    async def endless(_item):
        try:
            while True:
                yield "output"
        finally:
            closed.append(True)

    async with Network() as network:
        block = network.add(TransformManyBlock(endless, bounded_capacity=2))
        await block.send(1)
        await wait_all_tasks_blocked()
        network.cancel()
    assert closed == [True]


async def test_a_long_iteration_flows_through_a_capacity_of_one():
    block = TransformManyBlock(lambda _item: range(1000), bounded_capacity=1)
    async with Network() as network:
        network.add(block)
        block.link_to(null_target())
        await block.send_many([1, 2])
    assert block.statistics().finished == 2


@settings(deadline=None)
@given(
    plan=st.lists(st.lists(st.integers(0, 3), max_size=4), max_size=8),
    capacity=st.integers(1, 4),
    parallelism=st.integers(1, 3),
    ordered=st.booleans(),
    pauses=st.lists(st.integers(0, 2), min_size=1, max_size=4),
    seed=st.random_module(),
)
async def test_outputs_are_complete_and_in_the_order_of_their_inputs(
    plan, capacity, parallelism, ordered, pauses, seed
):
    seen = []

    async def outputs(entry):
        index, delays = entry
        for position, delay in enumerate(delays):
            for _ in range(delay):
                await trio.lowlevel.checkpoint()
            yield index, position

    async def note(output):
        for _ in range(pauses[len(seen) % len(pauses)]):
            await trio.lowlevel.checkpoint()
        seen.append(output)

    with trio.fail_after(60):
        await run(
            SourceBlock(enumerate(plan)),
            TransformManyBlock(
                outputs,
                bounded_capacity=capacity,
                max_degree_of_parallelism=parallelism,
                ensure_ordered=ordered,
            ),
            ActionBlock(note, bounded_capacity=1),
        )
    expected = [
        (index, position) for index, delays in enumerate(plan) for position in range(len(delays))
    ]
    if ordered:
        assert seen == expected
    else:
        assert sorted(seen) == expected
        for index in range(len(plan)):
            own = [position for who, position in seen if who == index]
            assert own == sorted(own)
