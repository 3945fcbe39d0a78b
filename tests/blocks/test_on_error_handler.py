"""`on_error` lets a block go on after an item has failed."""

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from flowstore.blocks import (
    ActionBlock,
    BlockFaultedError,
    BlockState,
    Network,
    SourceBlock,
    TransformBlock,
    TransformManyBlock,
    run,
)


def fail_on_odd(item):
    if item % 2:
        raise ValueError(item)
    return item


async def fail_on_odd_async(item):
    await trio.lowlevel.checkpoint()
    return fail_on_odd(item)


def many_on_odd(item):
    return [fail_on_odd(item)]


FUNCTIONS = pytest.mark.parametrize("function", [fail_on_odd, fail_on_odd_async])
PARALLELISM = pytest.mark.parametrize("parallelism", [1, 3])
HANDLERS = pytest.mark.parametrize("handler_kind", ["plain", "async"])


def handler_into(handled, kind):
    def plain(item, error):
        handled.append((item, error))
        return "ignored"

    async def from_async(item, error):
        await trio.lowlevel.checkpoint()
        handled.append((item, error))
        return "ignored"

    return plain if kind == "plain" else from_async


@FUNCTIONS
@PARALLELISM
@HANDLERS
async def test_an_action_goes_on_after_a_handled_error(function, parallelism, handler_kind):
    handled = []
    sink = ActionBlock(
        function,
        on_error=handler_into(handled, handler_kind),
        max_degree_of_parallelism=parallelism,
    )
    await run(SourceBlock(range(10)), sink)
    assert sorted(item for item, _ in handled) == [1, 3, 5, 7, 9]
    assert all(type(error) is ValueError and error.args == (item,) for item, error in handled)
    assert sink.statistics().failed == 5
    assert sink.statistics().finished == 5
    assert sink.state is BlockState.COMPLETED


@FUNCTIONS
@PARALLELISM
@HANDLERS
async def test_a_transform_leaves_a_failed_item_out(function, parallelism, handler_kind):
    handled, seen = [], []
    block = TransformBlock(
        function,
        on_error=handler_into(handled, handler_kind),
        max_degree_of_parallelism=parallelism,
    )
    await run(SourceBlock(range(10)), block, ActionBlock(seen.append))
    assert seen == [0, 2, 4, 6, 8]
    assert sorted(item for item, _ in handled) == [1, 3, 5, 7, 9]


@PARALLELISM
@HANDLERS
async def test_a_transform_many_keeps_the_outputs_already_made(parallelism, handler_kind):
    handled, seen = [], []

    def fail_after_two(item):
        yield item, 1
        yield item, 2
        if item % 2:
            raise ValueError(item)
        yield item, 3

    block = TransformManyBlock(
        fail_after_two,
        on_error=handler_into(handled, handler_kind),
        max_degree_of_parallelism=parallelism,
    )
    await run(SourceBlock([0, 1, 2]), block, ActionBlock(seen.append))
    assert seen == [(0, 1), (0, 2), (0, 3), (1, 1), (1, 2), (2, 1), (2, 2), (2, 3)]
    assert [item for item, _ in handled] == [1]
    assert block.statistics().failed == 1
    assert block.statistics().finished == 2


@PARALLELISM
async def test_a_transform_many_goes_on_after_a_function_that_failed_at_once(parallelism):
    handled, seen = [], []
    block = TransformManyBlock(
        many_on_odd,
        on_error=handler_into(handled, "plain"),
        max_degree_of_parallelism=parallelism,
    )
    await run(SourceBlock(range(5)), block, ActionBlock(seen.append))
    assert seen == [0, 2, 4]
    assert [item for item, _ in handled] == [1, 3]


@PARALLELISM
async def test_a_transform_many_keeps_the_outputs_of_an_async_generator_that_failed(parallelism):
    handled, seen = [], []

    async def fail_after_one(item):
        yield item
        await trio.lowlevel.checkpoint()
        raise ValueError(item)

    block = TransformManyBlock(
        fail_after_one,
        on_error=handler_into(handled, "async"),
        max_degree_of_parallelism=parallelism,
        bounded_capacity=1,
    )
    await run(SourceBlock([1, 2]), block, ActionBlock(seen.append))
    assert seen == [1, 2]
    assert sorted(item for item, _ in handled) == [1, 2]


@FUNCTIONS
@PARALLELISM
@HANDLERS
@pytest.mark.parametrize("make", [ActionBlock, TransformBlock])
async def test_a_handler_that_raises_faults_the_block_with_its_own_exception(
    make, function, parallelism, handler_kind
):
    replacement = KeyError("handler")

    def plain(_item, _error):
        raise replacement

    async def from_async(_item, _error):
        await trio.lowlevel.checkpoint()
        raise replacement

    block = make(
        function,
        on_error=plain if handler_kind == "plain" else from_async,
        max_degree_of_parallelism=parallelism,
    )
    with pytest.RaisesGroup(KeyError) as caught:
        async with Network() as network:
            network.add(block)
            assert block.post(1)
            await trio.sleep_forever()
    assert caught.value.exceptions == (replacement,)
    assert isinstance(replacement.__context__, ValueError)
    assert replacement.__context__.args == (1,)
    assert block.state is BlockState.FAULTED
    assert block.statistics().failed == 1
    with pytest.raises(BlockFaultedError) as faulted:
        await block.completion
    assert faulted.value.__cause__ is replacement


async def test_a_handler_may_raise_the_error_it_was_given():
    def give_up(_item, error):
        raise error

    with pytest.RaisesGroup(ValueError):
        await run(SourceBlock([1]), ActionBlock(fail_on_odd, on_error=give_up))


@PARALLELISM
async def test_a_handler_sees_no_exception_that_is_not_an_exception_subclass(parallelism):
    handled = []

    class Stop(BaseException):
        pass

    def stop(_item):
        raise Stop

    block = ActionBlock(
        stop, on_error=handler_into(handled, "plain"), max_degree_of_parallelism=parallelism
    )
    with pytest.raises(BaseExceptionGroup) as caught:
        await run(SourceBlock([1]), block)
    assert [type(error) for error in caught.value.exceptions] == [Stop]
    assert handled == []


@PARALLELISM
async def test_a_handler_does_not_see_cancellation(parallelism):
    handled = []
    async with Network() as network:
        block = network.add(
            ActionBlock(
                trio.sleep,
                on_error=handler_into(handled, "plain"),
                max_degree_of_parallelism=parallelism,
            )
        )
        await block.send_many([1_000_000, 2_000_000])
        await wait_all_tasks_blocked()
        network.cancel()
    assert handled == []
    assert block.state is BlockState.CANCELLED
    assert block.statistics().failed == 0


async def test_a_failed_item_frees_its_place():
    async with Network() as network:
        block = network.add(
            TransformBlock(fail_on_odd, on_error=lambda _item, _error: None, bounded_capacity=1)
        )
        for _ in range(5):
            await block.send(1)
            await wait_all_tasks_blocked()
        await block.send(2)
        assert await block.receive() == 2


async def test_an_item_stays_inside_until_its_handler_is_done():
    gate = trio.Event()

    async def wait(_item, _error):
        await gate.wait()

    async with Network() as network:
        sink = network.add(ActionBlock(fail_on_odd, on_error=wait, bounded_capacity=1))
        assert sink.post(1)
        await wait_all_tasks_blocked()
        assert sink.statistics().inside == 1
        assert sink.post(2) is False
        gate.set()
        await wait_all_tasks_blocked()
        assert sink.statistics().failed == 1
        assert sink.post(2) is True


@settings(deadline=None)
@given(
    plan=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.booleans()), max_size=15),
    parallelism=st.integers(1, 4),
    capacity=st.integers(1, 5),
    seed=st.random_module(),
)
async def test_failed_items_never_disturb_the_order_of_the_others(
    plan, parallelism, capacity, seed
):
    seen, handled = [], []

    async def work(entry):
        index, (delay, _handling, fails) = entry
        for _ in range(delay):
            await trio.lowlevel.checkpoint()
        if fails:
            raise ValueError
        return index

    async def handle(entry, _error):
        index, (_delay, handling, _fails) = entry
        for _ in range(handling):
            await trio.lowlevel.checkpoint()
        handled.append(index)

    with trio.fail_after(60):
        await run(
            SourceBlock(enumerate(plan)),
            TransformBlock(
                work,
                on_error=handle,
                bounded_capacity=capacity,
                max_degree_of_parallelism=parallelism,
            ),
            ActionBlock(seen.append, bounded_capacity=1),
        )
    assert seen == [index for index, entry in enumerate(plan) if not entry[2]]
    assert sorted(handled) == [index for index, entry in enumerate(plan) if entry[2]]
