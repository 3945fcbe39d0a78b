"""Running trio so that a seed decides the order of all tasks, and groups of them can be held.

The only module that leans on trio's inside: on the switch and the generator that trio's plugin for
Hypothesis uses, and on the queue of tasks that are ready. `check_trio` says what it needs of them,
and a test asks it with every trio that this is run with.
"""

# ruff: noqa: SLF001  this module is there to keep trio's inside in one place

import random
from collections import deque
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, TypeVar

import attrs
import trio
from trio._core import _run  # pyright: ignore[reportPrivateUsage]
from trio.testing import MockClock

from flowstore.errors import FlowstoreError

__all__ = ["NotDeterministicError", "Schedule", "check_trio", "run_seeded"]

_trio: Any = _run
"""Looked at as it is at run time: what is used of it is in no stub."""

_T = TypeVar("_T")

_MOST_TURNS: Final = 25_000
"""Turns of the loop between two looks at the time: where none has passed somebody spins."""

_GROUP: Final[ContextVar[object | None]] = ContextVar("group of a simulated process", default=None)


class NotDeterministicError(FlowstoreError):
    """This trio lacks what deciding its order by a seed needs."""


def check_trio() -> None:
    """Look for what is leaned on in trio's inside.

    Raises:
        NotDeterministicError: something is missing, or is something else.
    """
    runner, task = (
        {field.name for field in attrs.fields(kind)} if attrs.has(kind) else set[str]()
        for kind in (getattr(_trio, "Runner", object), trio.lowlevel.Task)
    )
    needed = {
        "_ALLOW_DETERMINISTIC_SCHEDULING": isinstance(
            getattr(_trio, "_ALLOW_DETERMINISTIC_SCHEDULING", None), bool
        ),
        "_r": isinstance(getattr(_trio, "_r", None), random.Random),
        "GLOBAL_RUN_CONTEXT": hasattr(_trio, "GLOBAL_RUN_CONTEXT"),
        "Runner.runq": "runq" in runner,
        "Task.context": "context" in task,
        "Task._counter": "_counter" in task,
    }
    missing = [name for name, is_there in needed.items() if not is_there]
    if missing:
        raise NotDeterministicError(
            f"trio {trio.__version__} has no {', '.join(missing)} as trio 0.30 to 0.35 have:"
            " simulations can't be repeated with it; use one of those, or tell us"
        )


class _Ready(deque[trio.lowlevel.Task]):
    """The tasks that are ready; those of a held group stay where they are told to wait."""

    def __init__(self, held: dict[object, list[trio.lowlevel.Task]]) -> None:
        super().__init__()
        self._held = held
        self._let = super().append

    def append(self, task: trio.lowlevel.Task) -> None:
        # Called for every step of every task: where nobody is held, it costs next to nothing.
        waiting = self._held.get(task.context.get(_GROUP)) if self._held else None
        if waiting is None:
            self._let(task)
        else:
            waiting.append(task)


class Schedule(trio.abc.Instrument):
    """Say which tasks go on; a held group stands still, timers included, as a stopped process.

    A task belongs to the group in whose block it was started, and so do those it starts.

    Attributes:
        turns: how often the loop went round.
        stuck: is called, once, when the loop spins without time passing.
    """

    def __init__(self, stuck: Callable[[], None]) -> None:
        self.turns = 0
        self.stuck = stuck
        self._held: dict[object, list[trio.lowlevel.Task]] = {}
        self._between: list[Callable[[], None]] = []
        self._time = 0.0
        self._since = 0
        self._ready: _Ready | None = None

    @contextmanager
    def within(self, group: object) -> Generator[None]:
        """Have tasks that are started in the block belong to a group."""
        token = _GROUP.set(group)
        try:
            yield
        finally:
            _GROUP.reset(token)

    @staticmethod
    def group() -> Any:
        """Give the group that the running task belongs to; None for none."""
        return _GROUP.get()

    def between_turns(self, act: Callable[[], None]) -> None:
        """Call a function once every task that is ready now has had its turn."""
        self._between.append(act)

    def hold(self, group: object) -> None:
        """Let no task of a group go on; to be called between turns."""
        self._held.setdefault(group, [])
        ready = self._ready
        if ready is not None:
            tasks = list(ready)
            ready.clear()
            for task in tasks:
                ready.append(task)  # which sorts them out

    def let_go(self, group: object) -> None:
        """Let a group's tasks go on; those that were ready, or whose time has come, do so now."""
        waiting = self._held.pop(group, ())
        if self._ready is not None:
            self._ready.extend(waiting)

    def let_all_go(self) -> None:
        """Hold nobody any more."""
        for group in list(self._held):
            self.let_go(group)

    def before_run(self) -> None:
        """Put a queue that knows the held groups in the place of trio's."""
        self._ready = _Ready(self._held)
        runner: Any = _trio.GLOBAL_RUN_CONTEXT.runner
        runner.runq = self._ready

    def before_io_wait(self, timeout: float) -> None:  # noqa: ARG002  trio's signature
        """Count the turn, and act where no task is in the middle of anything."""
        self.turns += 1
        if self.turns - self._since >= _MOST_TURNS:
            self._look_at_the_time()
        if self._between:
            acts, self._between = self._between, []
            for act in acts:
                act()

    def _look_at_the_time(self) -> None:
        now = trio.current_time()
        if now == self._time:
            self.stuck()
        self._time = now
        self._since = self.turns


def run_seeded(main: Callable[[], Awaitable[_T]], *, seed: int | str, schedule: Schedule) -> _T:
    """Run an async function with virtual time that jumps, in the order that a seed gives.

    Raises:
        NotDeterministicError: this trio can't.
        Exception: what the function raises.
    """
    check_trio()
    allowed, state = _trio._ALLOW_DETERMINISTIC_SCHEDULING, _trio._r.getstate()
    _trio._ALLOW_DETERMINISTIC_SCHEDULING = True
    _trio._r.seed(f"{seed} schedule")
    try:
        clock = MockClock(autojump_threshold=0)
        return trio.run(main, clock=clock, instruments=[schedule])
    finally:
        _trio._ALLOW_DETERMINISTIC_SCHEDULING = allowed
        _trio._r.setstate(state)
