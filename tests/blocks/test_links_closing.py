"""Closing a link withdraws its offer; an exhausted link closes by itself."""

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from flowstore.blocks import (
    ActionBlock,
    BlockState,
    BufferBlock,
    Network,
    SourceBlock,
    TransformBlock,
    null_target,
)


async def test_a_closed_link_carries_nothing_more():
    seen = []
    async with Network() as network:
        buffer, sink = network.add(BufferBlock(), ActionBlock(seen.append))
        link = buffer.link_to(sink)
        await buffer.send(1)
        await network.wait_idle()
        link.close()
        await buffer.send(2)
        await network.wait_idle()
        assert seen == [1]
        assert await buffer.receive() == 2


async def test_closing_twice_does_nothing():
    async with Network() as network:
        buffer, sink = network.add(BufferBlock(), ActionBlock(str))
        link = buffer.link_to(sink)
        link.close()
        link.close()
        assert sink.state is BlockState.OPEN


async def test_a_link_is_closed_at_the_end_of_its_with_block():
    seen = []
    async with Network() as network:
        buffer, sink = network.add(BufferBlock(), ActionBlock(seen.append))
        with buffer.link_to(sink):
            await buffer.send(1)
            await network.wait_idle()
        await buffer.send(2)
        await network.wait_idle()
        assert seen == [1]
        assert await buffer.receive() == 2


async def test_closing_while_the_target_is_full_withdraws_the_offer():
    gate = trio.Event()
    seen, other = [], []

    async def hold(item):
        await gate.wait()
        seen.append(item)

    async with Network() as network:
        buffer = network.add(BufferBlock())
        link = buffer.link_to(ActionBlock(hold, bounded_capacity=1))
        await buffer.send_many([1, 2, 3])
        await wait_all_tasks_blocked()
        link.close()
        gate.set()
        await wait_all_tasks_blocked()
        assert seen == [1]
        buffer.link_to(ActionBlock(other.append))
    assert seen == [1]
    assert other == [2, 3]


async def test_closing_while_full_and_linking_again_delivers_each_item_once():
    gate = trio.Event()
    seen = []

    async def hold(item):
        await gate.wait()
        seen.append(item)

    async with Network() as network:
        buffer, sink = network.add(BufferBlock(), ActionBlock(hold, bounded_capacity=1))
        link = buffer.link_to(sink)
        await buffer.send_many([1, 2, 3])
        await wait_all_tasks_blocked()
        for _ in range(3):
            link.close()
            link = buffer.link_to(sink)
            await wait_all_tasks_blocked()
        gate.set()
    assert seen == [1, 2, 3]


async def test_a_withdrawn_offer_gives_its_turn_to_the_next_waiter():
    gate = trio.Event()
    seen = []

    async def hold(item):
        await gate.wait()
        seen.append(item)

    async with Network() as network, trio.open_nursery() as nursery:
        buffer, sink = network.add(BufferBlock(), ActionBlock(hold, bounded_capacity=1))
        link = buffer.link_to(sink)
        await buffer.send_many(["running", "withdrawn"])
        await wait_all_tasks_blocked()
        nursery.start_soon(sink.send, "sent")
        await wait_all_tasks_blocked()
        link.close()
        gate.set()
        await wait_all_tasks_blocked()
        assert seen == ["running", "sent"]
        assert buffer.receive_all_nowait() == ["withdrawn"]


async def test_items_flow_to_the_remaining_links_after_one_was_closed():
    first, second = [], []
    async with Network() as network:
        buffer = network.add(BufferBlock())
        link = buffer.link_to(ActionBlock(first.append))
        buffer.link_to(ActionBlock(second.append))
        await buffer.send_many([1, 2])
        await network.wait_idle()
        link.close()
        await buffer.send_many([3, 4])
    assert first == [1, 2]
    assert second == [3, 4]


@pytest.mark.parametrize("most", [0, -1])
async def test_max_messages_below_one_is_a_value_error(most):
    with pytest.raises(ValueError):
        BufferBlock().link_to(ActionBlock(str), max_messages=most)


@pytest.mark.parametrize("most", [1, 3])
async def test_a_link_carries_at_most_max_messages(most):
    first, rest = [], []
    async with Network() as network:
        buffer = network.add(BufferBlock())
        buffer.link_to(ActionBlock(first.append), max_messages=most)
        buffer.link_to(ActionBlock(rest.append))
        await buffer.send_many(range(6))
    assert first == list(range(most))
    assert rest == list(range(most, 6))


async def test_only_items_that_were_taken_count_as_messages():
    positive, rest = [], []
    async with Network() as network:
        buffer = network.add(BufferBlock())
        buffer.link_to(ActionBlock(positive.append), lambda item: item > 0, max_messages=2)
        buffer.link_to(ActionBlock(rest.append))
        await buffer.send_many([-1, 1, -2, -3, 2, 3])
    assert positive == [1, 2]
    assert rest == [-1, -2, -3, 3]


async def test_an_exhausted_link_does_not_complete_its_target():
    async with Network() as network:
        buffer, sink = network.add(BufferBlock(), ActionBlock(str))
        buffer.link_to(sink, max_messages=1)
        await buffer.send(1)
        await network.wait_idle()
        buffer.complete()
        await buffer.completion
        await wait_all_tasks_blocked()
        assert sink.state is BlockState.OPEN


async def test_an_exhausted_link_is_no_longer_counted():
    async with Network() as network:
        one, other, sink = network.add(BufferBlock(), BufferBlock(), ActionBlock(str))
        one.link_to(sink, max_messages=1)
        other.link_to(sink)
        await one.send(1)
        await network.wait_idle()
        other.complete()
        await sink.completion
        assert one.state is BlockState.OPEN


async def test_an_exhausting_last_link_completes_a_target_another_source_had_completed():
    seen = []
    async with Network() as network:
        one, other, sink = network.add(BufferBlock(), BufferBlock(), ActionBlock(seen.append))
        one.link_to(sink, max_messages=1)
        other.link_to(sink)
        other.complete()
        await other.completion
        await wait_all_tasks_blocked()
        await one.send("last")
        await network.wait_idle()
        assert seen == ["last"]
        assert sink.post("outside") in {True, False}


async def test_after_exhaustion_items_are_held_for_the_next_link():
    first, late = [], []
    async with Network() as network:
        buffer = network.add(BufferBlock())
        buffer.link_to(ActionBlock(first.append), max_messages=2)
        await buffer.send_many(range(5))
        await network.wait_idle()
        assert first == [0, 1]
        buffer.link_to(ActionBlock(late.append))
    assert late == [2, 3, 4]


async def test_a_link_may_be_closed_from_inside_a_function_of_its_target():
    seen, rest = [], []

    def take_one(item):
        seen.append(item)
        link.close()

    async with Network() as network:
        buffer = network.add(BufferBlock())
        link = buffer.link_to(ActionBlock(take_one, bounded_capacity=1))
        await buffer.send_many(range(4))
        await network.wait_idle()
        buffer.link_to(ActionBlock(rest.append))
    assert seen == [0]
    assert rest == [1, 2, 3]


@settings(deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["close", "link", "prepend", "max", "wait"]), st.integers(0, 2)),
        max_size=25,
    ),
    capacity=st.integers(1, 3),
    seed=st.random_module(),
)
async def test_linking_and_closing_at_any_time_loses_and_doubles_nothing(steps, capacity, seed):
    seen = [[] for _ in range(3)]

    def worker(taken):
        async def work(item):
            await trio.lowlevel.checkpoint()
            taken.append(item)

        return work

    with trio.fail_after(60):
        async with Network() as network:
            block = network.add(TransformBlock(lambda item: item, bounded_capacity=capacity))
            SourceBlock(range(40), bounded_capacity=capacity).link_to(block)
            targets = [
                network.add(ActionBlock(worker(taken), bounded_capacity=capacity)) for taken in seen
            ]
            links = []
            for step, which in steps:
                if step == "close" and links:
                    links.pop(which % len(links)).close()
                elif step == "link":
                    links.append(block.link_to(targets[which]))
                elif step == "prepend":
                    links.append(block.link_to(targets[which], append=False))
                elif step == "max":
                    links.append(block.link_to(targets[which], max_messages=which + 1))
                await trio.lowlevel.checkpoint()
            rest = ActionBlock(worker(last := []))
            block.link_to(rest)
    assert sorted([item for taken in seen for item in taken] + last) == list(range(40))
    assert all(taken == sorted(taken) for taken in [*seen, last])


async def test_a_closed_link_to_a_null_target_holds_items_again():
    async with Network() as network:
        buffer = network.add(BufferBlock())
        link = buffer.link_to(null_target())
        await buffer.send(1)
        await network.wait_idle()
        link.close()
        await buffer.send(2)
        await network.wait_idle()
        assert buffer.receive_all_nowait() == [2]


async def test_a_withdrawn_offer_no_longer_counts_as_waiting():
    async with Network() as network:
        source, full = network.add(BufferBlock(), BufferBlock(bounded_capacity=1))
        link = source.link_to(full)
        await source.send_many([1, 2])
        await network.wait_idle()
        assert full.statistics().waiting_senders == 1
        link.close()
        assert full.statistics().waiting_senders == 0
        assert full.receive_all_nowait() == [1]
        assert source.receive_all_nowait() == [2]
