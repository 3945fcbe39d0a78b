"""Folding the events of one stream into one document."""

from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeAlias, TypeVar

import attrs

from flowstore.errors import RegistrationError
from flowstore.events import Compacted, Event, EventStream, StreamId
from flowstore.projections._handlers import Handler, Role, find_handlers
from flowstore.projections._own_data import own_event
from flowstore.projections._state import field_names, missing_to_begin, with_field

__all__ = ["Aggregate", "aggregate_rule", "check_class"]

_T = TypeVar("_T")
_First: TypeAlias = Callable[[Event, StreamId], Any]
_Next: TypeAlias = Callable[[Any, Event, StreamId], Any]
_Question: TypeAlias = Callable[[Any, Event], Any]
_Handlers: TypeAlias = dict[type, dict[Role, Handler]]


@attrs.frozen
class _Reaction:
    """Say what one type of event does to an aggregate.

    Attributes:
        first: makes a missing aggregate; None if the event doesn't begin one.
        next: carries an aggregate on; None if the event leaves it as it is.
        should_delete: asks what came of it whether it is to be deleted; None if never.
        own: makes the event the aggregate's own; None if nothing of it can be changed.
    """

    first: _First | None
    next: _Next | None
    should_delete: _Question | None
    own: Callable[[Event], Event] | None

    def react(self, state: Any, event: Event, stream_id: StreamId) -> Any:
        """Give the state after the event; None if there is no aggregate then."""
        if self.own is not None:
            event = self.own(event)
        if state is None:
            if self.first is None:
                return None
            state = self.first(event, stream_id)
        elif self.next is not None:
            state = self.next(state, event, stream_id)
        if state is None or self.should_delete is None:
            return state
        return None if self.should_delete(state, event) else state


@attrs.frozen
class Aggregate(Generic[_T]):
    """Fold events into documents of one class, by the class' own handlers.

    The same rule serves a view that the daemon keeps and an aggregate that is folded when asked
    for. Events are found by their exact class: a handler for a base class doesn't take its
    subclasses.

    Attributes:
        document_type: the class of the documents.
        consumes: the exact event types that have a handler.
        keeps_version: whether the class has a field `version`, which then follows the stream's.
    """

    document_type: type[_T]
    consumes: tuple[type, ...]
    keeps_version: bool
    _reactions: dict[type, _Reaction] = attrs.field(repr=False, alias="reactions")

    def fold(self, state: _T | None, stream: EventStream) -> _T | None:
        """Give the aggregate after a stream's events.

        Folding events in parts, each from what came of the one before, gives the same as folding
        them at once. Nothing is read or written, but a state that isn't frozen is changed in
        place: it belongs to the fold from now on.

        Args:
            state: the aggregate before; None if there is none.
            stream: its events, in version order; one that was set aside may come after those that
                the state was made of, whose version stays.

        Returns:
            None if there is no aggregate then, because none began or it was deleted.
        """
        reactions, stream_id = self._reactions, stream.id
        latest = _version_of(state) if self.keeps_version else 0
        for event in stream.events:
            reaction = reactions.get(event.data.__class__)
            if reaction is not None:
                state = reaction.react(state, event, stream_id)
            if self.keeps_version and state is not None:
                state = with_field(state, "version", max(latest, event.version))
        return state

    def concerns(self, stream: EventStream) -> bool:
        """Tell whether folding the stream's events could change anything."""
        if self.keeps_version:
            return True
        reactions = self._reactions
        for event in stream.events:  # noqa: SIM110  `any` takes longer, nearly always for one event
            if event.data.__class__ in reactions:
                return True
        return False


def _version_of(state: Any) -> int:
    """Give the version that an aggregate has come to; 0 where it says none."""
    version = getattr(state, "version", 0)
    return version if isinstance(version, int) else 0


def aggregate_rule(aggregate: type[_T]) -> Aggregate[_T]:
    """Build the rule of a class from its handlers, once.

    Methods named `apply*` take an event's data and change the aggregate, or return its next
    state. Class methods named `create*` make an aggregate where there is none; without one for
    the event it is made as `aggregate(id=stream_id)` and the event applied to it. Methods named
    `should_delete*` tell, after the event was applied, whether the aggregate ends with it. A
    function `evolve(state, event)` returns the next state, or None for none. Each may ask for the
    envelope by another parameter annotated `Event`.

    Raises:
        RegistrationError: the class can't be folded; the message names class and method.
    """
    check_class(aggregate)
    handlers = _by_event_type(find_handlers(aggregate))
    fields = _check_fields(aggregate)
    if not any(roles.keys() - {Role.SHOULD_DELETE} for roles in handlers.values()):
        raise RegistrationError(
            f"{aggregate.__qualname__} has no handlers: give it methods named apply* or class"
            " methods named create*, whose first parameter is annotated with an event type"
        )
    begin = _beginning(aggregate, handlers)
    reactions = {
        event_type: _reaction(aggregate, event_type, roles, begin)
        for event_type, roles in handlers.items()
    }
    consumes = tuple(reactions)
    reactions.setdefault(Compacted, _restoring(aggregate))
    return Aggregate(aggregate, consumes, "version" in fields, reactions)


def check_class(aggregate: Any) -> None:
    """Refuse as an aggregate what is no class.

    Raises:
        RegistrationError: the message names what it is.
    """
    if not isinstance(aggregate, type):
        raise RegistrationError(
            f"{aggregate!r} can't be an aggregate: give the class whose apply* methods take events"
        )


def _check_fields(aggregate: type) -> frozenset[str]:
    fields = field_names(aggregate)
    if "id" not in fields:
        raise RegistrationError(
            f"{aggregate.__qualname__} has no field 'id': it holds the stream's identity, and is"
            " the document's"
        )
    return fields


def _by_event_type(handlers: Iterable[Handler]) -> _Handlers:
    found: _Handlers = {}
    for handler in handlers:
        # An event that both apply* and evolve take is handled twice, as by two apply*.
        role = Role.APPLY if handler.role is Role.EVOLVE else handler.role
        for event_type in handler.event_types:
            other = found.setdefault(event_type, {}).setdefault(role, handler)
            if other is not handler:
                raise RegistrationError(
                    f"{other.where} and {handler.where} both take {event_type.__qualname__}: an"
                    " event has one handler"
                )
    return found


def _beginning(aggregate: type, handlers: _Handlers) -> _First:
    """Make the function that begins an aggregate for an event that no create* takes."""
    missing = missing_to_begin(aggregate)
    if missing == ():
        return lambda _, stream_id: aggregate(id=stream_id)
    reason = "takes no id" if missing is None else f"lacks {', '.join(map(repr, missing))}"
    name = aggregate.__qualname__
    has_create = any(Role.CREATE in roles for roles in handlers.values())
    for roles in handlers.values():
        apply = roles.get(Role.APPLY)
        if apply is not None and not apply.takes_missing and not has_create:
            raise RegistrationError(
                f"{name} can't be begun for {apply.where}: {name}(id=...) {reason}; give every"
                " other field a default, or add a class method create* for the first event"
            )

    def refuse(event: Event, stream_id: StreamId) -> Any:
        raise RegistrationError(
            f"{name} can't begin with {type(event.data).__qualname__} in stream"
            f" {str(stream_id)!r}: no create* takes it, and {name}(id=...) {reason}"
        )

    return refuse


def _reaction(
    aggregate: type, event_type: type, roles: dict[Role, Handler], begin: _First
) -> _Reaction:
    create, apply = roles.get(Role.CREATE), roles.get(Role.APPLY)
    should_delete = roles.get(Role.SHOULD_DELETE)
    carry_on = None if apply is None else _carrier(aggregate, apply)
    first: _First | None = None
    if create is not None:
        first = _maker(aggregate, create)
    elif apply is not None and apply.takes_missing:
        first = _maker(aggregate, apply)
    elif carry_on is not None:
        first = _begun(begin, carry_on)
    asks = None if should_delete is None else should_delete.call
    return _Reaction(first, carry_on, asks, own_event(event_type))


def _restoring(aggregate: type) -> _Reaction:
    """Take a compacted stream's state as it is, in the place of all that came before."""

    def restore(event: Event, _: StreamId) -> Any:
        return event.data.restored(aggregate)

    # It is made anew each time, and so its own.
    return _Reaction(restore, lambda _, event, stream_id: restore(event, stream_id), None, None)


def _maker(aggregate: type, handler: Handler) -> _First:
    call = handler.call

    def make(event: Event, stream_id: StreamId) -> Any:
        state = call(None, event)
        return None if state is None else _accepted(aggregate, handler, state, stream_id)

    return make


def _begun(begin: _First, carry_on: _Next) -> _First:
    return lambda event, stream_id: carry_on(begin(event, stream_id), event, stream_id)


def _carrier(aggregate: type, handler: Handler) -> _Next:
    call, none_ends = handler.call, handler.role is Role.EVOLVE

    def carry_on(state: Any, event: Event, stream_id: StreamId) -> Any:
        result = call(state, event)
        if result is None:
            return None if none_ends else state
        return _accepted(aggregate, handler, result, stream_id)

    return carry_on


def _accepted(aggregate: type, handler: Handler, state: Any, stream_id: StreamId) -> Any:
    """Take what a handler returned for the aggregate, under the stream's identity.

    A document of another identity would be stored where the next page doesn't look for it.
    """
    if not isinstance(state, aggregate):
        raise RegistrationError(
            f"{handler.where} returned {state!r}: what a handler returns takes the aggregate's"
            f" place, so return a {aggregate.__qualname__}, or None to keep the one at hand"
        )
    return state if state.id == stream_id else with_field(state, "id", stream_id)
