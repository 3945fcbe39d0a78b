"""Reading from a handler's annotations which events it takes."""

import inspect
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Union, get_args, get_origin, get_type_hints

import attrs

from flowstore.errors import RegistrationError
from flowstore.events import Event, EventStream, NewEvent, is_builtin

__all__ = [
    "HandlerSignature",
    "check_event_type",
    "classes_in",
    "expect_plain",
    "read_signature",
    "resolve",
]

_POSITIONAL: Final = (
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
)
_ENVELOPES: Final = (Event, NewEvent, EventStream)


@attrs.frozen
class HandlerSignature:
    """Say what a handler takes.

    Attributes:
        event_types: the exact types of events.
        wants_envelope: whether a second parameter takes the `Event` around the data.
    """

    event_types: tuple[type, ...]
    wants_envelope: bool


def read_signature(
    function: Callable[..., Any], *, where: str, skip: int = 0, names: Mapping[str, Any]
) -> HandlerSignature:
    """Read which events a handler takes, and whether it asks for the envelope.

    Args:
        function: the handler.
        where: its class and name, for messages.
        skip: parameters before the event, such as `self`.
        names: what string annotations may name beside the globals of the function's module.

    Raises:
        RegistrationError: an annotation is missing, can't be resolved or isn't an event type, or
            the handler needs parameters that nobody passes.
    """
    expect_plain(function, where)
    parameters = list(inspect.signature(function).parameters.values())[skip:]
    if not parameters or parameters[0].kind not in _POSITIONAL:
        raise RegistrationError(f"{where} takes no event: give it a parameter for the event's data")
    event, *others = parameters
    hints = resolve(function, (parameter.name for parameter in parameters), where, names)
    if event.name not in hints:
        raise RegistrationError(
            f"{where} doesn't say which events it takes: annotate {event.name!r} with an event"
            " type, or with several as in A | B"
        )
    wants_envelope = bool(others) and hints.get(others[0].name) is Event
    _expect_no_more(others[wants_envelope:], where)
    event_types = tuple(dict.fromkeys(classes_in(hints[event.name], where)))
    for event_type in event_types:
        check_event_type(event_type, where)
    return HandlerSignature(event_types, wants_envelope)


def resolve(
    function: Callable[..., Any], wanted: Iterator[str], where: str, names: Mapping[str, Any]
) -> dict[str, Any]:
    """Resolve the annotations of some parameters, or of "return".

    Only those: what else a signature names may well be imported for type checking alone.

    Raises:
        RegistrationError: a name can't be resolved.
    """
    plain = inspect.unwrap(getattr(function, "__func__", function))
    annotations = getattr(plain, "__annotations__", {})
    asked = {name: annotations[name] for name in wanted if name in annotations}
    try:
        return get_type_hints(
            types.SimpleNamespace(__annotations__=asked),
            getattr(plain, "__globals__", {}),
            dict(names),
        )
    except (NameError, AttributeError, SyntaxError, TypeError) as cause:
        raise RegistrationError(
            f"{where} has an annotation that can't be resolved: {cause}; the types must be"
            " importable at run time, and defined at the top of a module if annotations are text"
        ) from cause


def classes_in(annotation: Any, where: str) -> Iterator[type]:
    """Yield the classes that an annotation names: one, or the members of a union.

    Raises:
        RegistrationError: something in it isn't a class.
    """
    if get_origin(annotation) in (Union, types.UnionType):
        for member in get_args(annotation):
            yield from classes_in(member, where)
    elif hasattr(annotation, "__value__"):  # `type Change = A | B`, from Python 3.12 on
        yield from classes_in(annotation.__value__, where)
    elif isinstance(annotation, type) and get_origin(annotation) is None and annotation is not Any:
        yield annotation
    else:
        raise RegistrationError(
            f"{where} is annotated with {annotation!r}, which isn't a class: events are found by"
            " their exact class"
        )


def expect_plain(function: Callable[..., Any], where: str) -> None:
    """Refuse what would give a coroutine or a generator in place of a result.

    Raises:
        RegistrationError: the function is async, or a generator.
    """
    plain = inspect.unwrap(function)
    if inspect.iscoroutinefunction(plain) or inspect.isasyncgenfunction(plain):
        raise RegistrationError(
            f"{where} is async: handlers are plain functions that only fold; write an IProjection"
            " for what has to wait"
        )
    if inspect.isgeneratorfunction(plain):
        raise RegistrationError(f"{where} is a generator: return the result instead")


def _expect_no_more(parameters: list[inspect.Parameter], where: str) -> None:
    for parameter in parameters:
        optional = parameter.kind in (
            inspect.Parameter.VAR_POSITIONAL,
            inspect.Parameter.VAR_KEYWORD,
        )
        if parameter.default is inspect.Parameter.empty and not optional:
            raise RegistrationError(
                f"{where} needs {parameter.name!r}, which nobody passes: a handler takes the"
                " event's data, then if it likes a parameter annotated Event"
            )


def check_event_type(event_type: type, where: str) -> None:
    """Refuse a class of which there are no events.

    Raises:
        RegistrationError: it is Python's own, an envelope, or has no instances.
    """
    if event_type in _ENVELOPES:
        raise RegistrationError(
            f"{where} takes {event_type.__name__} first: annotate the first parameter with the"
            " type of the data, and a second one with Event"
        )
    if is_builtin(event_type):
        raise RegistrationError(
            f"{where} takes {event_type.__name__}, which is no event type: name your event classes"
        )
    if inspect.isabstract(event_type) or getattr(event_type, "_is_protocol", False):
        raise RegistrationError(
            f"{where} takes {event_type.__name__}, of which there are no instances: events are"
            " found by their exact class, so name the classes below it"
        )
