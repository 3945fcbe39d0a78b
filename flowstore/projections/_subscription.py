"""Handing events to the application, in order."""

import inspect
from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeAlias

import attrs

from flowstore.events import Event, EventStream, in_sequence
from flowstore.projections._event_functions import expect_callable_with
from flowstore.projections._options import AsyncOptions
from flowstore.projections._protocols import ProjectionSession
from flowstore.projections._shards import check_name, check_version

__all__ = ["Subscription", "subscription"]

_Receive: TypeAlias = Callable[[ProjectionSession, list[Event]], Any]


@attrs.frozen
class Subscription:
    """Call a function with the events as they come, in the order of their sequence.

    What it queues on the session happens exactly once, whatever else it does at least once.

    Attributes:
        source: the function.
        name: the name that progress and status go by.
        consumes: the exact event types to be handed over; empty means all of them.
        version: of the function; raising it begins again at the beginning.
        async_options: how it runs in the daemon; what fails holds it.
    """

    source: _Receive
    name: str = attrs.field(validator=check_name)
    consumes: tuple[type, ...]
    version: int = attrs.field(validator=check_version)
    async_options: AsyncOptions

    @property
    def produces(self) -> None:
        """Nothing that a rebuild could delete."""
        return

    async def apply(self, session: ProjectionSession, streams: Sequence[EventStream]) -> None:
        """Call the function with the events of all streams at once."""
        result = self.source(session, in_sequence(streams))
        if inspect.isawaitable(result):
            await result


def subscription(
    name: str,
    receive: _Receive,
    *,
    consumes: Collection[type] = (),
    version: int = 1,
    async_options: AsyncOptions | None = None,
) -> Subscription:
    """Make the projection that hands events to a function.

    Args:
        name: the subscription's name.
        receive: takes the session and the page's events in sequence order; plain or async.
        consumes: the event types it wants; empty means all of them.
        version: from 1; raising it begins again at the beginning.
        async_options: how it runs in the daemon, except that an exception holds it: no event is
            set aside, whatever `on_error` and `on_rebuild_error` say.

    Raises:
        RegistrationError: `receive` isn't such a function, or the name can't be kept.
    """
    expect_callable_with(receive, 2, "(session, events)", f"the function of {name!r}")
    options = AsyncOptions() if async_options is None else async_options
    options = attrs.evolve(options, on_error="stop", on_rebuild_error="stop")
    # What isn't a collection of types is for the registry to refuse, where all are.
    types: Any = tuple(consumes) if isinstance(consumes, (list, set, frozenset)) else consumes
    return Subscription(receive, name, types, version, options)
