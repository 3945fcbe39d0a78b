"""Who makes trouble: crashes, stops, lost replies and restarts, at drawn times and places."""

from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Final, Literal, TypeAlias

import attrs
import trio

from flowstore.errors import DatabaseUnavailableError
from flowstore.store.memory import CommitStep, MemoryDatabase
from flowstore.testing._simulation._faults import Faults
from flowstore.testing._simulation._processes import Process, Processes, Role
from flowstore.testing._simulation._trace import Trace

__all__ = ["Nemesis"]

Kind: TypeAlias = Literal["crash", "freeze", "drop"]

_STEPS: Final[tuple[CommitStep, ...]] = ("numbers drawn", "before commit", "committed")
_ROLES: Final[tuple[Role, ...]] = ("daemon", "daemon", "daemon", "writer")


@attrs.frozen(eq=False)
class _Fault:
    """Wait for a process of a role to come to a step of a commit.

    Without a step a connection is lost at the next round trip, and all else strikes at once.
    """

    kind: Kind
    role: Role
    step: CommitStep | None


@attrs.define(eq=False)
class Nemesis:
    """Strike at drawn times, until peace is made.

    Attributes:
        is_down: whether the database restarts.
        is_over: whether there is peace: nothing fails and nothing takes long any more.
        peace: set once there is.
        done: how often each kind of trouble came.
    """

    _faults: Faults
    _random: Random
    _trace: Trace
    _processes: Processes
    _database: MemoryDatabase
    _fork: Callable[[], None]
    is_down: bool = attrs.field(default=False, init=False)
    is_over: bool = attrs.field(default=False, init=False)
    peace: trio.Event = attrs.field(factory=trio.Event, init=False)
    done: Counter[str] = attrs.field(factory=Counter[str], init=False)
    _armed: list[_Fault] = attrs.field(factory=list[_Fault], init=False)
    _frozen: list[Process] = attrs.field(factory=list[Process], init=False)

    # -- the plan ----------------------------------------------------------------------------

    async def run(self, duration: float) -> None:
        """Strike, spread over so many seconds."""
        for at, act in self._plan(duration):
            await trio.sleep_until(at)
            if self.is_over:
                return
            act()

    def _plan(self, duration: float) -> list[tuple[float, Callable[[], None]]]:
        draw, faults = self._random, self._faults
        acts: list[Callable[[], None]] = []
        counts: dict[Kind, int] = {
            "crash": faults.crashes,
            "freeze": faults.freezes,
            "drop": faults.dropped_replies,
        }
        for kind, most in counts.items():
            # Something crashes in every run that may have crashes: it is what runs are for.
            least = min(1, most) if kind == "crash" else 0
            acts += [self._strike(self._draw(kind)) for _ in range(draw.randint(least, most))]
        acts += [self._restart] * draw.randint(0, faults.restarts)
        acts += [self._fork_one] * draw.randint(0, faults.forks)
        plan = [(draw.uniform(0, duration), number, act) for number, act in enumerate(acts)]
        return [(at, act) for at, _, act in sorted(plan, key=lambda each: each[:2])]

    def _draw(self, kind: Kind) -> _Fault:
        draw = self._random
        in_commit = draw.random() < (0.75 if kind == "drop" else 0.6)
        return _Fault(kind, draw.choice(_ROLES), draw.choice(_STEPS) if in_commit else None)

    def _strike(self, fault: _Fault) -> Callable[[], None]:
        def act() -> None:
            if fault.step is not None or fault.kind == "drop":
                self._armed.append(fault)
                return
            alive = [each for each in self._processes.alive() if each.role == fault.role]
            if alive:
                self._hit(fault, self._random.choice(alive), "in the middle of something")

        return act

    def _hit(self, fault: _Fault, process: Process, where: str) -> None:
        if process.is_dead:
            return
        if fault.kind == "crash":
            self.done["crashes"] += 1
            self._processes.crash(process, where)
        elif fault.kind == "freeze" and not process.is_frozen:
            self.done["freezes"] += 1
            self._frozen.append(process)
            self._processes.freeze(process, where)
            seconds = self._random.uniform(0.01, self._faults.longest_freeze)
            self._processes.spawn_helper(self._thaw_after, process, seconds)

    async def _thaw_after(self, process: Process, seconds: float) -> None:
        await trio.sleep(seconds)
        self._processes.thaw(process)

    def _restart(self) -> None:
        if self.is_down:
            return
        self.is_down = True
        self.done["restarts"] += 1
        self._trace.note("database", "GOES DOWN; open transactions are rolled back")
        for transaction in self._database.open_transactions():
            transaction.terminate()
        self._processes.spawn_helper(
            self._come_up, self._random.uniform(0.01, max(0.01, self._faults.longest_restart))
        )

    def _fork_one(self) -> None:
        self.done["forks"] += 1
        self._fork()

    async def _come_up(self, seconds: float) -> None:
        await trio.sleep(seconds)
        if self.is_down:
            self.is_down = False
            self._trace.note("database", "is up again")

    def make_peace(self) -> None:
        """Have everything work from now on, and who stood still go on."""
        self.is_over, self.is_down = True, False
        self.peace.set()
        self._armed.clear()
        for process in self._frozen:
            self._processes.thaw(process)
        self._trace.note("", "PEACE: nothing fails any more")

    # -- on the wire -------------------------------------------------------------------------

    def loses_notification(self) -> bool:
        """Draw whether an append wakes nobody; also in peace, as nobody promises notifications."""
        is_lost = self._random.random() < self._faults.lost_notifications
        self.done["lost_notifications"] += is_lost
        return is_lost

    async def on_the_wire(self, process: Process) -> None:
        """Take the time of a round trip.

        Raises:
            DatabaseUnavailableError: the connection is lost, or the database restarts.
        """
        if self._armed_for(process, None) is not None:
            self.done["dropped_replies"] += 1
            self._trace.note(process.name, "LOSES THE CONNECTION on the way")
            raise _cut_off()
        if not self.is_over and self._random.random() < self._faults.delays:
            self.done["delays"] += 1
            await trio.sleep(self._random.uniform(0, self._faults.longest_delay))
        self._refuse_while_down()

    async def at_step(self, process: Process, step: CommitStep) -> None:
        """Do to a commit what was drawn for it.

        Raises:
            DatabaseUnavailableError: the connection is lost.
        """
        fault = self._armed_for(process, step)
        if fault is not None and fault.kind == "drop":
            stands = "it stands" if step == "committed" else "it is rolled back"
            self.done["dropped_replies"] += 1
            self._trace.note(process.name, f"LOSES THE CONNECTION at {step!r}: {stands}")
            raise _cut_off()
        if fault is not None:
            self._hit(fault, process, f"at {step!r}")
            await trio.lowlevel.checkpoint()
            if process.is_dead:
                # Its task never goes on, but to be swept up when everything is over.
                await self._processes.swept.wait()
                raise DatabaseUnavailableError("this process was killed")
        await self.on_the_wire(process)

    def _armed_for(self, process: Process, step: CommitStep | None) -> _Fault | None:
        for fault in self._armed:
            if (fault.role, fault.step) == (process.role, step):
                self._armed.remove(fault)
                return fault
        return None

    def _refuse_while_down(self) -> None:
        if self.is_down:
            raise DatabaseUnavailableError("the database system is starting up", sqlstate="57P03")


def _cut_off() -> DatabaseUnavailableError:
    return DatabaseUnavailableError("server closed the connection", sqlstate="08006")
