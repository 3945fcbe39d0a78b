"""anyio's memory object streams, on trio and on asyncio."""

import anyio
from _peers import CAPACITY, HOPS, Peer, Sink, add_one, add_one_later, in_thread
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream


async def feed(out: MemoryObjectSendStream[int], count: int) -> None:
    async with out:
        for item in range(count):
            await out.send(item)


async def chain(count: int) -> None:
    sink = Sink()
    first_in, first_out = anyio.create_memory_object_stream[int](CAPACITY)
    second_in, second_out = anyio.create_memory_object_stream[int](CAPACITY)

    async def transform() -> None:
        async with first_out, second_in:
            async for item in first_out:
                await second_in.send(add_one(item))

    async def drain() -> None:
        async with second_out:
            async for item in second_out:
                sink.keep(item)

    async with anyio.create_task_group() as group:
        group.start_soon(feed, first_in, count)
        group.start_soon(transform)
        group.start_soon(drain)
    sink.check(count)


async def async_chain(count: int) -> None:
    sink = Sink()
    first_in, first_out = anyio.create_memory_object_stream[int](CAPACITY)
    second_in, second_out = anyio.create_memory_object_stream[int](CAPACITY)

    async def transform() -> None:
        async with first_out, second_in:
            async for item in first_out:
                await second_in.send(await add_one_later(item))

    async def act() -> None:
        async with second_out:
            async for item in second_out:
                await sink.keep_later(item)

    async with anyio.create_task_group() as group:
        group.start_soon(feed, first_in, count)
        group.start_soon(transform)
        group.start_soon(act)
    sink.check(count)


async def hops(count: int) -> None:
    items = count // (HOPS + 1)
    sink = Sink()

    async def relay(
        source: MemoryObjectReceiveStream[int], out: MemoryObjectSendStream[int]
    ) -> None:
        async with source, out:
            async for item in source:
                await out.send(item)

    async def drain(source: MemoryObjectReceiveStream[int]) -> None:
        async with source:
            async for item in source:
                sink.keep(item)

    async with anyio.create_task_group() as group:
        first, tail = anyio.create_memory_object_stream[int](CAPACITY)
        group.start_soon(feed, first, items)
        for _ in range(HOPS):
            following, end = anyio.create_memory_object_stream[int](CAPACITY)
            group.start_soon(relay, tail, following)
            tail = end
        group.start_soon(drain, tail)
    sink.check(items - 1)


async def pair(count: int) -> None:
    sink = Sink()
    into, out = anyio.create_memory_object_stream[int](CAPACITY)
    async with into, out:
        for item in range(count):
            await into.send(item)
            sink.keep(await out.receive())
    sink.check(count - 1)


def chain_on_asyncio(count: int) -> None:
    in_thread(lambda: anyio.run(chain, count, backend="asyncio"))


PEERS = (
    Peer("chain", "anyio on trio", chain, 7_000),
    Peer("chain", "anyio on asyncio", chain_on_asyncio, 10_000),
    Peer("async chain", "anyio on trio", async_chain, 7_000),
    Peer("hop", "anyio on trio", hops, 22_000),
    Peer("pair", "anyio on trio", pair, 20_000),
)
