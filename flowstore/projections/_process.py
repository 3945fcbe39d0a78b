"""Events from events: a rule with a memory, and documents of what it finds."""

import inspect
from collections import OrderedDict
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import attrs

from flowstore.errors import RegistrationError
from flowstore.events import Event, EventStream, in_sequence
from flowstore.projections._event_functions import expect_callable_with
from flowstore.projections._options import AsyncOptions
from flowstore.projections._protocols import EventHistory, ProjectionSession
from flowstore.projections._rule_run import Rule, RuleRun, begin_run
from flowstore.projections._shards import check_name, check_version
from flowstore.projections._state import field_names

__all__ = ["EventProcess", "event_process"]

_RUNS_KEPT: Final = 1_000
"""Tenants whose runs are kept in memory; the one that was longest unused is begun again."""


@attrs.frozen(eq=False)
class EventProcess:
    """Run a rule over the events in the order of their sequence, and store what it yields.

    What the rule remembers is in its local variables and nowhere else. It is a consequence of the
    events that came before, so it is brought back by letting the rule see them again: after a
    restart, after a page that was rolled back, after another owner had the shard. What it yields
    meanwhile was stored when those events were applied, and is left out.

    Attributes:
        source: the rule.
        name: the name that progress and status go by.
        consumes: the exact event types that the rule sees; empty means all of them.
        produces: the class of what it yields.
        window: how far back an event can matter to a later one; None: for ever.
        version: of the rule; raising it gives documents and progress of their own.
        async_options: how it runs in the daemon; what fails holds it.
    """

    source: Rule
    name: str = attrs.field(validator=check_name)
    consumes: tuple[type, ...]
    produces: type
    window: timedelta | None
    version: int = attrs.field(validator=check_version)
    async_options: AsyncOptions
    _runs: "OrderedDict[EventHistory, RuleRun]" = attrs.field(
        factory=OrderedDict["EventHistory", "RuleRun"], init=False, repr=False
    )

    async def apply(self, session: ProjectionSession, streams: Sequence[EventStream]) -> None:
        """Queue what the rule yields for the events; brings its state up to them first."""
        events = self._wanted(in_sequence(streams))
        if not events:
            return
        history = session.history
        # Taken out while it is used: whoever comes here at the same time begins one of their own,
        # and a rule that raises leaves none behind.
        run = await self._brought_up_to(events, history, self._runs.pop(history, None))
        for event in events:
            for document in run.feed(event):
                self._store(session, document, event)
        self._keep(history, run)

    def _wanted(self, events: list[Event]) -> list[Event]:
        types = frozenset(self.consumes)
        return [event for event in events if not types or event.data.__class__ in types]

    async def _brought_up_to(
        self, events: Sequence[Event], history: EventHistory, run: RuleRun | None
    ) -> RuleRun:
        """Give a run that has seen all that came before the events, and nothing more."""
        before = events[0].sequence - 1
        since = self._since(events)
        archived = self.async_options.include_archived
        if run is None or run.at > before:
            # None yet, or one that has seen events which were rolled back and come again.
            run = await self._begun(history, before, since)
        elif not run.covers(since):
            # An event that is older than those before it: it may be followed by others like it.
            run = begin_run(self.name, self.source, at=0, since=None)
        async for event in history.read(
            self.consumes, floor=run.at, ceiling=before, include_archived=archived
        ):
            run.feed(event)
        return run

    def _since(self, events: Sequence[Event]) -> datetime | None:
        """Find the time before which nothing matters to any of the events."""
        if self.window is None:
            return None
        try:
            return min(event.timestamp for event in events) - self.window
        except OverflowError:  # a window longer than there have been years
            return None

    async def _begun(self, history: EventHistory, before: int, since: datetime | None) -> RuleRun:
        floor = 0
        if since is not None:
            floor, has_earlier = await history.floor_of(
                self.consumes,
                since=since,
                ceiling=before,
                include_archived=self.async_options.include_archived,
            )
            since = since if has_earlier else None
        return begin_run(self.name, self.source, at=floor, since=since)

    def _store(self, session: ProjectionSession, document: Any, event: Event) -> None:
        if not isinstance(document, self.produces):
            raise RegistrationError(
                f"the rule of process {self.name!r} yielded {document!r} for the event with"
                f" sequence {event.sequence}: it is registered to produce a"
                f" {self.produces.__qualname__}"
            )
        session.store(document)

    def _keep(self, history: EventHistory, run: RuleRun) -> None:
        self._runs[history] = run
        if len(self._runs) > _RUNS_KEPT:
            self._runs.popitem(last=False)


def event_process(
    name: str,
    rule: Rule,
    *,
    produces: type,
    consumes: Collection[type] = (),
    window: timedelta | None = None,
    version: int = 1,
    async_options: AsyncOptions | None = None,
) -> EventProcess:
    """Make the projection that runs a rule over the events.

    Args:
        name: the process' name.
        rule: an async generator function; see `Projections.process`.
        produces: the class of the documents that it yields.
        consumes: the event types it sees; empty means all of them.
        window: how far back an event can matter to a later one, by their timestamps; None: for
            ever.
        version: of the rule, from 1.
        async_options: how it runs in the daemon, except that an exception holds it: no event is
            set aside, whatever `on_error` and `on_rebuild_error` say.

    Raises:
        RegistrationError: the rule is no such function, or something else can't be kept.
    """
    where = f"process {name!r}"
    _check_rule(rule, where)
    _check_document(produces, where)
    _check_window(window, where)
    options = AsyncOptions() if async_options is None else async_options
    options = attrs.evolve(options, on_error="stop", on_rebuild_error="stop")
    # What isn't a collection of types is for the registry to refuse, where all are.
    types: Any = tuple(consumes) if isinstance(consumes, (list, set, frozenset)) else consumes
    return EventProcess(rule, name, types, produces, window, version, options)


def _check_rule(rule: Any, where: str) -> None:
    called = rule if inspect.isroutine(rule) else getattr(rule, "__call__", rule)  # noqa: B004  a partial, or an object
    if isinstance(rule, type) or not any(map(inspect.isasyncgenfunction, (rule, called))):
        raise RegistrationError(
            f"{where}: the rule is {rule!r}: it is an async generator function of the events, as"
            " in `async def rule(events): async for event in events: ... yield document`"
        )
    expect_callable_with(rule, 1, "(events)", f"{where}: the rule")


def _check_window(window: Any, where: str) -> None:
    if window is not None and not (isinstance(window, timedelta) and window > timedelta(0)):
        raise RegistrationError(
            f"{where}: window is {window!r}: it is a timedelta above 0, or None for a rule that may"
            " remember anything"
        )


def _check_document(produces: Any, where: str) -> None:
    if not isinstance(produces, type):
        raise RegistrationError(
            f"{where}: produces is {produces!r}: name the class of what the rule yields"
        )
    if "id" not in field_names(produces):
        raise RegistrationError(
            f"{where} produces {produces.__qualname__}, which has no field 'id': a document needs"
            " one"
        )
