"""`BufferBlock` is a first-in first-out buffer."""

import math

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from flowstore.blocks import ActionBlock, BlockState, BufferBlock, Network, run


@pytest.mark.parametrize("capacity", [1, 2, 128, math.inf])
async def test_items_leave_in_the_order_they_came(capacity):
    seen = []
    async with Network() as network:
        buffer = network.add(BufferBlock(bounded_capacity=capacity))
        buffer.link_to(ActionBlock(seen.append))
        await buffer.send_many(range(300))
    assert seen == list(range(300))


async def test_each_item_goes_to_exactly_one_of_several_targets():
    seen = []
    async with Network() as network:
        buffer = network.add(BufferBlock())
        for _ in range(3):
            buffer.link_to(ActionBlock(seen.append, bounded_capacity=1))
        await buffer.send_many(range(500))
    assert sorted(seen) == list(range(500))


async def test_an_empty_buffer_completes_at_once():
    buffer = BufferBlock()
    await run(buffer)
    assert buffer.state is BlockState.COMPLETED


async def test_a_buffer_holds_its_items_until_it_is_linked():
    seen = []
    async with Network() as network:
        buffer = network.add(BufferBlock())
        await buffer.send_many([1, 2, 3])
        buffer.complete()
        await wait_all_tasks_blocked()
        assert buffer.state is BlockState.DRAINING
        buffer.link_to(ActionBlock(seen.append))
        await buffer.completion
    assert seen == [1, 2, 3]


async def test_a_buffer_of_capacity_one_passes_items_hand_to_hand():
    got = []
    async with Network() as network, trio.open_nursery() as nursery:
        buffer = network.add(BufferBlock(bounded_capacity=1))

        async def read():
            got.extend([item async for item in buffer])

        nursery.start_soon(read)
        for item in range(50):
            await buffer.send(item)
        buffer.complete()
    assert got == list(range(50))


@settings(deadline=None)
@given(
    steps=st.lists(
        st.sampled_from(["post", "send", "try_receive", "receive_all", "yield"]), max_size=40
    ),
    capacity=st.integers(1, 4),
    seed=st.random_module(),
)
async def test_any_mix_of_verbs_keeps_order_and_loses_nothing(steps, capacity, seed):
    accepted, got = [], []
    async with Network() as network:
        buffer = network.add(BufferBlock(bounded_capacity=capacity))
        for number, step in enumerate(steps):
            if step == "post":
                if buffer.post(number):
                    accepted.append(number)
            elif step == "send":
                if len(accepted) - len(got) < capacity:
                    await buffer.send(number)
                    accepted.append(number)
            elif step == "try_receive":
                try:
                    got.append(buffer.try_receive())
                except trio.WouldBlock:
                    await trio.lowlevel.checkpoint()
            elif step == "receive_all":
                got += buffer.receive_all_nowait()
            else:
                await wait_all_tasks_blocked()
            assert len(accepted) - len(got) <= capacity
        buffer.complete()
        got += [item async for item in buffer]
    assert got == accepted
