"""`flowstore sim`: runs simulations by their seeds, and tells of those that break a law."""

import argparse
import gc
import importlib
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs
import trio

from flowstore.cli._problems import EXIT_DISAGREES, EXIT_INPUT, InputError, one_line

if TYPE_CHECKING:
    from flowstore.testing import Scenario

__all__ = ["run"]

_FEWEST: Final = 50
_MOST: Final = 250
"""Seeds that a process is given at once: what it starts with costs as much as some ten."""
_SHARES: Final = 4
"""Of each process, or as few seeds as that makes: none is to wait long for the last one."""
_RARELY: Final = 50_000
"""Objects between two looks for rubbish, in such a process."""
_MOST_STORIES: Final = 3
"""Failing seeds whose story is told; of the others only the number."""

_NO_EXTRA: Final = "simulations need the extra 'testing': pip install 'flowstore[testing]'"


@attrs.define
class _Tally:
    """Count what was run.

    Attributes:
        seeds: how many.
        events: how many were committed in all of them.
        faults: how often each kind of trouble came in those that broke no law.
        failed: seeds that broke a law, with the story of each.
    """

    seeds: int = 0
    events: int = 0
    faults: Counter[str] = attrs.field(factory=Counter[str])
    failed: list[tuple[int, str]] = attrs.field(factory=list[tuple[int, str]])

    def add(self, other: "_Tally") -> None:
        """Add what another process has run."""
        self.seeds += other.seeds
        self.events += other.events
        self.faults.update(other.faults)
        self.failed = sorted([*self.failed, *other.failed])


def run(options: argparse.Namespace) -> int:
    """Run what was asked for, print what happened, and return the exit status."""
    try:
        scenario = _find(options.scenario)
        if options.seed is not None:
            return _run_one(scenario, options.seed)
        seeds = range(options.first, options.first + options.seeds)
        if options.worker:
            # Its memory is gone within seconds: a tenth of the time would go to looking for rubbish.
            gc.freeze()
            gc.set_threshold(_RARELY)
            print(json.dumps(attrs.asdict(_run_here(scenario, seeds))))
            return 0
        return _run_many(scenario, options, seeds)
    except InputError as error:
        print(f"flowstore sim: {one_line(error)}", file=sys.stderr)
        return EXIT_INPUT


def _find(named: str) -> "Scenario":
    """Find a scenario by its name.

    Raises:
        InputError: there is none, or simulations can't run here.
    """
    try:
        testing = importlib.import_module("flowstore.testing")
    except ModuleNotFoundError as error:
        raise InputError(f"{_NO_EXTRA} ({error})") from error
    if named == "default":
        return testing.default_scenario()
    module_name, colon, attribute = named.partition(":")
    if not (module_name and colon and attribute):
        raise InputError(f"--scenario {named!r} is neither 'default' nor MODULE:ATTRIBUTE")
    # As `python -m` finds modules, also where the command was started as a script.
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = getattr(importlib.import_module(module_name), attribute)
        found = found if isinstance(found, testing.Scenario) or not callable(found) else found()
    except Exception as error:
        raise InputError(f"--scenario {named} fails: {type(error).__name__}: {error}") from error
    if not isinstance(found, testing.Scenario):
        raise InputError(
            f"--scenario {named} is a {type(found).__name__}: name a Scenario, or a function that"
            " returns one"
        )
    return attrs.evolve(found, name=named)


def _run_one(scenario: "Scenario", seed: int) -> int:
    testing = importlib.import_module("flowstore.testing")
    try:
        done = testing.simulate(scenario, seed=seed)
    except testing.SimulationError as error:
        print("\n".join(error.trace))
        print(f"\n{error}")
        return EXIT_DISAGREES
    print("\n".join(done.trace))
    told = _told(done.events, done.faults)
    print(f"\nseed {seed}: every law holds; {told}, {done.seconds:.1f} s of virtual time")
    return 0


def _told(events: int, faults: Mapping[str, int]) -> str:
    came = [f"{faults[kind]} {kind.replace('_', ' ')}" for kind in sorted(faults) if faults[kind]]
    return ", ".join([f"{events} events", *came])


def _run_here(scenario: "Scenario", seeds: Iterable[int]) -> _Tally:
    testing = importlib.import_module("flowstore.testing")
    tally = _Tally()
    for seed in seeds:
        tally.seeds += 1
        try:
            done = testing.simulate(scenario, seed=seed)
        except testing.SimulationError as error:
            tally.failed.append((seed, str(error)))
        else:
            tally.events += done.events
            tally.faults.update(done.faults)
    return tally


def _run_many(scenario: "Scenario", options: argparse.Namespace, seeds: range) -> int:
    begin = time.monotonic()
    jobs = options.jobs or os.cpu_count() or 1
    if jobs == 1 or len(seeds) <= _FEWEST:
        tally = _run_here(scenario, seeds)
    else:
        tally = trio.run(_share, options, seeds, jobs)
    for _, story in tally.failed[:_MOST_STORIES]:
        print(f"{story}\n")
    lasted = f"{_told(tally.events, tally.faults)}, {time.monotonic() - begin:.1f} s"
    if tally.failed:
        numbers = ", ".join(str(seed) for seed, _ in tally.failed)
        print(f"{len(tally.failed)} of {tally.seeds} seeds break a law ({lasted}): {numbers}")
        return EXIT_DISAGREES
    print(f"{tally.seeds} seeds, from {seeds[0]} on: every law holds; {lasted}")
    return 0


async def _share(options: argparse.Namespace, seeds: range, jobs: int) -> _Tally:
    """Share the seeds out to processes, a few at once.

    Raises:
        InputError: one of them ended without an answer.
    """
    tally = _Tally()
    at_once = min(max(_FEWEST, -(-len(seeds) // (jobs * _SHARES))), _MOST)
    parts = [seeds[first : first + at_once] for first in range(0, len(seeds), at_once)]
    problems: list[InputError] = []
    shows = sys.stderr.isatty()

    async def work() -> None:
        while parts:
            part = parts.pop(0)
            try:
                tally.add(await _run_there(options.scenario, part))
            except InputError as error:
                problems.append(error)
                parts.clear()
            if shows:
                told = f"{tally.seeds} of {len(seeds)} seeds, {len(tally.failed)} failed"
                print(f"\r{told}", end="", file=sys.stderr, flush=True)

    async with trio.open_nursery() as nursery:
        for _ in range(jobs):
            nursery.start_soon(work)
    if shows:
        print(file=sys.stderr)
    if problems:
        raise problems[0]
    return tally


async def _run_there(scenario: str, seeds: Sequence[int]) -> _Tally:
    """Run seeds in a process of their own.

    Raises:
        InputError: it ended without an answer.
    """
    numbers = ["--first", str(seeds[0]), "--seeds", str(len(seeds))]
    command = [sys.executable, "-m", "flowstore.cli", "sim", "--worker", "--scenario", scenario]
    start = partial(trio.run_process, capture_stdout=True, capture_stderr=True, check=False)
    done = await start([*command, *numbers])
    if done.returncode != 0:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise InputError(f"seeds from {seeds[0]} on could not be run: {' '.join(last)}")
    found = json.loads(done.stdout)
    failed = [(seed, story) for seed, story in found["failed"]]
    return _Tally(found["seeds"], found["events"], Counter(found["faults"]), failed)
