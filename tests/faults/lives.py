"""Processes to be killed: each has a store, a daemon and writers.

Run as a program it is a server that forks: what takes long, importing, is done once, and a process to
be killed begins its life within milliseconds. It reads an order a line, and answers with the child's
number, and with its status once it has ended; in between the child says that it runs.
"""

import json
import logging
import os
import random
import subprocess
import sys
import traceback
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import attrs
import trio
from victim import PATIENCE, SETTINGS, Writer, opened

RUNNING = b"running"


@attrs.frozen(kw_only=True)
class Order:
    """Say what a process has to do.

    Attributes:
        dsn: where the store is.
        life: the life's name, which its events bear.
        told: the file that acknowledged numbers are written to: it outlives whoever is killed.
        writers: how many.
        count: appends of each; None: for ever.
        mode: the daemon's.
        lease_time: in mode "hot_cold".
        dies_after_commit: of which after_commit callback it dies; 0: of none.
    """

    dsn: str
    life: str
    told: str
    writers: int = 2
    count: int | None = None
    mode: str = "solo"
    lease_time: float = 1.0
    poison: float = 0.02
    dies_after_commit: int = 0


def read_told(path):
    return Path(path).read_text(encoding="utf-8").splitlines()


async def live(order):
    file = os.open(order.told, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    commits = 0

    def told(numbers):
        os.write(file, "".join(f"{number}\n" for number in numbers).encode())

    def committed():
        nonlocal commits
        commits += 1
        if commits == order.dies_after_commit:
            os.kill(os.getpid(), 9)

    settings = attrs.evolve(SETTINGS, mode=order.mode, lease_time=order.lease_time)
    dice = random.Random(order.life)
    async with (
        opened(order.dsn, committed) as store,
        store.build_projection_daemon(settings) as daemon,
    ):
        await daemon.start_all()
        os.write(1, RUNNING + b"\n")
        async with trio.open_nursery() as nursery:
            for number in range(order.writers):
                seed = random.Random(dice.random())
                name = f"{order.life}/{number}"
                writer = Writer(name, seed, told, order.poison, daemon=daemon)
                nursery.start_soon(writer.write, store, order.count)
        with trio.fail_after(PATIENCE):
            await daemon.wait_for_non_stale_results()


def serve():
    """Fork a child an order, one after the other."""
    logging.getLogger("flowstore").setLevel(logging.CRITICAL)
    for line in sys.stdin:
        order = Order(**json.loads(line))
        child = os.fork()
        if not child:
            status = 1
            try:
                trio.run(live, order)
                status = 0
            except BaseException:  # noqa: BLE001 - the child ends here, whatever it was
                traceback.print_exc()
            os._exit(status)
        os.write(1, f"{child}\n".encode())
        _, status = os.waitpid(child, 0)
        os.write(1, f"{os.waitstatus_to_exitcode(status)}\n".encode())


@attrs.define
class Forge:
    """Starts processes by a server that forks."""

    process: trio.Process
    pid: int = 0
    _rest: bytes = b""

    async def start(self, **order):
        line = json.dumps(attrs.asdict(Order(**order)))
        await self.process.stdin.send_all(f"{line}\n".encode())
        # It is told as soon as there is a child, which itself has a store to open first.
        self.pid = int(await self._line())

    async def running(self):
        """Wait until the child's daemon runs."""
        assert await self._line() == RUNNING

    async def ended(self):
        """Wait for the child's end; gives its status."""
        while (line := await self._line()) == RUNNING:
            pass
        self.pid = 0
        return int(line)

    def kill(self, number):
        assert self.pid  # 0 would be all of us
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    async def _line(self):
        with trio.fail_after(PATIENCE):
            while b"\n" not in self._rest:
                data = await self.process.stdout.receive_some()
                assert data, "the server that forks has ended"
                self._rest += data
        line, self._rest = self._rest.split(b"\n", 1)
        return line


@asynccontextmanager
async def forging():
    process = await trio.lowlevel.open_process(
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    forge = Forge(process)
    try:
        yield forge
    finally:
        if forge.pid:
            forge.kill(9)
        process.kill()
        await process.wait()


if __name__ == "__main__":
    serve()
