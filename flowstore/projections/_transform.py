"""One event, one document."""

import inspect
from collections.abc import Callable, Iterator, Sequence
from types import NoneType
from typing import Any, TypeAlias

import attrs

from flowstore.errors import RegistrationError
from flowstore.events import Event, EventStream, in_sequence
from flowstore.projections._options import AsyncOptions
from flowstore.projections._protocols import ProjectionSession
from flowstore.projections._shards import check_name, check_version
from flowstore.projections._signatures import classes_in, read_signature, resolve
from flowstore.projections._state import field_names

__all__ = ["TransformProjection", "transform_projection"]

_Transform: TypeAlias = Callable[[Event], Any]


@attrs.frozen
class TransformProjection:
    """Make a document of each event of some types.

    Attributes:
        source: the function or class that it was made from.
        name: the name that progress, status and dead letters go by.
        consumes: the exact event types that are transformed.
        produces: the class of the documents.
        version: of the rule; raising it gives documents and progress of their own.
        async_options: how it runs in the daemon.
    """

    source: Any
    name: str = attrs.field(validator=check_name)
    consumes: tuple[type, ...]
    produces: type
    version: int = attrs.field(validator=check_version)
    async_options: AsyncOptions
    _transforms: dict[type, _Transform] = attrs.field(repr=False, alias="transforms")

    def apply(self, session: ProjectionSession, streams: Sequence[EventStream]) -> None:
        """Queue the documents of all events, in sequence order: of two with one id the last."""
        for event in in_sequence(streams):
            transform = self._transforms.get(event.data.__class__)
            document = None if transform is None else transform(event)
            if document is not None:
                self._store(session, document, event)

    def _store(self, session: ProjectionSession, document: Any, event: Event) -> None:
        if not isinstance(document, self.produces):
            raise RegistrationError(
                f"transform {self.name!r} made {document!r} of {type(event.data).__qualname__}: it"
                f" is annotated to return a {self.produces.__qualname__}"
            )
        session.store(document)


def transform_projection(
    source: Any,
    *,
    name: str | None = None,
    version: int = 1,
    async_options: AsyncOptions | None = None,
) -> TransformProjection:
    """Make the projection that turns each event into one document, or none.

    Args:
        source: a function, annotated as in `def f(opened: Opened) -> Entry | None`, where a union
            takes several event types and a second parameter annotated `Event` gets the envelope;
            or a class made without arguments, or an instance, whose methods named `transform*`
            are such functions and agree on the document type.
        name: the projection's name; None takes the function's or class' name.
        version: of the rule, from 1.
        async_options: how it runs in the daemon; None takes the defaults.

    Raises:
        RegistrationError: an annotation is missing or wrong, two functions take one event type,
            or the document type has no field `id`.
    """
    label = _label(source)
    transforms: dict[type, _Transform] = {}
    produced: dict[type, str] = {}
    for where, function in _functions(source, label):
        signature = read_signature(function, where=where, names={})
        produced.setdefault(_document_type(function, where), where)
        for event_type in signature.event_types:
            if event_type in transforms:
                raise RegistrationError(
                    f"{where} takes {event_type.__qualname__}, which {label} transforms already:"
                    " an event has one handler"
                )
            transforms[event_type] = _caller(function, wants_envelope=signature.wants_envelope)
    return TransformProjection(
        source,
        label if name is None else name,
        tuple(transforms),
        _only(produced, label),
        version,
        AsyncOptions() if async_options is None else async_options,
        transforms,
    )


def _label(source: Any) -> str:
    return getattr(source, "__name__", type(source).__name__)


def _functions(source: Any, label: str) -> Iterator[tuple[str, Callable[..., Any]]]:
    if inspect.isroutine(source):
        yield label, source
        return
    instance = _instance(source, label) if isinstance(source, type) else source
    for name in dir(instance):
        method = getattr(instance, name) if name.startswith("transform") else None
        if inspect.isroutine(method):
            yield f"{label}.{name}", method


def _instance(source: type, label: str) -> Any:
    try:
        return source()
    except TypeError as cause:
        raise RegistrationError(
            f"{label} can't be made without arguments: register an instance of it ({cause})"
        ) from cause


def _document_type(function: Callable[..., Any], where: str) -> type:
    hints = resolve(function, iter(("return",)), where, {})
    annotation = hints.get("return", NoneType)
    made = [kind for kind in classes_in(annotation, where) if kind is not NoneType]
    if len(made) != 1:
        raise RegistrationError(
            f"{where} doesn't say what it makes: annotate what it returns with one document type,"
            " or with that type | None"
        )
    if "id" not in field_names(made[0]):
        raise RegistrationError(
            f"{where} makes {made[0].__qualname__}, which has no field 'id': a document needs one"
        )
    return made[0]


def _only(produced: dict[type, str], label: str) -> type:
    if not produced:
        raise RegistrationError(
            f"{label} has no handlers: give a function, or a class with methods named transform*"
        )
    if len(produced) > 1:
        found = ", ".join(f"{where} makes {kind.__qualname__}" for kind, where in produced.items())
        raise RegistrationError(f"{label} makes several document types, {found}: split it")
    return next(iter(produced))


def _caller(function: Callable[..., Any], *, wants_envelope: bool) -> _Transform:
    if wants_envelope:
        return lambda event: function(event.data, event)
    return lambda event: function(event.data)
