"""What Python itself has: threads with queues, and generators, the limit for one thread."""

import queue
import threading
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any

from _peers import CAPACITY, STOP, Peer, Sink, add_one, add_one_later


def threads(count: int) -> None:
    sink = Sink()
    first: queue.Queue[Any] = queue.Queue(CAPACITY)
    second: queue.Queue[Any] = queue.Queue(CAPACITY)

    def feed() -> None:
        for item in range(count):
            first.put(item)
        first.put(STOP)

    def transform() -> None:
        while (item := first.get()) is not STOP:
            second.put(add_one(item))
        second.put(STOP)

    running = [threading.Thread(target=feed), threading.Thread(target=transform)]
    for each in running:
        each.start()
    while (item := second.get()) is not STOP:
        sink.keep(item)
    for each in running:
        each.join()
    sink.check(count)


def transformed(items: Iterable[int]) -> Iterator[int]:
    for item in items:
        yield add_one(item)


def generators(count: int) -> None:
    sink = Sink()
    for item in transformed(range(count)):
        sink.keep(item)
    sink.check(count)


async def async_generators(count: int) -> None:
    sink = Sink()

    async def transformed_later() -> AsyncIterator[int]:
        for item in range(count):
            yield await add_one_later(item)

    async for item in transformed_later():
        await sink.keep_later(item)
    sink.check(count)


PEERS = (
    Peer("chain", "threads with queue.Queue", threads, 40_000),
    Peer("chain", "a generator chain", generators, 1_000_000, "the limit: no buffers, no tasks"),
    Peer(
        "async chain",
        "an async generator",
        async_generators,
        500_000,
        "the limit: no buffers, no tasks",
    ),
)
