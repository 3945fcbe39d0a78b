"""Emmett on PostgreSQL, in a process of node that `emmett/append.mjs` runs."""

import json
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import attrs
import trio
from _report import Measured
from _store_cases import Bench, Drawn, Entry, Job, SkippedError
from _store_work import APPENDS, Batch
from psycopg import conninfo

HERE = Path(__file__).with_name("emmett")
WANTED = ("package.json", "package-lock.json", "append.mjs")


async def installed(folder: Path | None) -> Path:
    """Have Emmett's packages in a folder, from npm if they aren't there yet.

    Raises:
        SkippedError: no folder was given, node is missing, or npm couldn't.
    """
    if folder is None:
        raise SkippedError("no --emmett FOLDER, where npm may install it")
    if missing := [name for name in ("node", "npm") if shutil.which(name) is None]:
        raise SkippedError(f"{' and '.join(missing)} isn't installed")
    await trio.to_thread.run_sync(_install, folder)
    return folder


def _install(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in WANTED:
        shutil.copy(HERE / name, folder / name)
    if (folder / "node_modules").exists():
        return
    command = ["npm", "ci", "--no-audit", "--no-fund"]
    done = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise SkippedError(f"npm couldn't install it: {done.stderr[-300:].strip()}")


class Node:
    """A process of node that takes lines of JSON and answers each with one."""

    def __init__(self, process: trio.Process) -> None:
        self._process = process
        self._rest = b""

    async def ask(self, order: dict[str, Any]) -> dict[str, Any]:
        """Send an order, and give the answer.

        Raises:
            RuntimeError: the process has ended.
        """
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("node was started without pipes")
        await self._process.stdin.send_all(json.dumps(order).encode() + b"\n")
        while b"\n" not in self._rest:
            more = await self._process.stdout.receive_some()
            if not more:
                raise RuntimeError("node has ended, for the reason it printed")
            self._rest += more
        line, _, self._rest = self._rest.partition(b"\n")
        return json.loads(line)


@asynccontextmanager
async def node(folder: Path, dsn: str) -> AsyncIterator[Node]:
    """Run the script for the block, connected."""
    start = partial(
        trio.run_process,
        ["node", "append.mjs"],
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    async with trio.open_nursery() as nursery:
        process: trio.Process = await nursery.start(start)
        running = Node(process)
        await running.ask({"connect": _url(dsn)})
        yield running
        if process.stdin is not None:
            await process.stdin.aclose()


def _url(dsn: str) -> str:
    """Write a connection string as node's driver reads it: a socket's folder as the host."""
    parts = {name: quote(str(value), safe="") for name, value in _parts(dsn).items()}
    login = ":".join(parts[each] for each in ("user", "password") if each in parts)
    port = f":{parts['port']}" if "port" in parts else ""
    return f"postgresql://{login}@{parts.get('host', 'localhost')}{port}/{parts['dbname']}"


def _parts(dsn: str) -> dict[str, object]:
    return {name: value for name, value in conninfo.conninfo_to_dict(dsn).items() if value}


def appending(key: str) -> Callable[[Bench], AbstractAsyncContextManager[Job]]:
    @asynccontextmanager
    async def opened(bench: Bench) -> AsyncIterator[Job]:
        drawn = Drawn(bench, key)
        folder = await installed(bench.emmett)
        async with node(folder, bench.dsn) as running:

            async def run() -> Measured:
                writers = [[_plain(batch) for batch in share] for share in drawn.shares]
                answer = await running.ask({"writers": writers})
                return Measured(answer["seconds"])

            yield Job(run, drawn.count, drawn.draw, table="emt_messages")

    return opened


def _plain(batch: Batch) -> dict[str, Any]:
    events: Sequence[dict[str, Any]] = [
        {"type": type(event).__name__, "data": attrs.asdict(event)} for event in batch.events
    ]
    return {"stream": f"project-{batch.stream_id}", "version": batch.version, "events": events}


_REMARK = "on node, in a process of its own; timed there"

ENTRIES = [Entry(key, "Emmett", appending(key), _REMARK) for key in APPENDS]
