"""Putting into a page's events what handlers need, once for all of them."""

import inspect
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias, cast

from flowstore.errors import RegistrationError
from flowstore.events import Event
from flowstore.projections._event_functions import expect_callable_with
from flowstore.projections._protocols import ProjectionSession

__all__ = ["Enrich", "enriched", "expect_enrich", "settled"]

Enrich: TypeAlias = Callable[[ProjectionSession, list[Event]], Any]
"""Takes the session and a batch's events; may return changed events in their place."""


def expect_enrich(enrich: Any, label: str) -> None:
    """Refuse what can't be called with session and events; None is nothing to refuse.

    Raises:
        RegistrationError: it can't.
    """
    if enrich is not None:
        expect_callable_with(enrich, 2, "(session, events)", f"{label}: enrich")


async def enriched(
    enrich: Enrich | None, session: ProjectionSession, events: list[Event], name: str
) -> list[Event]:
    """Give the events that stand for those of a batch, in sequence order.

    Raises:
        RegistrationError: something that it returned is no event.
    """
    if enrich is None or not events:
        return events
    given = await settled(enrich(session, events))
    if given is None:
        return events
    changed = list(cast("Iterable[Any]", given))
    for event in changed:
        if not isinstance(event, Event):
            raise RegistrationError(
                f"enrich of {name!r} returned {event!r} among the events: return Events, changed by"
                " attrs.evolve, or None"
            )
    return sorted(changed, key=lambda event: event.sequence)


async def settled(result: Any) -> Any:
    """Give a result, waiting for it if it comes of an async function."""
    return await result if inspect.isawaitable(result) else result
