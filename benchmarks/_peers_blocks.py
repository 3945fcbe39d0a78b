"""`flowstore.blocks`, as its users write it."""

import math

import trio
from _peers import CAPACITY, HOPS, PARALLEL, Peer, Sink, add_one, add_one_later
from _peers_trio import wait_and_add

from flowstore.blocks import ActionBlock, BufferBlock, Network, SourceBlock, TransformBlock, run


async def chain(count: int) -> None:
    sink = Sink()
    await run(
        SourceBlock(range(count), bounded_capacity=CAPACITY),
        TransformBlock(add_one, bounded_capacity=CAPACITY),
        ActionBlock(sink.keep, bounded_capacity=CAPACITY),
    )
    sink.check(count)


async def async_chain(count: int) -> None:
    sink = Sink()
    await run(
        SourceBlock(range(count), bounded_capacity=CAPACITY),
        TransformBlock(add_one_later, bounded_capacity=CAPACITY),
        ActionBlock(sink.keep_later, bounded_capacity=CAPACITY),
    )
    sink.check(count)


async def hops(count: int) -> None:
    items = count // (HOPS + 1)
    sink = Sink()
    await run(
        SourceBlock(range(items), bounded_capacity=CAPACITY),
        *(BufferBlock[int](bounded_capacity=CAPACITY) for _ in range(HOPS)),
        ActionBlock(sink.keep, bounded_capacity=CAPACITY),
    )
    sink.check(items - 1)


async def parallel(count: int) -> None:
    sink = Sink()
    await run(
        SourceBlock(range(count), bounded_capacity=CAPACITY),
        TransformBlock(wait_and_add, bounded_capacity=CAPACITY, max_degree_of_parallelism=PARALLEL),
        ActionBlock(sink.keep, bounded_capacity=CAPACITY),
    )
    sink.check(count)


async def pair(count: int) -> None:
    sink = Sink()
    async with Network() as network:
        block = network.add(BufferBlock[int](bounded_capacity=CAPACITY))
        for item in range(count):
            await block.send(item)
            sink.keep(await block.receive())
    sink.check(count - 1)


async def send(count: int) -> None:
    async with Network() as network:
        block = network.add(BufferBlock[int](bounded_capacity=math.inf))
        for item in range(count):
            await block.send(item)
        network.cancel()  # nobody reads them


async def two_tasks(count: int) -> None:
    sink = Sink()
    async with Network() as network:
        block = network.add(BufferBlock[int](bounded_capacity=CAPACITY))

        async def feed() -> None:
            for item in range(count):
                await block.send(item)
            block.complete()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(feed)
            async for item in block:
                sink.keep(item)
    sink.check(count - 1)


async def send_into_action(count: int) -> None:
    sink = Sink()
    async with Network() as network:
        block = network.add(ActionBlock(sink.keep, bounded_capacity=CAPACITY))
        for item in range(count):
            await block.send(item)
    sink.check(count - 1)


async def send_many_into_action(count: int) -> None:
    sink = Sink()
    async with Network() as network:
        block = network.add(ActionBlock(sink.keep, bounded_capacity=CAPACITY))
        await block.send_many(range(count))
    sink.check(count - 1)


async def fast_lanes(count: int) -> None:
    sink = Sink()
    async with Network() as network:
        block = network.add(BufferBlock[int](bounded_capacity=CAPACITY))

        async def feed() -> None:
            await block.send_many(range(count))
            block.complete()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(feed)
            while await block.output_available():
                for item in block.receive_all_nowait():
                    sink.keep(item)
    sink.check(count - 1)


NAME = "flowstore.blocks"
PEERS = (
    Peer("chain", NAME, chain, 300_000),
    Peer("async chain", NAME, async_chain, 100_000),
    Peer("hop", NAME, hops, 550_000),
    Peer("parallel", NAME, parallel, 30_000),
    Peer("pair", NAME, pair, 20_000),
    Peer("send", NAME, send, 40_000),
    Peer("two tasks", f"{NAME}, send and async for", two_tasks, 20_000),
    Peer("two tasks", f"{NAME}, send into an action", send_into_action, 20_000),
    Peer("two tasks", f"{NAME}, send_many into an action", send_many_into_action, 300_000),
    Peer("two tasks", f"{NAME}, send_many and receive_all_nowait", fast_lanes, 300_000),
)
