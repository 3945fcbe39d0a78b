"""Which link takes an item."""

import itertools

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from flowstore.blocks import (
    ActionBlock,
    BlockState,
    BufferBlock,
    Link,
    Network,
    SourceBlock,
    TransformBlock,
    null_target,
)


def sinks(count, **options):
    seen = [[] for _ in range(count)]
    return seen, [ActionBlock(taken.append, **options) for taken in seen]


async def test_link_to_returns_a_link():
    async with Network() as network:
        buffer = network.add(BufferBlock())
        assert isinstance(buffer.link_to(ActionBlock(str)), Link)


async def test_the_first_link_takes_everything_it_has_room_for():
    seen, (first, second) = sinks(2)
    async with Network() as network:
        buffer = network.add(BufferBlock())
        buffer.link_to(first)
        buffer.link_to(second)
        for item in range(20):
            await buffer.send(item)
            await network.wait_idle()
    assert seen == [list(range(20)), []]


async def test_a_prepended_link_comes_first():
    seen, (first, second, third) = sinks(3)
    async with Network() as network:
        buffer = network.add(BufferBlock())
        buffer.link_to(first)
        buffer.link_to(second, append=False)
        buffer.link_to(third, append=False)
        for item in range(5):
            await buffer.send(item)
            await network.wait_idle()
    assert seen == [[], [], list(range(5))]


async def test_full_targets_fall_through_to_the_next_link():
    gate = trio.Event()
    taken = {"first": [], "second": [], "third": []}

    def holder(name):
        async def hold(item):
            taken[name].append(item)
            await gate.wait()

        return ActionBlock(hold, bounded_capacity=1, name=name)

    async with Network() as network:
        buffer = network.add(BufferBlock())
        for name in taken:
            buffer.link_to(holder(name))
        await buffer.send_many([1, 2, 3, 4])
        await wait_all_tasks_blocked()
        assert taken == {"first": [1], "second": [2], "third": [3]}
        assert buffer.statistics().inside == 1
        gate.set()
    assert sorted(itertools.chain(*taken.values())) == [1, 2, 3, 4]


async def test_a_full_target_is_served_when_room_appears():
    gates = {1: trio.Event(), 2: trio.Event()}
    taken = []

    async def hold(item):
        taken.append(item)
        await gates[item].wait()

    async with Network() as network:
        buffer = network.add(BufferBlock())
        buffer.link_to(ActionBlock(hold, bounded_capacity=1))
        await buffer.send_many([1, 2])
        await wait_all_tasks_blocked()
        assert taken == [1]
        gates[1].set()
        await wait_all_tasks_blocked()
        assert taken == [1, 2]
        gates[2].set()


async def test_predicates_route_items():
    seen, (even, odd) = sinks(2)
    async with Network() as network:
        buffer = network.add(BufferBlock())
        buffer.link_to(even, lambda item: item % 2 == 0)
        buffer.link_to(odd)
        await buffer.send_many(range(10))
    assert seen == [[0, 2, 4, 6, 8], [1, 3, 5, 7, 9]]


async def test_only_the_head_is_offered():
    gate = trio.Event()
    free = []

    async def hold(_item):
        await gate.wait()

    async with Network() as network:
        buffer = network.add(BufferBlock())
        buffer.link_to(ActionBlock(hold, bounded_capacity=1), lambda item: item < 0)
        buffer.link_to(ActionBlock(free.append), lambda item: item >= 0)
        await buffer.send_many([1, -1, -2, 2, 3])
        await wait_all_tasks_blocked()
        assert free == [1]
        gate.set()
        await network.wait_idle()
        assert free == [1, 2, 3]


async def test_a_late_link_gets_what_is_there():
    seen, (sink,) = sinks(1)
    async with Network() as network:
        block = network.add(TransformBlock(str))
        await block.send_many(range(3))
        await wait_all_tasks_blocked()
        block.link_to(sink)
        await network.wait_idle()
        assert seen == [["0", "1", "2"]]


async def test_a_late_link_takes_the_head_that_a_full_link_could_not():
    gate = trio.Event()
    seen, (late,) = sinks(1)

    async def hold(_item):
        await gate.wait()

    async with Network() as network:
        buffer = network.add(BufferBlock())
        buffer.link_to(ActionBlock(hold, bounded_capacity=1))
        await buffer.send_many([1, 2, 3])
        await wait_all_tasks_blocked()
        buffer.link_to(late)
        await wait_all_tasks_blocked()
        assert seen == [[2, 3]]
        gate.set()


async def test_the_same_target_twice_gets_each_item_once():
    seen, (sink,) = sinks(1)
    async with Network() as network:
        buffer = network.add(BufferBlock())
        buffer.link_to(sink)
        buffer.link_to(sink)
        await buffer.send_many(range(10))
    assert seen == [list(range(10))]
    assert sink.state is BlockState.COMPLETED


async def test_the_same_target_twice_with_different_predicates_gets_what_either_accepts():
    seen, (sink, rest) = sinks(2)
    async with Network() as network:
        buffer = network.add(BufferBlock())
        buffer.link_to(sink, lambda item: item < 3)
        buffer.link_to(sink, lambda item: item > 6)
        buffer.link_to(rest)
        await buffer.send_many(range(10))
    assert seen == [[0, 1, 2, 7, 8, 9], [3, 4, 5, 6]]


@pytest.mark.parametrize("capacity", [1, 128])
async def test_the_same_full_target_twice_loses_and_doubles_nothing(capacity):
    seen = []

    async def note(item):
        await trio.lowlevel.checkpoint()
        seen.append(item)

    async with Network() as network:
        buffer = network.add(BufferBlock())
        sink = ActionBlock(note, bounded_capacity=capacity)
        buffer.link_to(sink)
        buffer.link_to(sink)
        await buffer.send_many(range(50))
    assert seen == list(range(50))


async def test_a_link_to_an_ended_target_is_passed_over():
    seen, (ended, open_one) = sinks(2)
    async with Network() as network:
        network.add(ended)
        ended.complete()
        await ended.completion
        buffer = network.add(BufferBlock())
        buffer.link_to(ended)
        buffer.link_to(open_one)
        await buffer.send_many([1, 2])
    assert seen == [[], [1, 2]]


async def test_a_target_that_ends_early_leaves_the_rest_to_the_next_link():
    seen, rest = [], []

    def take_three(item):
        seen.append(item)
        if len(seen) == 3:
            early.complete()

    early = ActionBlock(take_three, bounded_capacity=1)
    async with Network() as network:
        buffer = network.add(BufferBlock())
        buffer.link_to(early)
        await buffer.send_many(range(10))
        await early.completion
        buffer.link_to(ActionBlock(rest.append))
    assert seen == [0, 1, 2]
    assert rest == list(range(3, 10))


async def test_items_sent_from_outside_and_over_a_link_wait_in_the_order_they_came():
    gate = trio.Event()
    seen = []

    async def hold(item):
        await gate.wait()
        seen.append(item)

    async with Network() as network, trio.open_nursery() as nursery:
        sink = network.add(ActionBlock(hold, bounded_capacity=1))
        await sink.send("running")
        buffer = BufferBlock(bounded_capacity=1)
        buffer.link_to(sink)
        await buffer.send("linked")
        await wait_all_tasks_blocked()
        nursery.start_soon(sink.send, "sent")
        await wait_all_tasks_blocked()
        assert sink.post("posted") is False
        gate.set()
    assert seen == ["running", "linked", "sent"]


async def test_two_sources_of_one_full_target_are_both_served():
    seen = []

    async def note(item):
        await trio.lowlevel.checkpoint()
        seen.append(item)

    async with Network() as network:
        sink = network.add(ActionBlock(note, bounded_capacity=1))
        for name in "ab":
            SourceBlock([name] * 100, bounded_capacity=1).link_to(sink)
        while len(seen) < 50:
            await trio.lowlevel.checkpoint()
        assert set(seen) == {"a", "b"}
    assert sorted(seen) == ["a"] * 100 + ["b"] * 100


async def test_a_null_target_takes_everything_and_discards_it():
    async with Network() as network:
        buffer = network.add(BufferBlock(bounded_capacity=1))
        target = null_target()
        assert target.post("anything") is True
        await target.send("anything")
        target.complete()
        assert target.post("still") is True
        buffer.link_to(target)
        await buffer.send_many(range(10))
    assert buffer.statistics().finished == 10


@settings(deadline=None)
@given(
    delays=st.lists(st.integers(0, 4), max_size=20),
    capacities=st.lists(st.integers(1, 3), min_size=1, max_size=3),
    buffer_capacity=st.integers(1, 4),
    seed=st.random_module(),
)
async def test_competing_targets_lose_double_and_reorder_nothing(
    delays, capacities, buffer_capacity, seed
):
    seen = [[] for _ in capacities]

    def worker(taken):
        async def work(entry):
            index, delay = entry
            for _ in range(delay):
                await trio.lowlevel.checkpoint()
            taken.append(index)

        return work

    with trio.fail_after(60):
        async with Network() as network:
            source = network.add(SourceBlock(enumerate(delays), bounded_capacity=buffer_capacity))
            for taken, capacity in zip(seen, capacities, strict=True):
                source.link_to(ActionBlock(worker(taken), bounded_capacity=capacity))
    assert all(taken == sorted(taken) for taken in seen)
    assert sorted(itertools.chain(*seen)) == list(range(len(delays)))


@settings(deadline=None)
@given(
    capacities=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    parallelism=st.integers(1, 3),
    delays=st.lists(st.integers(0, 4), max_size=30),
    seed=st.random_module(),
)
async def test_a_chain_of_any_capacities_never_gets_stuck(capacities, parallelism, delays, seed):
    seen = []

    async def work(entry):
        for _ in range(entry[1]):
            await trio.lowlevel.checkpoint()
        return entry

    source = previous = SourceBlock(enumerate(delays), bounded_capacity=capacities[0])
    for capacity in capacities:
        block = TransformBlock(
            work, bounded_capacity=capacity, max_degree_of_parallelism=parallelism
        )
        previous.link_to(block)
        previous = block
    previous.link_to(ActionBlock(lambda entry: seen.append(entry[0]), bounded_capacity=1))
    with trio.fail_after(60):
        async with Network() as network:
            network.add(source)
    assert seen == list(range(len(delays)))


async def test_the_next_item_of_a_link_waits_behind_a_sender_that_came_earlier():
    async with Network() as network, trio.open_nursery() as nursery:
        source = network.add(BufferBlock())
        target = BufferBlock(bounded_capacity=2)
        source.link_to(target)
        await target.send_many(["there", "before"])
        await source.send_many(["linked", "next"])
        await wait_all_tasks_blocked()
        nursery.start_soon(target.send, "sent")
        await wait_all_tasks_blocked()
        assert target.receive_all_nowait() == ["there", "before"]
        await wait_all_tasks_blocked()
        assert target.receive_all_nowait() == ["linked", "sent"]
        assert await target.receive() == "next"


async def test_a_link_does_not_use_room_that_an_older_sender_waits_for():
    """The second item posts upstream while the first has left room that nobody has used yet."""
    seen = []
    source = BufferBlock()

    def work(item):
        seen.append(item)
        if item == "second":
            assert source.post("newer")

    sink = ActionBlock(work, bounded_capacity=2)
    source.link_to(sink)
    assert [sink.post(item) for item in ("first", "second")] == [True, True]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sink.send, "older")
        await wait_all_tasks_blocked()
        async with Network() as network:
            network.add(source)
            await wait_all_tasks_blocked()
    assert seen == ["first", "second", "older", "newer"]
