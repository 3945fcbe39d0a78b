"""BatchedJoinBlock: a tuple with one tuple a side, `batch_size` items in total."""

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from flowstore.blocks import (
    ActionBlock,
    BatchedJoinBlock,
    BlockFaultedError,
    BlockState,
    Network,
    SourceBlock,
)


async def test_a_group_leaves_when_its_sides_hold_the_batch_size_in_total():
    async with Network() as network:
        join = network.add(BatchedJoinBlock(3))
        left, right = join.targets
        left.post(1)
        right.post("a")
        await wait_all_tasks_blocked()
        with pytest.raises(trio.WouldBlock):
            join.try_receive()
        left.post(2)
        assert await join.receive() == ((1, 2), ("a",))


async def test_a_side_without_items_gives_an_empty_tuple():
    async with Network() as network:
        join = network.add(BatchedJoinBlock(2, 3))
        for item in (1, 2):
            join.targets[1].post(item)
        assert await join.receive() == ((), (1, 2), ())


async def test_a_batch_size_of_one_lets_every_item_leave_at_once():
    async with Network() as network:
        join = network.add(BatchedJoinBlock(1))
        left, right = join.targets
        left.post(1)
        right.post("a")
        assert [await join.receive(), await join.receive()] == [((1,), ()), ((), ("a",))]


async def test_the_tail_leaves_once_all_sides_are_closed():
    async with Network() as network:
        join = network.add(BatchedJoinBlock(10))
        left, right = join.targets
        left.post(1)
        right.post("a")
        left.complete()
        await wait_all_tasks_blocked()
        with pytest.raises(trio.WouldBlock):
            join.try_receive()
        right.complete()
        assert [group async for group in join] == [((1,), ("a",))]
        await join.completion


async def test_one_closed_side_leaves_the_others_open():
    async with Network() as network:
        join = network.add(BatchedJoinBlock(2))
        left, right = join.targets
        left.complete()
        assert left.post(1) is False
        assert [right.post(item) for item in "ab"] == [True, True]
        assert await join.receive() == ((), ("a", "b"))
        assert join.state is BlockState.OPEN


async def test_an_exact_multiple_leaves_no_empty_group_behind():
    async with Network() as network:
        join = network.add(BatchedJoinBlock(2))
        for side in join.targets:
            side.post("item")
        join.complete()
        assert [group async for group in join] == [(("item",), ("item",))]


async def test_no_items_make_no_group():
    async with Network() as network:
        join = network.add(BatchedJoinBlock(2))
        for side in join.targets:
            side.complete()
        assert [group async for group in join] == []
        await join.completion


async def test_completing_the_join_closes_every_side_and_sends_the_tail_off():
    async with Network() as network:
        join = network.add(BatchedJoinBlock(10))
        join.targets[1].post("a")
        join.complete()
        assert [side.post("late") for side in join.targets] == [False, False]
        assert [group async for group in join] == [((), ("a",))]


async def test_a_fault_on_a_side_faults_the_block():
    fault = ZeroDivisionError()
    with pytest.RaisesGroup(ZeroDivisionError):
        async with Network() as network:
            join = network.add(BatchedJoinBlock(10))
            join.targets[0].post(1)
            join.targets[1].fault(fault)
    with pytest.raises(BlockFaultedError) as caught:
        await join.completion
    assert caught.value.__cause__ is fault
    assert join.statistics().discarded == 1


async def test_statistics_count_items_not_groups():
    async with Network() as network:
        join = network.add(BatchedJoinBlock(2))
        left, right = join.targets
        for item in (1, 2, 3):
            left.post(item)
        await wait_all_tasks_blocked()
        counts = join.statistics()
        assert (counts.accepted, counts.inside, counts.finished) == (3, 3, 0)
        assert await join.receive() == ((1, 2), ())
        counts = join.statistics()
        assert (counts.accepted, counts.inside, counts.finished) == (3, 1, 2)
        right.post("a")
        assert await join.receive() == ((3,), ("a",))


@pytest.mark.parametrize("batch_size", [0, -1])
def test_a_batch_size_below_one_is_an_error(batch_size):
    with pytest.raises(ValueError):
        BatchedJoinBlock(batch_size)


@pytest.mark.parametrize("arity", [1, 0])
def test_an_arity_below_two_is_an_error(arity):
    with pytest.raises(ValueError):
        BatchedJoinBlock(2, arity)


def test_a_capacity_below_the_batch_size_is_an_error():
    with pytest.raises(ValueError):
        BatchedJoinBlock(3, bounded_capacity=2)


def test_the_targets_are_a_tuple_of_mere_targets():
    targets = BatchedJoinBlock(2, 3).targets
    assert type(targets) is tuple
    assert len(targets) == 3
    assert not any(hasattr(side, name) for side in targets for name in ("completion", "link_to"))


@settings(deadline=None)
@given(
    sides=st.lists(st.lists(st.integers(0, 3), max_size=10), min_size=2, max_size=4),
    batch_size=st.integers(1, 5),
    slowness=st.integers(0, 2),
    schedule=st.random_module(),
)
async def test_groups_hold_every_item_of_every_side_once_and_in_order(
    sides, batch_size, slowness, schedule
):
    async def items(delays):
        for item, delay in enumerate(delays):
            for _ in range(delay):
                await trio.lowlevel.checkpoint()
            yield item

    seen = []

    async def note(group):
        for _ in range(slowness):
            await trio.lowlevel.checkpoint()
        seen.append(group)

    async with Network() as network:
        join = BatchedJoinBlock(batch_size, len(sides))
        join.link_to(ActionBlock(note, bounded_capacity=1))
        for index, delays in enumerate(sides):
            SourceBlock(items(delays)).link_to(join.targets[index])
        network.add(join)
    for index, delays in enumerate(sides):
        assert [item for group in seen for item in group[index]] == list(range(len(delays)))
    assert all(sum(map(len, group)) == batch_size for group in seen[:-1])
    assert all(1 <= sum(map(len, group)) <= batch_size for group in seen[-1:])
