"""A reader downstream doesn't hide that nothing will ever reach it."""

import pytest
import trio
import trio.testing

from flowstore.blocks import BufferBlock, Network, StalledNetworkError


async def iterate(block):
    async for _ in block:
        pass


async def receive(block):
    await block.receive()


async def look(block):
    await block.output_available()


@pytest.mark.parametrize("read", [iterate, receive, look])
async def test_an_item_held_before_a_waiting_reader_is_a_stall(read, autojump_clock):
    async def read_to_the_bad_end(block):
        with pytest.raises(Exception, match="'target' was cancelled"):
            await read(block)

    with pytest.RaisesGroup(pytest.RaisesExc(StalledNetworkError, match="'source'")):
        with trio.fail_after(1):
            async with Network() as network:
                source = network.add(BufferBlock(name="source"))
                target = network.add(BufferBlock(name="target"))
                source.link_to(target, lambda _: False, unmatched="hold")
                source.post("held")
                trio.lowlevel.spawn_system_task(read_to_the_bad_end, target)
                await trio.testing.wait_all_tasks_blocked()
