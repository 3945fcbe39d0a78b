"""The world of one simulation: database, processes, who makes trouble, and who looks."""

from collections.abc import Mapping
from random import Random
from typing import Any

import attrs
import trio

from flowstore.codec import EventRegistry
from flowstore.store import StoreOptions
from flowstore.store.memory import CommitStep, Place, Transaction
from flowstore.testing._determinism import Schedule
from flowstore.testing._memory_store import MemoryStore
from flowstore.testing._simulation._database import SimulatedDatabase
from flowstore.testing._simulation._journal import add_journal
from flowstore.testing._simulation._laws import Laws
from flowstore.testing._simulation._nemesis import Nemesis
from flowstore.testing._simulation._processes import Process, Processes
from flowstore.testing._simulation._roles import (
    run_daemon,
    run_mender,
    run_writer,
)
from flowstore.testing._simulation._scenario import (
    AbortedError,
    Scenario,
    Writer,
    new_streams,
)
from flowstore.testing._simulation._trace import Trace

__all__ = ["World"]


class World:
    """Hold everything that is there, and be the witness of what happens to the database.

    Attributes:
        scenario: what is run.
        settings: of the daemons in this run.
        trace: what happens.
        database: what all processes share.
        processes: those that are there.
        nemesis: who makes trouble.
        writers: those who append.
        stop_daemons: set once daemons are to stop.
        common: the connection of all who run no projections in a daemon.
        laws: what every commit is held against.
    """

    def __init__(self, scenario: Scenario, seed: int, trace: Trace, schedule: Schedule) -> None:
        self.scenario = scenario
        self.trace = trace
        self.database = SimulatedDatabase()
        self.processes = Processes(schedule, trace, self.database)
        self.nemesis = Nemesis(
            scenario.faults,
            Random(f"{seed} nemesis"),  # noqa: S311  what is drawn keeps no secret
            trace,
            self.processes,
            self.database,
            self._fork,
        )
        self.stop_daemons = trio.Event()
        self.writers: list[Writer] = []
        self._draw = Random(f"{seed} world")  # noqa: S311  as above
        self._ids = Random(f"{seed} ids")  # noqa: S311  as above
        self._has_written: list[trio.Event] = []
        self._daemons_stopped: list[trio.Event] = []
        self._forked = 0
        mode = Random(f"{seed} mode")  # noqa: S311  as above
        self._is_hot_cold = mode.random() < scenario.hot_cold
        self.settings = (
            attrs.evolve(scenario.settings, mode="hot_cold")
            if self._is_hot_cold
            else scenario.settings
        )
        self.common = self.store()
        self.laws = Laws(trace, self.database, self.common)
        self.database.witness = self

    def options(self) -> StoreOptions:
        """Make the options of a process' store, with projections that no other process has."""
        options = StoreOptions(events=EventRegistry(converter=self.scenario.converter))
        self.scenario.register(options)
        add_journal(options)
        return options

    def store(self) -> MemoryStore:
        """Make a connection to the database, with projections that nobody else has."""
        return MemoryStore(
            self.options(), database=self.database, pause=self._at_step, random=self._ids
        )

    # -- who is there ------------------------------------------------------------------------

    def populate(self, nursery: trio.Nursery) -> None:
        """Have everybody begin."""
        self.processes.nursery = nursery
        scenario = self.scenario
        streams = new_streams(self._ids, self.common.options, scenario.streams)
        for number in range(1, scenario.writers + 1):
            done = trio.Event()
            self._has_written.append(done)
            nursery.start_soon(self._keep_writing, number, streams, done)
        for name in ("daemon", "standby")[: 2 if self._is_hot_cold else 1]:
            stopped = trio.Event()
            self._daemons_stopped.append(stopped)
            nursery.start_soon(self._keep_daemon, name, stopped)
        nursery.start_soon(self.nemesis.run, scenario.duration)
        self.processes.spawn("operator", "operator", self._mend)

    async def _keep_writing(self, number: int, streams: list[Any], done: trio.Event) -> None:
        name, turns = f"writer-{number}", list(range(self.scenario.turns))
        draw = Random(self._draw.getrandbits(64))  # noqa: S311  as above
        recorded: list[Any] = []

        async def write(process: Process) -> None:
            writer = Writer(name, self.common, draw, streams, recorded)
            self.writers.append(writer)
            peace = self.nemesis.peace
            await run_writer(writer, process, self.scenario, turns, self.trace, peace=peace)

        while turns:
            await self.processes.spawn(name, "writer", write).ended.wait()
            await trio.sleep(self._draw.uniform(0.01, 0.2))
        done.set()

    async def _keep_daemon(self, name: str, stopped: trio.Event) -> None:
        """Start the daemon again whenever it ends, as an orchestrator would."""
        starts = 0
        while not self.stop_daemons.is_set():
            starts += 1
            process = self.processes.spawn(name, "daemon", self._project)
            await process.ended.wait()
            await trio.sleep(self._draw.uniform(0.01, 0.05 * min(starts, 40)))
        stopped.set()

    async def _project(self, process: Process) -> None:
        name = process.name
        await run_daemon(self.store(), self.settings, self.trace, name, self.stop_daemons)

    def _fork(self) -> None:
        self._forked += 1
        self.processes.spawn(f"daemon-{self._forked + 1}", "daemon", self._project)

    async def _mend(self, _process: Process) -> None:
        await run_mender(self.common, self._draw, self.scenario.duration, self.trace)

    async def writers_are_through(self) -> None:
        """Wait until everything is written."""
        for event in self._has_written:
            await event.wait()

    async def daemons_have_stopped(self) -> None:
        """Stop the daemons, and wait for it."""
        self.stop_daemons.set()
        for event in self._daemons_stopped:
            await event.wait()
        for process in self.processes.alive():
            if process.role == "daemon":
                await process.ended.wait()

    def close(self) -> None:
        """Sweep up; nothing that happens from now on counts."""
        self.trace.is_closed = True
        self.nemesis.is_over, self.nemesis.is_down = True, False
        self.processes.sweep()

    # -- the witness -------------------------------------------------------------------------

    async def travel(self) -> None:
        """Take the time of a round trip, or fail."""
        process = self.processes.current()
        if not self.trace.is_closed and process is not None:
            await self.nemesis.on_the_wire(process)

    def began(self, transaction: Transaction) -> None:
        """Remember whose transaction one is."""
        self.processes.began(transaction.number)

    def ended(
        self, transaction: Transaction, before: Mapping[Place, Any], after: Mapping[Place, Any]
    ) -> None:
        """Judge a commit, and note what was rolled back after it had drawn numbers."""
        process = self.processes.owner_of(transaction.number)
        if after:
            if not self.trace.is_closed:
                self.laws.judge(process, before, after)
        elif transaction.bound is not None and process is not None:
            drawn = f"{transaction.bound + 1} and on"
            self.trace.note(process.name, f"is rolled back, having drawn {drawn}")

    def loses_notification(self) -> bool:
        """Tell whether an append is to wake nobody."""
        return not self.trace.is_closed and self.nemesis.loses_notification()

    async def _at_step(self, step: CommitStep) -> None:
        await trio.lowlevel.checkpoint()
        process = self.processes.current()
        if self.trace.is_closed or process is None:
            return
        if process.role == "writer" and step == "numbers drawn":
            if process.may_abort:
                raise AbortedError("given up")
            if not self.nemesis.is_over and self._draw.random() < 0.5:
                await trio.sleep(self._draw.uniform(0, self.scenario.longest_open))
        await self.nemesis.at_step(process, step)
