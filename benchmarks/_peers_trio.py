"""The base: trio memory channels as one writes them by hand."""

import math
from collections.abc import Callable

import trio
from _peers import CAPACITY, HOPS, PARALLEL, InOrder, Peer, Sink, add_one, add_one_later
from trio import MemoryReceiveChannel, MemorySendChannel


async def feed(out: MemorySendChannel[int], count: int) -> None:
    async with out:
        for item in range(count):
            await out.send(item)


async def drain(source: MemoryReceiveChannel[int], keep: Callable[[int], None]) -> None:
    async with source:
        async for item in source:
            keep(item)


async def chain(count: int) -> None:
    sink = Sink()
    first_in, first_out = trio.open_memory_channel[int](CAPACITY)
    second_in, second_out = trio.open_memory_channel[int](CAPACITY)

    async def transform() -> None:
        async with first_out, second_in:
            async for item in first_out:
                await second_in.send(add_one(item))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(feed, first_in, count)
        nursery.start_soon(transform)
        nursery.start_soon(drain, second_out, sink.keep)
    sink.check(count)


async def async_chain(count: int) -> None:
    sink = Sink()
    first_in, first_out = trio.open_memory_channel[int](CAPACITY)
    second_in, second_out = trio.open_memory_channel[int](CAPACITY)

    async def transform() -> None:
        async with first_out, second_in:
            async for item in first_out:
                await second_in.send(await add_one_later(item))

    async def act() -> None:
        async with second_out:
            async for item in second_out:
                await sink.keep_later(item)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(feed, first_in, count)
        nursery.start_soon(transform)
        nursery.start_soon(act)
    sink.check(count)


async def hops(count: int) -> None:
    """Relay items over channels; `count` is items times hops."""
    items = count // (HOPS + 1)
    sink = Sink()

    async def relay(source: MemoryReceiveChannel[int], out: MemorySendChannel[int]) -> None:
        async with source, out:
            async for item in source:
                await out.send(item)

    async with trio.open_nursery() as nursery:
        first, tail = trio.open_memory_channel[int](CAPACITY)
        nursery.start_soon(feed, first, items)
        for _ in range(HOPS):
            following, end = trio.open_memory_channel[int](CAPACITY)
            nursery.start_soon(relay, tail, following)
            tail = end
        nursery.start_soon(drain, tail, sink.keep)
    sink.check(items - 1)


async def wait_and_add(item: int) -> int:
    await trio.lowlevel.checkpoint()
    return item + 1


async def task_per_item(count: int) -> None:
    sink = Sink()
    order = InOrder(sink.keep)
    slots = trio.Semaphore(PARALLEL)

    async def work(number: int) -> None:
        order.fill(number, await wait_and_add(number))
        slots.release()

    async with trio.open_nursery() as nursery:
        for number in range(count):
            await slots.acquire()
            nursery.start_soon(work, number)
    sink.check(count)


async def task_per_item_between_channels(count: int) -> None:
    """Do the same as a stage of a chain, which is what a block is."""
    sink = Sink()
    first_in, first_out = trio.open_memory_channel[int](CAPACITY)
    second_in, second_out = trio.open_memory_channel[int](CAPACITY)
    order = InOrder(second_in.send_nowait)  # has room: a slot is given back at the sink only
    slots = trio.Semaphore(CAPACITY)
    running = trio.Semaphore(PARALLEL)

    async def work(number: int) -> None:
        result = await wait_and_add(number)
        running.release()
        order.fill(number, result)

    async def transform() -> None:
        async with trio.open_nursery() as tasks:
            async for number in first_out:
                await slots.acquire()
                await running.acquire()
                tasks.start_soon(work, number)
        second_in.close()

    def keep(item: int) -> None:
        slots.release()
        sink.keep(item)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(feed, first_in, count)
        nursery.start_soon(transform)
        nursery.start_soon(drain, second_out, keep)
    sink.check(count)


async def workers(count: int) -> None:
    sink = Sink()
    order = InOrder(sink.keep)
    first_in, first_out = trio.open_memory_channel[int](CAPACITY)

    async def work() -> None:
        async for number in first_out:
            order.fill(number, await wait_and_add(number))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(feed, first_in, count)
        for _ in range(PARALLEL):
            nursery.start_soon(work)
    sink.check(count)


async def pair(count: int) -> None:
    sink = Sink()
    into, out = trio.open_memory_channel[int](CAPACITY)
    for item in range(count):
        await into.send(item)
        sink.keep(await out.receive())
    sink.check(count - 1)


async def send(count: int) -> None:
    into, out = trio.open_memory_channel[int](math.inf)
    for item in range(count):
        await into.send(item)
    out.close()


async def two_tasks(count: int) -> None:
    sink = Sink()
    into, out = trio.open_memory_channel[int](CAPACITY)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(feed, into, count)
        nursery.start_soon(drain, out, sink.keep)
    sink.check(count - 1)


NAME = "trio memory channels"
PEERS = (
    Peer("chain", NAME, chain, 10_000),
    Peer("async chain", NAME, async_chain, 10_000),
    Peer("hop", NAME, hops, 33_000),
    Peer(
        "parallel",
        "trio, a task per item",
        task_per_item,
        10_000,
        "source and sink are loops, there are no queues",
    ),
    Peer(
        "parallel",
        "trio, a task per item, between channels",
        task_per_item_between_channels,
        5_000,
        "source and sink are tasks, as with blocks",
    ),
    Peer("parallel", "trio, 8 workers on a channel", workers, 10_000, "order restored by hand"),
    Peer("pair", NAME, pair, 20_000),
    Peer("send", NAME, send, 40_000),
    Peer("two tasks", NAME, two_tasks, 20_000),
    Peer("kinds", f"{NAME}, three stages", chain, 10_000),
)
