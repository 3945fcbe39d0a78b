"""Trio channels: as a source, as a sink, and blocks that serve as channels."""

import functools

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from flowstore.blocks import (
    ActionBlock,
    BatchBlock,
    BlockState,
    BufferBlock,
    Network,
    SourceBlock,
    TransformBlock,
    as_receive_channel,
    as_send_channel,
    run,
)


@pytest.mark.parametrize("capacity", [0, 3])
async def test_a_receive_channel_is_a_source(capacity):
    seen = []
    send, receive = trio.open_memory_channel(capacity)

    async def producer():
        async with send:
            for item in range(5):
                await send.send(item)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(producer)
        await run(SourceBlock(receive), ActionBlock(seen.append))
    assert seen == [0, 1, 2, 3, 4]


async def test_a_closed_receive_channel_is_an_empty_source():
    seen = []
    send, receive = trio.open_memory_channel(0)
    await send.aclose()
    await run(SourceBlock(receive), ActionBlock(seen.append))
    assert seen == []


async def test_a_broken_receive_channel_faults_its_source():
    send, receive = trio.open_memory_channel(1)
    await receive.aclose()
    with pytest.RaisesGroup(trio.ClosedResourceError):
        await run(SourceBlock(receive), ActionBlock(lambda _: None))
    await send.aclose()


async def test_a_source_pulls_from_a_channel_only_while_there_is_room():
    gate = trio.Event()

    async def crawl(item):
        await gate.wait()

    send, receive = trio.open_memory_channel(1_000)
    for item in range(1_000):
        send.send_nowait(item)
    async with Network() as network:
        source = SourceBlock(receive)
        source.link_to(ActionBlock(crawl, bounded_capacity=1))
        network.add(source)
        await wait_all_tasks_blocked()
        assert receive.statistics().current_buffer_used > 0
        gate.set()
        await send.aclose()
    assert receive.statistics().current_buffer_used == 0


async def test_the_send_of_a_channel_is_an_action():
    received = []
    send, receive = trio.open_memory_channel(0)

    async def consumer():
        received.extend([item async for item in receive])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(consumer)
        await run(SourceBlock(range(5)), ActionBlock(send.send, bounded_capacity=1))
        await send.aclose()
    assert received == [0, 1, 2, 3, 4]


async def test_a_full_channel_holds_its_action_up():
    send, receive = trio.open_memory_channel(0)
    async with Network() as network:
        sink = network.add(ActionBlock(send.send, bounded_capacity=2))
        assert [sink.post(item) for item in range(3)] == [True, True, False]
        await wait_all_tasks_blocked()
        assert sink.statistics().finished == 0
        assert [await receive.receive(), await receive.receive()] == [0, 1]


async def test_a_channel_nobody_reads_any_more_faults_its_action():
    send, receive = trio.open_memory_channel(0)
    await receive.aclose()
    with pytest.RaisesGroup(trio.BrokenResourceError):
        await run(SourceBlock([1]), ActionBlock(send.send))


async def test_a_block_serves_as_a_send_channel():
    seen = []
    async with Network() as network:
        sink = network.add(ActionBlock(seen.append))
        channel = as_send_channel(sink)
        assert isinstance(channel, trio.abc.SendChannel)
        for item in range(3):
            await channel.send(item)
    assert seen == [0, 1, 2]


async def test_sending_over_a_channel_waits_while_the_block_is_full():
    async with Network() as network, trio.open_nursery() as nursery:
        buffer = network.add(BufferBlock(bounded_capacity=1))
        buffer.post(1)
        nursery.start_soon(as_send_channel(buffer).send, 2)
        await wait_all_tasks_blocked()
        assert buffer.statistics().waiting_senders == 1
        assert [await buffer.receive(), await buffer.receive()] == [1, 2]


async def test_closing_the_send_channel_completes_the_block():
    seen = []
    async with Network() as network:
        sink = network.add(ActionBlock(seen.append))
        async with as_send_channel(sink) as channel:
            await channel.send("item")
        await sink.completion
        assert sink.state is BlockState.COMPLETED
    assert seen == ["item"]


async def test_a_closed_send_channel_refuses_as_trio_channels_do():
    async with Network() as network:
        channel = as_send_channel(network.add(ActionBlock(lambda _: None)))
        await channel.aclose()
        await channel.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await channel.send("item")


async def test_a_block_serves_as_a_receive_channel():
    async with Network() as network:
        source = network.add(SourceBlock(range(3)))
        channel = as_receive_channel(source)
        assert isinstance(channel, trio.abc.ReceiveChannel)
        assert [await channel.receive(), await channel.receive()] == [0, 1]
        assert [item async for item in channel] == [2]


async def test_a_receive_channel_ends_with_its_block():
    async with Network() as network:
        buffer = network.add(BufferBlock())
        channel = as_receive_channel(buffer)
        buffer.post("item")
        buffer.complete()
        assert await channel.receive() == "item"
        with pytest.raises(trio.EndOfChannel):
            await channel.receive()


async def test_receiving_over_a_channel_waits_for_an_item():
    received = []

    async def reader(channel):
        received.append(await channel.receive())

    async with Network() as network, trio.open_nursery() as nursery:
        buffer = network.add(BufferBlock())
        nursery.start_soon(reader, as_receive_channel(buffer))
        await wait_all_tasks_blocked()
        assert received == []
        buffer.post("item")
        await wait_all_tasks_blocked()
        assert received == ["item"]


async def test_a_closed_receive_channel_refuses_as_trio_channels_do():
    async with Network() as network:
        channel = as_receive_channel(network.add(BufferBlock()))
        await channel.aclose()
        await channel.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await channel.receive()


async def test_sending_over_a_channel_to_a_faulted_block_raises_from_the_fault():
    fault = ZeroDivisionError()
    with pytest.RaisesGroup(ZeroDivisionError):
        async with Network() as network:
            buffer = network.add(BufferBlock())
            buffer.fault(fault)
    with pytest.raises(Exception, match=r"\S") as caught:
        await as_send_channel(buffer).send("item")
    cause, causes = caught.value, []
    while cause is not None:
        causes.append(cause)
        cause = cause.__cause__
    assert fault in causes


async def test_a_channel_of_one_network_feeds_another():
    seen = []
    async with trio.open_nursery() as nursery:
        batches = BatchBlock(2)
        nursery.start_soon(
            functools.partial(
                run, SourceBlock(as_receive_channel(batches)), ActionBlock(seen.append)
            )
        )
        await wait_all_tasks_blocked()
        await run(SourceBlock(range(5)), batches)
    assert seen == [(0, 1), (2, 3), (4,)]


@settings(deadline=None)
@given(
    delays=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3))),
    capacity=st.integers(1, 3),
    schedule=st.random_module(),
)
async def test_items_cross_channels_on_both_sides_in_order(delays, capacity, schedule):
    received = []

    async def pause(turns):
        for _ in range(turns):
            await trio.lowlevel.checkpoint()

    async def producer(channel):
        async with channel:
            for item, (before, _) in enumerate(delays):
                await pause(before)
                await channel.send(item)

    async def consumer(channel):
        async for item in channel:
            await pause(delays[item][1])
            received.append(item)

    async with Network() as network, trio.open_nursery() as nursery:
        block = network.add(TransformBlock(lambda item: item, bounded_capacity=capacity))
        nursery.start_soon(producer, as_send_channel(block))
        nursery.start_soon(consumer, as_receive_channel(block))
    assert received == list(range(len(delays)))
