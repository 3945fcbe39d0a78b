"""Processes that live in one event loop, and can be killed or stopped as real ones."""

from collections.abc import Awaitable, Callable
from typing import Any, Literal, TypeAlias, cast

import attrs
import trio

from flowstore.store.memory import MemoryDatabase
from flowstore.testing._determinism import Schedule
from flowstore.testing._simulation._trace import Trace

__all__ = ["Body", "Process", "Processes", "Role"]

Role: TypeAlias = Literal["daemon", "writer", "operator"]


@attrs.define(eq=False)
class Process:
    """Be something that can be killed, or stopped for a while.

    Attributes:
        name: what it is called in the trace.
        role: what it is there for.
        ended: set when it has ended, or was killed.
        is_dead: whether it was killed.
        is_frozen: whether it stands still.
        may_abort: whether a commit of it is to be given up on purpose.
    """

    name: str
    role: Role
    ended: trio.Event = attrs.field(factory=trio.Event, init=False, repr=False)
    is_dead: bool = attrs.field(default=False, init=False)
    is_frozen: bool = attrs.field(default=False, init=False)
    may_abort: bool = attrs.field(default=False, init=False)


Body: TypeAlias = Callable[[Process], Awaitable[None]]


@attrs.define(eq=False)
class Processes:
    """Start processes, and end them the hard way.

    Killed, a process' tasks never go on: no cleanup of it runs, its transactions are rolled back
    by the server. Stopped, they go on later, and find the world as it has become.

    Attributes:
        nursery: where their tasks live; to be set before the first one is started.
        swept: set when everything is over and what is left of all processes is swept up.
    """

    _schedule: Schedule
    _trace: Trace
    _database: MemoryDatabase
    nursery: trio.Nursery = attrs.field(init=False)
    _alive: list[Process] = attrs.field(factory=list[Process], init=False)
    swept: trio.Event = attrs.field(factory=trio.Event, init=False)
    _owners: dict[int, Process] = attrs.field(factory=dict[int, Process], init=False)

    def alive(self) -> list[Process]:
        """List those that run, in the order they were started."""
        return list(self._alive)

    def current(self) -> Process | None:
        """Give the process that the running task belongs to."""
        return self._schedule.group()

    def began(self, transaction: int) -> None:
        """Remember whose transaction one is."""
        process = self.current()
        if process is not None:
            self._owners[transaction] = process

    def owner_of(self, transaction: int) -> Process | None:
        """Tell whose transaction one is."""
        return self._owners.get(transaction)

    def spawn(self, name: str, role: Role, body: Body) -> Process:
        """Start a process."""
        process = Process(name, role)
        self._alive.append(process)
        self._trace.note(name, "starts")
        with self._schedule.within(process):
            self.nursery.start_soon(self._live, process, body)
        return process

    def spawn_helper(self, work: Callable[..., Awaitable[None]], *args: Any) -> None:
        """Start a task of the world, which belongs to no process and can't be killed."""
        with self._schedule.within(None):
            self.nursery.start_soon(work, *args)

    async def _live(self, process: Process, body: Body) -> None:
        try:
            await body(process)
        except Exception as error:  # noqa: BLE001  it is the process' end, which is told
            self._trace.note(process.name, f"ends with {_told(error)}")
        else:
            self._trace.note(process.name, "ends")
        finally:
            self._gone(process)

    def _gone(self, process: Process) -> None:
        if process in self._alive:
            self._alive.remove(process)
        process.ended.set()

    def sweep(self) -> None:
        """Have what is left of all processes go on, so that it can be cancelled."""
        self.swept.set()
        self._schedule.let_all_go()

    # -- the hard way ------------------------------------------------------------------------

    def crash(self, process: Process, where: str) -> None:
        """Kill a process once the tasks that are ready have had their turn."""
        self._trace.note(process.name, f"CRASHES {where}")
        process.is_dead = True
        self._schedule.between_turns(lambda: self._bury(process))

    def _bury(self, process: Process) -> None:
        self._schedule.hold(process)
        for transaction in self._database.open_transactions():
            if self._owners.get(transaction.number) is process:
                transaction.terminate()
        self._gone(process)

    def freeze(self, process: Process, where: str) -> None:
        """Have a process stand still, once the tasks that are ready have had their turn."""
        self._trace.note(process.name, f"FREEZES {where}")
        process.is_frozen = True
        self._schedule.between_turns(lambda: self._schedule.hold(process))

    def thaw(self, process: Process) -> None:
        """Have a process go on, unless it was killed meanwhile."""
        if process.is_frozen and not process.is_dead:
            process.is_frozen = False
            self._trace.note(process.name, "THAWS")
            self._schedule.let_go(process)


def _told(error: Exception) -> str:
    if isinstance(error, ExceptionGroup):
        members = cast("ExceptionGroup[Exception]", error).exceptions
        return "; ".join(map(_told, members))
    return f"{type(error).__name__}: {error}"
