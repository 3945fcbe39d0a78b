"""How long programs take to start: Python itself, the blocks, and the command line's help."""

import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import trio
from _store_cases import Bench, Entry, Job


def starting(*arguments: str) -> Callable[[Bench], AbstractAsyncContextManager[Job]]:
    @asynccontextmanager
    async def opened(_: Bench) -> AsyncIterator[Job]:
        async def run() -> None:
            await trio.run_process([sys.executable, *arguments], capture_stdout=True)

        yield Job(run, 1)

    return opened


ENTRIES = [
    Entry(
        "start",
        "import flowstore.blocks",
        starting("-c", "import flowstore.blocks"),
        "names are found when they are asked for",
    ),
    Entry(
        "start",
        "from flowstore.blocks import *",
        starting("-c", "from flowstore.blocks import *"),
        "all of them",
    ),
    Entry("start", "flowstore --help", starting("-m", "flowstore.cli", "--help")),
    Entry("start", "trio and attrs", starting("-c", "import trio, attrs"), "what the blocks need"),
    Entry("start", "psycopg", starting("-c", "import psycopg"), "what the store needs"),
    Entry("start", "python -c pass", starting("-c", "pass"), "limit"),
]
