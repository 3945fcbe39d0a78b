"""Where the time of a rebuild and of a catch-up goes: processor time by room of the code, and the server's.

    python benchmarks/shares.py [--events 60000] [--streams 2000] [--rounds 3] [--dsn DSN] [--functions N]

Each case runs beside the loop by hand that it is compared with in `store.py`. What is counted is
processor time, of this process and of the server's, so that other programs on the machine change
little. In as many more rounds, which aren't timed, samples say every few milliseconds of processor
time which code was running: the innermost call that belongs to a room counts, so that Python's own
library, and what is written in C, counts for whoever called it. Waiting counts for nothing.
`--functions` lists single functions as well.
"""

import argparse
import gc
import os
import signal
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Final

import attrs
import trio
from _store_cases import Bench, Entry, Job
from _store_flowstore import ENTRIES as OURS
from _store_loops import ENTRIES as LOOPS
from _store_work import Sizes
from store import _own_database, _own_server

EVENTS, STREAMS, ROUNDS = 60_000, 2_000, 3
EVERY: Final = 0.001
"""Seconds of processor time between two samples, or more, where the system's clock is coarser."""

PACKAGES: Final = {
    "flowstore/blocks": "blocks and channels",
    "trio": "trio",
    "outcome": "trio",
    "flowstore/daemon": "daemon",
    "flowstore/projections": "projections, events",
    "flowstore/events": "projections, events",
    "flowstore/store": "store",
    "flowstore/postgres": "postgres, psycopg",
    "psycopg": "postgres, psycopg",
    "psycopg_binary": "postgres, psycopg",
    "psycopg_c": "postgres, psycopg",
    "flowstore/codec": "codec: cattrs, msgspec, json",
    "cattrs": "codec: cattrs, msgspec, json",
    "json": "codec: cattrs, msgspec, json",
    "flowstore/cli": "the application's classes",
    "flowstore": "the rest",
}
"""Rooms by folder, the longest match first; a part of a path."""
GENERATED: Final = {"<cattrs generated": "codec: cattrs, msgspec, json"}
CASES: Final = {
    "rebuild": "loop by hand, one commit",
    "catch up": "loop by hand, one commit",
    "continuous": "loop by hand, a commit every 2,000",
}


@attrs.frozen
class Used:
    """Processor time, in seconds: the process', the server's, and what a clock on the wall said."""

    ours: float
    server: float
    wall: float

    def told(self) -> str:
        """Lay it out for the table."""
        return (
            f"{self.ours:7.2f} {self.server:7.2f} {self.ours + self.server:7.2f} {self.wall:7.2f}"
        )


class Sampler:
    """Counts which code runs, by signals that come as processor time passes.

    Attributes:
        rooms: samples by room.
        functions: samples by the innermost function, of whichever room.
    """

    def __init__(self) -> None:
        self.rooms: Counter[str] = Counter()
        self.functions: Counter[str] = Counter()
        self._known: dict[CodeType, str | None] = {}

    @contextmanager
    def sampling(self) -> Iterator[None]:
        """Sample for the block, within trio's loop, which isn't woken by it."""
        before = signal.signal(signal.SIGPROF, self._take)
        wakened = signal.set_wakeup_fd(-1)
        signal.setitimer(signal.ITIMER_PROF, EVERY, EVERY)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.set_wakeup_fd(wakened)
            signal.signal(signal.SIGPROF, before)

    def _take(self, _: int, frame: FrameType | None) -> None:
        if frame is not None:
            code = frame.f_code
            self.functions[
                f"{code.co_qualname} ({'/'.join(code.co_filename.split('/')[-2:])})"
            ] += 1
        room = None
        while frame is not None and room is None:
            room = self._room_of(frame.f_code)
            frame = frame.f_back
        self.rooms[room or "the rest"] += 1

    def _room_of(self, code: CodeType) -> str | None:
        if code not in self._known:
            self._known[code] = _room_of(code.co_filename)
        return self._known[code]


def _room_of(filename: str) -> str | None:
    for beginning, room in GENERATED.items():
        if filename.startswith(beginning):
            return room
    folder = f"/{filename.rpartition('/')[0]}/"
    for package in sorted(PACKAGES, key=len, reverse=True):
        if f"/{package}/" in folder:
            return PACKAGES[package]
    return None


def main() -> None:
    trio.run(_run, _arguments())


async def _run(arguments: argparse.Namespace) -> None:
    async with AsyncExitStack() as stack:
        server = arguments.dsn or await stack.enter_async_context(_own_server())
        dsn = await stack.enter_async_context(_own_database(server))
        bench = Bench(dsn, Sizes.of(arguments.events, arguments.streams))
        for key in arguments.only or CASES:
            await _tell(key, bench, arguments)


async def _tell(key: str, bench: Bench, arguments: argparse.Namespace) -> None:
    used: dict[str, list[Used]] = {}
    async with AsyncExitStack() as stack:
        entries = [each for each in (*OURS, *LOOPS) if _is_wanted(each, key)]
        jobs = {each.name: await stack.enter_async_context(each.open(bench)) for each in entries}
        gc.collect()
        gc.freeze()  # as `store.py` does
        for number in range(arguments.rounds + 1):
            for name, job in jobs.items():
                found = await _use(bench, job)
                if number:
                    used.setdefault(name, []).append(found)
        sampler = await _sample(jobs[entries[0].name], arguments.rounds)
        gc.unfreeze()
    print(f"\n## {key}: {bench.sizes.events:,} events in {bench.sizes.streams:,} streams")
    print(f"\n{'seconds':36} {'process':>7} {'server':>7} {'both':>7} {'wall':>7}")
    for name, rounds in used.items():
        print(f"{name:36} {_median(rounds).told()}")
    _print_ratios(*(used[each.name] for each in entries))
    _print_shares("samples of the process' processor time", sampler.rooms)
    if arguments.functions:
        _print_shares("by function", sampler.functions, arguments.functions)


async def _sample(job: Job, rounds: int) -> Sampler:
    sampler = Sampler()
    for _ in range(rounds):
        if job.prepare is not None:
            await _finish(job.prepare())
        with sampler.sampling():
            await _finish(job.run())
    return sampler


def _is_wanted(entry: Entry, key: str) -> bool:
    return entry.workload == key and entry.name in ("flowstore", CASES[key])


async def _use(bench: Bench, job: Job) -> Used:
    if job.prepare is not None:
        await _finish(job.prepare())
    server, ours, wall = _server_seconds(bench), time.process_time(), time.perf_counter()
    await _finish(job.run())
    wall, ours = time.perf_counter() - wall, time.process_time() - ours
    return Used(ours, _server_seconds(bench) - server, wall)


async def _finish(outcome: object) -> None:
    if hasattr(outcome, "__await__"):
        await outcome


def _server_seconds(bench: Bench) -> float:
    """Give the processor time of the server's processes, those that have ended too."""
    try:
        with bench.connect() as connection:
            parent = int(_stat(connection.info.backend_pid)[1])
        ticks = sum(map(int, _stat(parent)[11:15]))
        for each in Path("/proc").iterdir():
            if each.name.isdigit():
                ticks += _child_ticks(each.name, parent)
    except OSError:  # it is on another machine
        return float("nan")
    return ticks / os.sysconf("SC_CLK_TCK")


def _child_ticks(process: str, parent: int) -> int:
    try:
        facts = _stat(int(process))
    except OSError:  # it has ended meanwhile
        return 0
    return sum(map(int, facts[11:13])) if int(facts[1]) == parent else 0


def _stat(process: int) -> list[str]:
    """Read what Linux tells of a process, from its state on."""
    return Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()


def _median(rounds: Sequence[Used]) -> Used:
    return Used(
        *(statistics.median(each) for each in zip(*map(attrs.astuple, rounds), strict=True))
    )


def _print_ratios(ours: Sequence[Used], theirs: Sequence[Used]) -> None:
    kinds: dict[str, Callable[[Used], float]] = {
        "process": lambda used: used.ours,
        "both": lambda used: used.ours + used.server,
        "wall": lambda used: used.wall,
    }
    for name, kind in kinds.items():
        ratio = statistics.median(kind(b) / kind(a) for a, b in zip(ours, theirs, strict=True))
        print(f"as fast as the loop by hand, times, by {name}: {ratio:.2f}")


def _print_shares(title: str, counted: Counter[str], most: int | None = None) -> None:
    total = counted.total()
    print(f"\n{title} ({total:,})")
    for name, count in counted.most_common(most):
        print(f"{count / total:7.1%}  {name}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--events", type=int, default=EVENTS, help=f"in the history; {EVENTS:,} by default")
    add("--streams", type=int, default=STREAMS, help=f"that they are in; {STREAMS:,} by default")
    add("--rounds", type=int, default=ROUNDS, help=f"that are timed; {ROUNDS} by default")
    add("--only", nargs="+", choices=list(CASES), help="some cases")
    add("--functions", type=int, default=0, metavar="N", help="list the N dearest functions too")
    add("--dsn", help="a server to use instead of an embedded one")
    return parser.parse_args()


if __name__ == "__main__":
    main()
