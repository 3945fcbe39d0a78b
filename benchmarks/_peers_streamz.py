"""streamz: pushed streams; with buffers, on tornado's loop, they have back-pressure."""

import asyncio

from _peers import CAPACITY, Peer, Sink, add_one
from _peers_asyncio import on_asyncio
from streamz import Stream


def pushed(count: int) -> None:
    sink = Sink()
    source = Stream()
    source.map(add_one).sink(sink.keep)
    for item in range(count):
        source.emit(item)
    sink.check(count)


async def buffered(count: int) -> None:
    sink = Sink()
    done = asyncio.Event()

    def keep(item: int) -> None:
        sink.keep(item)
        if item == count:
            done.set()

    source = Stream(asynchronous=True)
    source.buffer(CAPACITY).map(add_one).buffer(CAPACITY).sink(keep)
    for item in range(count):
        await source.emit(item, asynchronous=True)
    await done.wait()
    sink.check(count)


PEERS = (
    Peer("chain", "streamz", pushed, 50_000, "nested calls: no buffers, no tasks"),
    Peer("chain", "streamz with buffers", on_asyncio(buffered), 10_000),
)
