"""asyncio queues as one writes them by hand."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from _peers import (
    CAPACITY,
    HOPS,
    PARALLEL,
    STOP,
    InOrder,
    Peer,
    Sink,
    add_one,
    add_one_later,
    in_thread,
)


def on_asyncio(work: Callable[[int], Coroutine[Any, Any, None]]) -> Callable[[int], None]:
    """Make a case of an asyncio function: it gets an event loop, and a thread, of its own."""

    def run(count: int) -> None:
        in_thread(lambda: asyncio.run(work(count)))

    return run


async def feed(out: asyncio.Queue[Any], count: int) -> None:
    for item in range(count):
        await out.put(item)
    await out.put(STOP)


async def drain(source: asyncio.Queue[Any], keep: Callable[[int], None]) -> None:
    while (item := await source.get()) is not STOP:
        keep(item)


async def chain(count: int) -> None:
    sink = Sink()
    first: asyncio.Queue[Any] = asyncio.Queue(CAPACITY)
    second: asyncio.Queue[Any] = asyncio.Queue(CAPACITY)

    async def transform() -> None:
        while (item := await first.get()) is not STOP:
            await second.put(add_one(item))
        await second.put(STOP)

    async with asyncio.TaskGroup() as group:
        group.create_task(feed(first, count))
        group.create_task(transform())
        group.create_task(drain(second, sink.keep))
    sink.check(count)


async def async_chain(count: int) -> None:
    sink = Sink()
    first: asyncio.Queue[Any] = asyncio.Queue(CAPACITY)
    second: asyncio.Queue[Any] = asyncio.Queue(CAPACITY)

    async def transform() -> None:
        while (item := await first.get()) is not STOP:
            await second.put(await add_one_later(item))
        await second.put(STOP)

    async def act() -> None:
        while (item := await second.get()) is not STOP:
            await sink.keep_later(item)

    async with asyncio.TaskGroup() as group:
        group.create_task(feed(first, count))
        group.create_task(transform())
        group.create_task(act())
    sink.check(count)


async def hops(count: int) -> None:
    items = count // (HOPS + 1)
    sink = Sink()

    async def relay(source: asyncio.Queue[Any], out: asyncio.Queue[Any]) -> None:
        while (item := await source.get()) is not STOP:
            await out.put(item)
        await out.put(STOP)

    async with asyncio.TaskGroup() as group:
        tail: asyncio.Queue[Any] = asyncio.Queue(CAPACITY)
        group.create_task(feed(tail, items))
        for _ in range(HOPS):
            following: asyncio.Queue[Any] = asyncio.Queue(CAPACITY)
            group.create_task(relay(tail, following))
            tail = following
        group.create_task(drain(tail, sink.keep))
    sink.check(items - 1)


async def task_per_item(count: int) -> None:
    sink = Sink()
    order = InOrder(sink.keep)
    slots = asyncio.Semaphore(PARALLEL)

    async def work(number: int) -> None:
        await asyncio.sleep(0)
        order.fill(number, number + 1)
        slots.release()

    async with asyncio.TaskGroup() as group:
        for number in range(count):
            await slots.acquire()
            group.create_task(work(number))
    sink.check(count)


async def pair(count: int) -> None:
    sink = Sink()
    queue: asyncio.Queue[int] = asyncio.Queue(CAPACITY)
    for item in range(count):
        await queue.put(item)
        sink.keep(await queue.get())
    sink.check(count - 1)


async def two_tasks(count: int) -> None:
    sink = Sink()
    queue: asyncio.Queue[Any] = asyncio.Queue(CAPACITY)
    async with asyncio.TaskGroup() as group:
        group.create_task(feed(queue, count))
        group.create_task(drain(queue, sink.keep))
    sink.check(count - 1)


NAME = "asyncio queues"
NO_YIELD = "put and get return without a checkpoint while there is room"
PEERS = (
    Peer("chain", NAME, on_asyncio(chain), 100_000, NO_YIELD),
    Peer("async chain", NAME, on_asyncio(async_chain), 100_000, NO_YIELD),
    Peer("hop", NAME, on_asyncio(hops), 220_000, NO_YIELD),
    Peer("parallel", "asyncio, a task per item", on_asyncio(task_per_item), 20_000),
    Peer("pair", NAME, on_asyncio(pair), 200_000, NO_YIELD),
    Peer("two tasks", NAME, on_asyncio(two_tasks), 200_000, NO_YIELD),
)
