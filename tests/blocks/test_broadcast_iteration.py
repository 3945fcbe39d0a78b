"""Iterating over a block that keeps its value."""

import pytest
import trio
import trio.testing

from flowstore.blocks import BroadcastBlock, Network, WriteOnceBlock, as_receive_channel


async def test_iterating_over_a_broadcast_gives_each_value_once_and_ends_with_the_block():
    seen = []

    async def read(block):
        seen.extend([item async for item in block])

    async with Network() as network, trio.open_nursery() as nursery:
        block = network.add(BroadcastBlock())
        nursery.start_soon(read, block)
        for item in "abc":
            await trio.testing.wait_all_tasks_blocked()
            block.post(item)
        await trio.testing.wait_all_tasks_blocked()
        block.complete()
    assert seen == ["a", "b", "c"]


async def test_a_slow_reader_of_a_broadcast_sees_the_latest_value():
    block = BroadcastBlock()
    async with Network() as network:
        network.add(block)
        for item in "abc":
            block.post(item)
        block.complete()
        assert [item async for item in block] == ["c"]


async def test_iterating_over_a_write_once_block_gives_its_value_and_ends():
    block = WriteOnceBlock()
    async with Network() as network:
        network.add(block)
        block.post("kept")
        assert [item async for item in block] == ["kept"]
        assert [item async for item in block] == ["kept"]


async def test_a_channel_over_a_completed_broadcast_ends():
    block = BroadcastBlock()
    async with Network() as network:
        network.add(block)
        block.post("last")
        block.complete()
        channel = as_receive_channel(block)
        assert await channel.receive() == "last"
        with pytest.raises(trio.EndOfChannel):
            await channel.receive()
        await channel.aclose()
