"""JoinBlock: the k-th items of its sides leave together, as one tuple."""

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from flowstore.blocks import (
    ActionBlock,
    BlockClosedError,
    BlockFaultedError,
    BlockState,
    BufferBlock,
    JoinBlock,
    Network,
    SourceBlock,
)


async def test_the_kth_items_of_the_sides_pair_up():
    async with Network() as network:
        join = network.add(JoinBlock())
        left, right = join.targets
        for item in (1, 2):
            left.post(item)
        for item in ("a", "b"):
            right.post(item)
        join.complete()
        assert [pair async for pair in join] == [(1, "a"), (2, "b")]


async def test_nothing_leaves_before_every_side_has_an_item():
    async with Network() as network:
        join = network.add(JoinBlock(3))
        join.targets[0].post(1)
        join.targets[2].post(3)
        await wait_all_tasks_blocked()
        with pytest.raises(trio.WouldBlock):
            join.try_receive()
        join.targets[1].post(2)
        assert await join.receive() == (1, 2, 3)


@pytest.mark.parametrize("arity", [2, 3, 5])
async def test_a_join_has_as_many_targets_as_its_arity(arity):
    async with Network() as network:
        join = network.add(JoinBlock(arity))
        assert type(join.targets) is tuple
        assert len(join.targets) == arity
        for index, side in enumerate(join.targets):
            assert side.post(index)
        assert await join.receive() == tuple(range(arity))


def test_a_join_has_two_sides_unless_told():
    assert len(JoinBlock().targets) == 2


@pytest.mark.parametrize("arity", [1, 0, -1])
def test_an_arity_below_two_is_an_error(arity):
    with pytest.raises(ValueError):
        JoinBlock(arity)


def test_a_side_is_a_target_only():
    side = JoinBlock().targets[0]
    assert not hasattr(side, "completion")
    assert not hasattr(side, "link_to")


def test_the_targets_are_always_the_same_objects():
    join = JoinBlock()
    assert join.targets[0] is join.targets[0]
    assert join.targets[0] is not join.targets[1]


@settings(deadline=None)
@given(
    sides=st.lists(st.lists(st.integers(0, 3), max_size=12), min_size=2, max_size=4),
    capacity=st.integers(1, 4),
    slowness=st.integers(0, 2),
    greedy=st.booleans(),
    schedule=st.random_module(),
)
async def test_tuples_pair_items_by_index_whatever_the_delays_of_the_sides(
    sides, capacity, slowness, greedy, schedule
):
    count = min(map(len, sides))

    async def items(index, delays):
        for item, delay in enumerate(delays[:count]):
            for _ in range(delay):
                await trio.lowlevel.checkpoint()
            yield (index, item)

    seen = []

    async def note(joined):
        for _ in range(slowness):
            await trio.lowlevel.checkpoint()
        seen.append(joined)

    async with Network() as network:
        join = JoinBlock(len(sides), bounded_capacity=capacity, greedy=greedy)
        join.link_to(ActionBlock(note, bounded_capacity=1))
        for index, delays in enumerate(sides):
            SourceBlock(items(index, delays)).link_to(join.targets[index])
        network.add(join)
    assert seen == [tuple((index, item) for index in range(len(sides))) for item in range(count)]


async def test_completing_a_side_closes_it():
    async with Network() as network:
        join = network.add(JoinBlock())
        left, right = join.targets
        left.post(1)
        left.complete()
        assert left.post(2) is False
        with pytest.raises(BlockClosedError) as caught:
            await left.send(2)
        assert caught.value.__cause__ is None
        assert right.post("a")
        assert await join.receive() == (1, "a")


async def test_a_join_stays_open_while_its_closed_side_still_holds_items():
    async with Network() as network:
        join = network.add(JoinBlock())
        left, right = join.targets
        left.post(1)
        left.complete()
        await wait_all_tasks_blocked()
        assert join.state is not BlockState.COMPLETED
        assert right.post("a")
        assert [pair async for pair in join] == [(1, "a")]
        await join.completion


async def test_a_join_completes_once_a_closed_side_is_empty():
    async with Network() as network:
        join = network.add(JoinBlock())
        left, right = join.targets
        left.complete()
        await join.completion
        assert join.state is BlockState.COMPLETED
        assert right.post("too late") is False


async def test_a_sender_waiting_on_the_other_side_learns_that_the_join_has_ended():
    async with Network() as network:
        join = network.add(JoinBlock(bounded_capacity=1))
        left, right = join.targets
        right.post("held")

        async def sender():
            with pytest.raises(BlockClosedError):
                await right.send("never paired")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(sender)
            await wait_all_tasks_blocked()
            left.complete()


async def test_items_left_over_on_the_other_sides_are_discarded():
    async with Network() as network:
        join = network.add(JoinBlock())
        left, right = join.targets
        for item in range(3):
            left.post(item)
        right.post("a")
        right.complete()
        assert [pair async for pair in join] == [(0, "a")]
        await join.completion
    counts = join.statistics()
    assert (counts.accepted, counts.finished, counts.discarded, counts.inside) == (4, 2, 2, 0)


async def test_completing_the_join_closes_every_side():
    async with Network() as network:
        join = network.add(JoinBlock())
        left, right = join.targets
        left.post(1)
        right.post("a")
        join.complete()
        assert [side.post("late") for side in join.targets] == [False, False]
        assert [pair async for pair in join] == [(1, "a")]
        await join.completion


async def test_completing_an_empty_join_completes_it_at_once():
    async with Network() as network:
        join = network.add(JoinBlock())
        join.complete()
        await join.completion
        with pytest.raises(trio.EndOfChannel):
            await join.receive()


@pytest.mark.parametrize("side", [0, 1, 2])
async def test_a_fault_on_a_side_faults_the_join(side):
    fault = ZeroDivisionError("side")
    with pytest.RaisesGroup(ZeroDivisionError):
        async with Network() as network:
            join = network.add(JoinBlock(3))
            for target in join.targets:
                target.post(1)
            join.targets[0].post(2)
            await wait_all_tasks_blocked()
            join.targets[side].fault(fault)
    assert join.state is BlockState.FAULTED
    with pytest.raises(BlockFaultedError) as caught:
        await join.completion
    assert caught.value.__cause__ is fault
    assert [target.post(3) for target in join.targets] == [False] * 3
    counts = join.statistics()
    assert (counts.accepted, counts.discarded, counts.inside) == (4, 4, 0)


async def test_a_source_that_ends_closes_its_side_only():
    async with Network() as network:
        left, right = network.add(BufferBlock(), BufferBlock())
        join = JoinBlock()
        left.link_to(join.targets[0])
        right.link_to(join.targets[1])
        left.post(1)
        left.complete()
        await left.completion
        assert join.targets[0].post(2) is False
        right.post("a")
        assert [pair async for pair in join] == [(1, "a")]


async def test_greedy_capacity_counts_unread_tuples_and_the_longest_side():
    async with Network() as network:
        join = network.add(JoinBlock(bounded_capacity=2))
        left, right = join.targets
        assert [left.post(item) for item in (1, 2, 3)] == [True, True, False]
        assert [right.post(item) for item in "ab"] == [True, True]
        await wait_all_tasks_blocked()
        assert [left.post(3), right.post("c")] == [False, False]
        assert await join.receive() == (1, "a")
        assert [left.post(3), right.post("c")] == [True, True]
        join.complete()
        assert [pair async for pair in join] == [(2, "b"), (3, "c")]


async def test_a_capacity_of_one_holds_one_item_a_side_or_one_tuple():
    async with Network() as network:
        join = network.add(JoinBlock(bounded_capacity=1))
        left, right = join.targets
        assert [left.post(1), left.post(2)] == [True, False]
        assert right.post("a")
        await wait_all_tasks_blocked()
        assert [left.post(2), right.post("b")] == [False, False]
        assert await join.receive() == (1, "a")
        assert [left.post(2), right.post("b")] == [True, True]
        assert await join.receive() == (2, "b")


async def test_statistics_count_items_not_tuples():
    async with Network() as network:
        join = network.add(JoinBlock(3))
        for side in join.targets:
            side.post(1)
        join.targets[0].post(2)
        await wait_all_tasks_blocked()
        counts = join.statistics()
        assert (counts.accepted, counts.inside, counts.finished) == (4, 4, 0)
        assert (counts.input, counts.output) == (1, 3)
        await join.receive()
        counts = join.statistics()
        assert (counts.accepted, counts.inside, counts.finished) == (4, 1, 3)


async def test_tuples_already_there_go_to_a_late_link():
    seen = []
    async with Network() as network:
        join = network.add(JoinBlock())
        for index, side in enumerate(join.targets):
            side.post(index)
        await wait_all_tasks_blocked()
        join.link_to(ActionBlock(seen.append))
    assert seen == [(0, 1)]


async def test_one_source_may_feed_both_sides_by_predicate():
    seen = []
    async with Network() as network:
        numbers = SourceBlock(range(6))
        join = JoinBlock()
        numbers.link_to(join.targets[0], lambda number: number % 2 == 0)
        numbers.link_to(join.targets[1], lambda number: number % 2 == 1)
        join.link_to(ActionBlock(seen.append))
        network.add(numbers)
    assert seen == [(0, 1), (2, 3), (4, 5)]
