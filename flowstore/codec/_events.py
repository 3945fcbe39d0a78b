"""Event data to JSON text, and back."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any, Final, TypeAlias, cast

from flowstore.codec._direct import DirectReading, else_by
from flowstore.codec._direct_writing import DirectWriting
from flowstore.codec._hooks import Hooks
from flowstore.codec._json import from_json, to_json
from flowstore.codec._problems import problems
from flowstore.codec._registry import EventRegistry, Reading, Upcaster, stored_name_of
from flowstore.errors import InvalidEventError, UnknownEventTypeError
from flowstore.events import Compacted, RawEvent, is_builtin

__all__ = ["EventCodec"]

_Reader: TypeAlias = Callable[[str | bytes], Any]
_Writer: TypeAlias = Callable[[Any], str | None]

_NO_HEADERS: Final = "{}"


class EventCodec:
    """Translate between event data and JSON text, by the types of one registry.

    How a type is written and how a name is read is looked up once, not once an event: what is
    registered for them afterwards doesn't count in this codec.
    """

    def __init__(self, registry: EventRegistry) -> None:
        self._registry = registry
        self._hooks = Hooks(registry.converter, InvalidEventError)
        self._direct = DirectReading(registry.converter)
        self._direct_writing = DirectWriting(registry.converter, registry.limits)
        self._nameable: set[type] = set()
        self._readers: dict[str, _Reader] = {}
        self._writers: dict[type, _Writer | None] = {}
        self._hooks.put(Compacted, self._to_compacted, _from_compacted)

    def name_of(self, data: object) -> str:
        """Give the name that the type of `data` is stored under, making the type known.

        Raises:
            InvalidEventError: `data` is a plain Python value, which says nothing of what happened.
            RegistrationError: the type's name is another type's.
        """
        kind = cast("type[Any]", type(data))
        if kind in self._nameable:
            return self._registry.name_of(kind)
        if isinstance(data, RawEvent):
            raise InvalidEventError(
                f"a RawEvent of {data.type_name!r} can't be appended: make its class known with"
                " options.events.add_types(...); export_events and import_events move events of"
                " any type"
            )
        if is_builtin(kind):
            raise InvalidEventError(
                f"{data!r} can't be an event: append an instance of a class of your own"
            )
        name = self._registry.name_of(kind)
        self._nameable.add(kind)
        return name

    def encode(self, data: Any) -> str:
        """Write event data as JSON text that the database will take.

        Raises:
            InvalidEventError: it can't be stored; the message names the type and the place.
            RegistrationError: an annotation of the type can't be resolved.
        """
        kind = cast("type[Any]", type(data))
        if kind not in self._writers:
            self._writers[kind] = self._direct_writing.writer(kind)
        write = self._writers[kind]
        if write is not None and (text := write(data)) is not None:
            return text
        what = kind.__name__
        return to_json(
            self._hooks.unstructure(data),
            what=what,
            limits=self._registry.limits,
            error=InvalidEventError,
        )

    def encode_json(self, value: Any, what: str) -> str:
        """Write a JSON value, of whatever type, as JSON text that the database will take.

        Args:
            value: the JSON value.
            what: whose it is, for messages.

        Raises:
            InvalidEventError: it can't be stored; the message names the place.
        """
        return to_json(value, what=what, limits=self._registry.limits, error=InvalidEventError)

    def decode(self, type_name: str, text: str | bytes) -> Any:
        """Read event data.

        Args:
            type_name: the name it is stored under.
            text: its JSON, as text or UTF-8.

        Returns:
            The application's value; a `RawEvent` where no known type has the name and the registry
            asks for that.

        Raises:
            UnknownEventTypeError: no known type has the name.
            InvalidEventError: the JSON doesn't fit the type, or an upcaster failed.
            RegistrationError: an annotation of the type can't be resolved.
        """
        reader = self._readers.get(type_name)
        if reader is None:
            try:
                reading = self._registry.reading(type_name)
            except UnknownEventTypeError:
                if self._registry.unknown_types != "raw":
                    raise
                return _raw(type_name, text)  # the type may become known yet: not kept
            reader = self._make_reader(type_name, reading)
            self._readers[type_name] = reader
        return reader(text)

    def compacted(self, state: object) -> Compacted:
        """Make the event that stands for others.

        Args:
            state: what had come of them.

        Raises:
            InvalidEventError: the state can't be turned into JSON.
            RegistrationError: an annotation of its class can't be resolved.
        """
        value = self._hooks.unstructure(state)
        return Compacted(stored_name_of(type(state)), value, restore=self._restore)

    def encode_headers(self, headers: Mapping[str, Any]) -> str:
        """Write headers as JSON text.

        Raises:
            InvalidEventError: they can't be stored; the message names the place.
        """
        if not headers:
            return _NO_HEADERS
        return to_json(
            self._hooks.unstructure(dict(headers)),
            what="headers",
            limits=self._registry.limits,
            error=InvalidEventError,
        )

    def decode_headers(self, text: str | bytes | None) -> dict[str, Any]:
        """Read headers, as JSON values by name; none were stored: an empty dictionary.

        Raises:
            InvalidEventError: the text isn't a JSON object.
        """
        if not text:
            return {}
        headers = from_json(text, what="headers", error=InvalidEventError)
        if not isinstance(headers, dict):
            raise InvalidEventError(f"headers are stored as {headers!r}, not as an object")
        return cast("dict[str, Any]", headers)

    def _make_reader(self, type_name: str, reading: Reading) -> _Reader:
        structure = self._hooks.structure_hook(reading.type)
        what = f"an event stored as {type_name!r}"

        def read(text: str | bytes) -> Any:
            value = from_json(text, what=what, error=InvalidEventError)
            for upcaster in reading.upcasters:
                value = self._upcast(value, upcaster, type_name)
            try:
                return structure(value, reading.type)
            except Exception as cause:  # a class and its hooks may raise anything
                raise InvalidEventError(
                    f"{what} doesn't fit {reading.type.__name__}: {problems(cause)}"
                ) from cause

        is_ours = reading.type is Compacted
        direct = None if reading.upcasters or is_ours else self._direct.reader(reading.type)
        return read if direct is None else else_by(direct, read)

    def _upcast(self, value: Any, upcaster: Upcaster, type_name: str) -> Any:
        try:
            lifted = upcaster.function(self._read_as(upcaster.source, value))
        except Exception as cause:  # the application's function may raise anything
            raise InvalidEventError(
                f"an event stored as {type_name!r} can't be upcast to"
                f" {upcaster.type.__name__}: {type(cause).__name__}: {cause}"
            ) from cause
        if lifted is None:
            raise InvalidEventError(
                f"the upcaster of {type_name!r} to {upcaster.type.__name__} returned None: return"
                " the JSON that it made"
            )
        # An instance goes on as JSON: whatever comes next, an upcaster or the type, takes that.
        return self._hooks.unstructure(lifted) if isinstance(lifted, upcaster.type) else lifted

    def _read_as(self, source: type[Any] | None, value: Any) -> Any:
        return value if source is None else self._hooks.structure_hook(source)(value, source)

    def _to_compacted(self, value: dict[str, Any], _: Any) -> Compacted:
        return Compacted(value["aggregate"], value["state"], restore=self._restore)

    def _restore(self, compacted: Compacted, aggregate: type[Any]) -> Any:
        name = stored_name_of(aggregate)
        if name != compacted.aggregate:
            raise InvalidEventError(
                f"a stream that was compacted to {compacted.aggregate!r} can't be folded into"
                f" {aggregate.__name__}: the events that it would take are gone"
            )
        try:
            # What a field takes as it is would be shared by all who restore it.
            return self._hooks.structure_hook(aggregate)(deepcopy(compacted.state), aggregate)
        except Exception as cause:  # a class and its hooks may raise anything
            raise InvalidEventError(
                f"a stream was compacted to a {aggregate.__name__} of another shape:"
                f" {problems(cause)}; give what was added a default"
            ) from cause


def _raw(type_name: str, text: str | bytes) -> RawEvent:
    what = f"an event stored as {type_name!r}"
    return RawEvent(type_name, from_json(text, what=what, error=InvalidEventError))


def _from_compacted(compacted: Compacted) -> dict[str, Any]:
    return {"aggregate": compacted.aggregate, "state": compacted.state}
