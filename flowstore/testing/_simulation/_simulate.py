"""Running a scenario by a seed, and telling what went wrong."""

from collections.abc import Mapping
from random import Random
from types import MappingProxyType

import attrs
import trio

from flowstore.errors import StaleResultsError
from flowstore.testing._broken_law import BrokenLawError
from flowstore.testing._determinism import Schedule, run_seeded
from flowstore.testing._simulation._endings import (
    check_alike,
    check_appends,
    check_caught_up,
    check_rebuilt,
    documents_of_store,
    replay,
)
from flowstore.testing._simulation._processes import Process
from flowstore.testing._simulation._roles import retry_letters, trace_logger
from flowstore.testing._simulation._scenario import Scenario, default_scenario
from flowstore.testing._simulation._trace import Moment, Trace, Violation, story
from flowstore.testing._simulation._world import World

__all__ = ["Simulation", "SimulationError", "simulate"]


class SimulationError(BrokenLawError):
    """A law was broken; the message tells the seed, and what happened before.

    Attributes:
        law: which one.
        seed: runs it again.
        scenario: the scenario's name.
        violation: what must not have happened.
        trace: everything that happened, a line each.
    """

    def __init__(
        self, seed: int, scenario: str, violation: Violation, told: str, trace: tuple[str, ...]
    ) -> None:
        named = "" if scenario == "default" else f" --scenario {scenario}"
        super().__init__(
            violation.law,
            f"{violation.law}: {violation.what}\n{told}\n"
            f"seed {seed}; again with: flowstore sim --seed {seed}{named}",
        )
        self.seed = seed
        self.scenario = scenario
        self.violation = violation
        self.trace = trace


@attrs.frozen
class Simulation:
    """Hold what happened in a run that broke no law.

    Attributes:
        seed: runs it again.
        moments: everything that happened.
        events: how many were committed.
        faults: how often each kind of trouble came, by the names of `Faults`.
        seconds: how long it took, of virtual time.
        turns: how often the event loop went round.
    """

    seed: int
    moments: tuple[Moment, ...] = attrs.field(repr=False)
    events: int
    faults: Mapping[str, int]
    seconds: float
    turns: int

    @property
    def crashes(self) -> int:
        """How many processes were killed."""
        return self.faults.get("crashes", 0)

    @property
    def trace(self) -> tuple[str, ...]:
        """Everything that happened, a line each."""
        return tuple(map(str, self.moments))


def simulate(scenario: Scenario | None = None, *, seed: int) -> Simulation:
    """Run a scenario in virtual time; what is drawn, and in which order tasks run, is the seed's.

    The same seed gives the same trace in every process, on one version of Python and of trio.
    It may be called where no event loop runs.

    Args:
        scenario: what runs, and what happens to it; None takes the default one.
        seed: any whole number.

    Raises:
        SimulationError: a law was broken.
        NotDeterministicError: this version of trio lacks what is needed.
        Exception: what the scenario's own functions raise, where no law waits for it.
    """
    run = _Run(scenario or default_scenario(), seed)
    try:
        run_seeded(run.main, seed=seed, schedule=run.schedule)
    finally:
        # Whatever else there is, a broken law comes before it.
        if run.trace.violation is not None:
            raise run.error(run.trace.violation)
    return run.result()


class _Run:
    def __init__(self, scenario: Scenario, seed: int) -> None:
        self.scenario, self.seed = scenario, seed
        self.scope = trio.CancelScope()
        self.trace = Trace(self.scope.cancel)
        self.schedule = Schedule(self._stuck)
        self.seconds = 0.0
        self.events = 0
        self.faults: Mapping[str, int] = {}

    def _stuck(self) -> None:
        self.trace.violate("liveness", "tasks wake each other for ever, and no time passes")

    async def main(self) -> None:
        world = World(self.scenario, self.seed, self.trace, self.schedule)
        async with trio.open_nursery() as nursery:
            try:
                with self.scope:
                    world.populate(nursery)
                    await self._tell(world)
            finally:
                self.seconds = trio.current_time()
                self.events = len(list(world.database.between(0, world.database.highest())))
                self.faults = world.nemesis.done
                world.close()
                nursery.cancel_scope.cancel()

    async def _tell(self, world: World) -> None:
        await trio.sleep(self.scenario.duration)
        world.nemesis.make_peace()
        with trio.move_on_after(self.scenario.heal_within) as healing:
            await world.writers_are_through()
        if healing.cancelled_caught:
            self.trace.violate("liveness", "a writer never came to its end")
        check_appends(self.trace, world.database, world.writers)
        checker = world.processes.spawn(
            "checker", "operator", lambda process: self._check(world, process)
        )
        with trio.move_on_after(self.scenario.heal_within * 4) as checking:
            await checker.ended.wait()
        if checking.cancelled_caught:
            self.trace.violate("liveness", "the checks at the end never came to their end")

    async def _check(self, world: World, process: Process) -> None:
        draw = Random(f"{self.seed} rebuild")  # noqa: S311  what is drawn keeps no secret
        does_rebuild = draw.random() < self.scenario.rebuilds
        store = world.store() if does_rebuild else world.common
        logger = trace_logger(self.trace, process.name)
        async with store.build_projection_daemon(world.settings, logger) as daemon:
            try:
                await daemon.wait_for_non_stale_results(self.scenario.heal_within)
            except StaleResultsError as error:
                told = "; ".join(error.places)
                self.trace.violate("liveness", f"no shard may stand still for ever: {told}")
            await retry_letters(store, self.trace, process.name)
            await world.daemons_have_stopped()
            again = await replay(self.scenario, store, world.database, world.options())
            await check_alike(self.trace, store, self.scenario, world.laws.doubted)
            for shard, expected in again.items():
                # What was retried was applied later than in a replay, and may tell.
                if world.database.edits(shard) == 0:
                    found = documents_of_store(store)[shard]
                    check_caught_up(self.trace, shard, found, expected)
            if does_rebuild:
                await daemon.rebuild_all()
                for shard, expected in again.items():
                    found = documents_of_store(store)[shard]
                    check_rebuilt(self.trace, shard, found, expected)

    def error(self, violation: Violation) -> SimulationError:
        told = story(self.trace.moments, violation)
        lines = tuple(self.trace.lines())
        return SimulationError(self.seed, self.scenario.name, violation, told, lines)

    def result(self) -> Simulation:
        moments = tuple(self.trace.moments)
        faults = MappingProxyType(dict(self.faults))
        return Simulation(
            self.seed, moments, self.events, faults, self.seconds, self.schedule.turns
        )
