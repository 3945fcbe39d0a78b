"""Running a rule over events one by one: an async generator that nothing but events moves on."""

import sys
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import contextmanager
from datetime import datetime
from types import coroutine
from typing import Any, Final, TypeAlias

import attrs

from flowstore.errors import RegistrationError
from flowstore.events import Event

__all__ = ["Rule", "RuleRun", "begin_run"]

Rule: TypeAlias = Callable[[AsyncIterator[Event]], AsyncIterator[Any]]
"""Takes the events as they come, and yields what follows from them: a `StreamBlock`'s function."""

_MORE: Final = object()
"""What comes out of the rule when it asks for an event and there is none."""


@coroutine
def _ask_for_more() -> Generator[object, None, None]:
    yield _MORE


@attrs.define(eq=False)
class _Inputs:
    """The events as the rule sees them; asks for more when it has none."""

    event: Event | None = None

    def __aiter__(self) -> "_Inputs":
        return self

    async def __anext__(self) -> Event:
        while (event := self.event) is None:
            await _ask_for_more()
        self.event = None
        return event


@attrs.define(eq=False)
class RuleRun:
    """A rule in the middle of its events, with what it remembers of them.

    It stands still between two events, in nobody's event loop, and may be dropped at any time.

    Attributes:
        name: the process', for messages.
        at: the sequence that it has seen all its events up to.
        since: the time from which it has seen all events up to there; None: from the beginning.
    """

    name: str
    at: int
    since: datetime | None
    _inputs: _Inputs
    _outputs: AsyncIterator[Any]
    _step: Iterator[Any] | None = attrs.field(default=None, init=False)

    def covers(self, since: datetime | None) -> bool:
        """Tell whether it has seen all events from a time on; None: from the beginning on."""
        return self.since is None or (since is not None and self.since <= since)

    def feed(self, event: Event) -> list[Any]:
        """Let the rule see an event and give what it yields before it asks for the next one.

        Raises:
            RegistrationError: the rule has returned, or waits for something else.
            Exception: whatever the rule raises; the run is of no use then.
        """
        self._inputs.event = event
        yielded = self._until_it_asks()
        self.at = event.sequence
        return yielded

    def begin(self) -> None:
        """Let the rule run up to where it asks for its first event."""
        with _outside_of_any_loop():
            step = self._next_step()
        self._step = step
        if self._until_it_asks():
            raise RegistrationError(
                f"the rule of process {self.name!r} yields before it has asked for an event: what"
                " it yields has to follow from one"
            )

    def _until_it_asks(self) -> list[Any]:
        yielded: list[Any] = []
        while True:
            step = self._step if self._step is not None else self._next_step()
            self._step = None
            try:
                signal = next(step)
            except StopIteration as made:
                yielded.append(made.value)
                continue
            except StopAsyncIteration:
                raise RegistrationError(
                    f"the rule of process {self.name!r} has returned: it goes on as long as there"
                    " are events, as in `async for event in events`"
                ) from None
            if signal is _MORE:
                self._step = step
                return yielded
            _unwind(step)
            raise RegistrationError(
                f"the rule of process {self.name!r} waits for something other than its events: it"
                " only computes, so that seeing them again brings its state back; what else it"
                " needs belongs into events, or into a projection after it"
            )

    def _next_step(self) -> Iterator[Any]:
        return iter(self._outputs.__anext__().__await__())


def begin_run(name: str, rule: Rule, *, at: int, since: datetime | None) -> RuleRun:
    """Begin a rule anew, before any event.

    Args:
        name: the process', for messages.
        rule: what is run.
        at: the sequence after which it will be fed.
        since: the time from which it will have seen all events; None: from the beginning.

    Raises:
        RegistrationError: the rule returns, yields or waits before it has asked for an event.
    """
    inputs = _Inputs()
    run = RuleRun(name, at, since, inputs, aiter(rule(inputs)))
    run.begin()
    return run


@contextmanager
def _outside_of_any_loop() -> Generator[None]:
    """Keep an event loop from taking note of an async generator that is made in the block.

    It would close what it doesn't run: the rule outlives the task that feeds it, and waits for
    nothing that a loop could give.
    """
    hooks = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(None, None)
    try:
        yield
    finally:
        sys.set_asyncgen_hooks(*hooks)


def _unwind(step: Any) -> None:
    """Leave the scopes that a rule is in: they are the feeding task's."""
    try:
        step.throw(GeneratorExit)
    except (GeneratorExit, StopIteration, StopAsyncIteration):
        return
