"""Functions that an application hands over to be called for an event."""

import inspect
from collections.abc import Callable
from typing import Any, Final, TypeAlias

import attrs

from flowstore.errors import RegistrationError
from flowstore.events import Event
from flowstore.projections._protocols import ProjectionSession
from flowstore.projections._signatures import classes_in, expect_plain, resolve

__all__ = ["EventFunction", "EventView", "event_function", "expect_callable_with"]

_Argument: TypeAlias = Callable[[ProjectionSession | None, Event], Any]

_POSITIONAL: Final = (
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
)


class EventView:
    """Show an event's data with its envelope behind it, for functions that can't say which.

    A lambda has no annotations to tell whether `event` is the data or the envelope, so it gets
    both: `event.country` is the data's, `event.tenant_id` the envelope's, and where both have a
    name it is the data's. `event.data` is the data itself.
    """

    __slots__ = ("_event",)

    def __init__(self, event: Event) -> None:
        self._event = event

    def __getattr__(self, name: str) -> Any:
        event = self._event
        for place in (event.data, event):
            if hasattr(place, name):
                return getattr(place, name)
        raise AttributeError(f"neither {type(event.data).__qualname__} nor Event has {name!r}")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._event.data!r} sequence={self._event.sequence}>"


@attrs.frozen
class EventFunction:
    """Call a function of the application for one event, with what its parameters ask for.

    Attributes:
        where: what it was given for, for messages.
    """

    where: str
    _function: Callable[..., Any] = attrs.field(alias="function")
    _arguments: tuple[_Argument, ...] = attrs.field(repr=False, alias="arguments")

    @property
    def asks(self) -> bool:
        """Whether the function gets the session, to ask it for whatever it likes."""
        return _session in self._arguments

    def __call__(self, event: Event, session: ProjectionSession | None = None) -> Any:
        """Give what the function returns: something to be awaited, if it is async."""
        return self._function(*(argument(session, event) for argument in self._arguments))


def event_function(
    function: Any, *, event_type: type, where: str, may_ask: bool = False
) -> EventFunction:
    """Read what a function asks for, by its parameters without a default.

    One named `session` gets the session, one annotated `Event` the envelope, one annotated
    otherwise the data, and one without annotation an `EventView`.

    Args:
        function: the function.
        event_type: the type of the data that it will be called with.
        where: what it was given for, for messages.
        may_ask: whether it may be async, and ask for the session.

    Raises:
        RegistrationError: it isn't a function, or asks for what nobody passes.
    """
    if not callable(function):
        raise RegistrationError(f"{where} is {function!r}: it is a function of the event")
    if not may_ask:
        expect_plain(function, where)
    parameters = _required(function, where)
    if not parameters:
        return EventFunction(where, function, (_view,))
    arguments = [
        _argument(function, parameter, event_type, where, may_ask=may_ask)
        for parameter in parameters
    ]
    if arguments.count(_view) > 1:
        names = ", ".join(repr(parameter.name) for parameter in parameters)
        raise RegistrationError(
            f"{where} takes {names}, of which only one can be the event: name the one for the"
            " session 'session', or annotate what is to be what"
        )
    return EventFunction(where, function, tuple(arguments))


def expect_callable_with(function: Any, count: int, what: str, where: str) -> None:
    """Refuse what can't be called with so many positional arguments.

    Raises:
        RegistrationError: it can't.
    """
    if not callable(function) or isinstance(function, type):
        raise RegistrationError(f"{where} is {function!r}: it is a function {what}")
    try:
        inspect.signature(function).bind(*range(count))
    except TypeError as cause:
        raise RegistrationError(f"{where} can't be called as {what}: {cause}") from cause
    except ValueError:  # some of those written in C don't tell their parameters
        return


def _required(function: Callable[..., Any], where: str) -> list[inspect.Parameter]:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # some of those written in C don't tell their parameters
        return []
    for parameter in parameters:
        if parameter.kind is parameter.KEYWORD_ONLY and parameter.default is parameter.empty:
            raise RegistrationError(
                f"{where} needs {parameter.name!r} by keyword, which nobody passes"
            )
    required = [
        parameter
        for parameter in parameters
        if parameter.kind in _POSITIONAL and parameter.default is parameter.empty
    ]
    takes_any = any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters)
    if not required and not takes_any:
        raise RegistrationError(f"{where} takes no event: give it a parameter for the event")
    return required


def _argument(
    function: Callable[..., Any],
    parameter: inspect.Parameter,
    event_type: type,
    where: str,
    *,
    may_ask: bool,
) -> _Argument:
    if parameter.name == "session":
        if not may_ask:
            raise RegistrationError(
                f"{where} asks for the session, and gets none: it only computes"
            )
        return _session
    hint = resolve(function, iter((parameter.name,)), where, {}).get(parameter.name)
    if hint is None:
        return _view
    if hint is Event:
        return _envelope
    if hint is not Any and not any(
        issubclass(event_type, kind) for kind in classes_in(hint, where)
    ):
        raise RegistrationError(
            f"{where} takes a {getattr(hint, '__qualname__', hint)}, and is there for"
            f" {event_type.__qualname__}"
        )
    return _data


def _session(session: ProjectionSession | None, _: Event) -> Any:
    return session


def _envelope(_: ProjectionSession | None, event: Event) -> Any:
    return event


def _data(_: ProjectionSession | None, event: Event) -> Any:
    return event.data


def _view(_: ProjectionSession | None, event: Event) -> Any:
    return EventView(event)
