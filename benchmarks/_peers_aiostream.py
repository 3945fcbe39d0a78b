"""aiostream: combinators over async iterators, on asyncio."""

import asyncio

from _peers import PARALLEL, Peer, Sink, add_one, add_one_later
from _peers_asyncio import on_asyncio
from aiostream import pipe, stream


async def chain(count: int) -> None:
    sink = Sink()
    await (stream.range(count) | pipe.map(add_one) | pipe.action(sink.keep))
    sink.check(count)


async def async_chain(count: int) -> None:
    sink = Sink()
    await (
        stream.range(count)
        | pipe.map(add_one_later, task_limit=1)
        | pipe.action(sink.keep_later, task_limit=1)
    )
    sink.check(count)


async def wait_and_add(item: int) -> int:
    await asyncio.sleep(0)
    return item + 1


async def parallel(count: int) -> None:
    sink = Sink()
    await (
        stream.range(count)
        | pipe.map(wait_and_add, ordered=True, task_limit=PARALLEL)
        | pipe.action(sink.keep)
    )
    sink.check(count)


NAME = "aiostream"
PULLED = "pulled item by item, no buffers"
PEERS = (
    Peer("chain", NAME, on_asyncio(chain), 50_000, PULLED),
    Peer("async chain", NAME, on_asyncio(async_chain), 5_000, "a task for every item"),
    Peer("parallel", NAME, on_asyncio(parallel), 5_000),
)
