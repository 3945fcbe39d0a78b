"""The closed list of event types, and the names that they are stored under."""

import re
from collections.abc import Callable
from typing import Any, Final, Literal, TypeAlias, cast, get_args

import attrs
from cattrs import Converter

from flowstore.codec._converter import NotingConverter, make_converter
from flowstore.codec._json import EncodingLimits
from flowstore.codec._metadata import EventMetadata
from flowstore.errors import RegistrationError, UnknownEventTypeError
from flowstore.events import LONGEST_NAME, Archived, Compacted, is_builtin

__all__ = ["EventRegistry", "Reading", "Upcaster", "stored_name_of"]

_WORD_BOUNDARY: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")

_OWN_TYPES: Final[dict[str, type]] = {"archived": Archived, "compacted": Compacted}
"""What flowstore itself appends. An application's types may have the names: theirs go first."""

_Change: TypeAlias = Callable[[Any], Any]

UnknownTypes: TypeAlias = Literal["error", "raw"]


def stored_name_of(event_type: type) -> str:
    """Give the name that a type is stored under unless an alias says otherwise.

    It is the class' name in snake case: `IssueCreated` is `issue_created`, and `HTTPFailed` is
    `http_failed`. The module isn't part of it, so that classes can move.
    """
    return _WORD_BOUNDARY.sub("_", event_type.__name__).lower()


@attrs.frozen
class Upcaster:
    """Lift stored JSON to the shape of a later type.

    Attributes:
        source: the class that the JSON is read into first; None hands the JSON over as it is.
        type: the type whose JSON comes out.
        function: takes the JSON value, or an instance of `source`; gives the new JSON value, or
            an instance of `type`.
    """

    source: type[Any] | None
    type: type
    function: _Change


@attrs.frozen
class Reading:
    """Say how what is stored under one name is read.

    Attributes:
        type: the type that comes out.
        upcasters: to be applied to the JSON first, in this order.
    """

    type: type
    upcasters: tuple[Upcaster, ...] = ()


def _check_unknown_types(_: Any, __: Any, value: Any) -> None:
    if value not in get_args(UnknownTypes):
        raise RegistrationError(
            f"options.events.unknown_types is {value!r}: it is 'error', or 'raw' for events as"
            " their JSON"
        )


@attrs.define
class EventRegistry:
    """Keep the event types of a store: a closed list, to which a stored name can add nothing.

    A type is known once it was added, has an alias or an upcaster, is named by a registered
    projection, or was appended through the store. Set everything up before the store is opened:
    a store looks up once how a name is read.

    Attributes:
        metadata: what is recorded about events beside their data.
        limits: what one event may weigh.
        converter: what classes mean as JSON, those of events and of documents; register hooks on
            it for types that need them.
        unknown_types: what an event of an unknown type is read as: "error" refuses it with
            `UnknownEventTypeError`, "raw" gives a `RawEvent`, which holds its JSON.
    """

    metadata: EventMetadata = attrs.field(factory=EventMetadata, kw_only=True)
    limits: EncodingLimits = attrs.field(factory=EncodingLimits, kw_only=True)
    converter: Converter = attrs.field(factory=make_converter, kw_only=True)
    unknown_types: UnknownTypes = attrs.field(
        default="error", kw_only=True, validator=cast("Any", _check_unknown_types)
    )
    _types: dict[str, type] = attrs.field(factory=dict[str, type], init=False)
    _names: dict[type, str] = attrs.field(factory=dict[type, str], init=False)
    _upcasters: dict[str, list[Upcaster]] = attrs.field(
        factory=dict[str, list[Upcaster]], init=False
    )
    _masks: list[tuple[type, _Change]] = attrs.field(factory=list[tuple[type, _Change]], init=False)

    def add_types(self, *event_types: type) -> None:
        """Make types known, under their names in snake case.

        Adding a type again, or one that has an alias, changes nothing.

        Raises:
            RegistrationError: something isn't a class that events can have, or another type has
                the name already. Types before it in the call stay added.
        """
        for event_type in event_types:
            _check_event_type(event_type)
            if event_type not in self._names:
                self._claim(event_type, stored_name_of(event_type))

    def alias(self, event_type: type, name: str) -> None:
        """Store a type under a name of your own from now on.

        Names that the type had before are still read as this type. Give a renamed class its old
        name, and one of two classes of the same name another.

        Raises:
            RegistrationError: the name is empty or another type's, or the type can't be an event.
        """
        _check_event_type(event_type)
        self._claim(event_type, name)

    def upcast(self, stored_name: str | type, event_type: type, function: _Change) -> None:
        """Read what is stored under a name as another, later type.

        Chains through versions: if what is stored under the name of `event_type` has an upcaster
        too, that one goes on from there. Several for the same name and type run in the order of
        their registration. The name of the type itself may be given, to mend its own old events;
        `function` then sees the new ones too.

        Args:
            stored_name: the name that the old events are stored under, or the class that they were,
                which stands for its name.
            event_type: the type they become; it is made known if it isn't.
            function: takes the parsed JSON, and may change it; or, where the old class was given,
                an instance of that. Returns the JSON of `event_type`, or an instance of it.

        Raises:
            RegistrationError: the name is upcast to another type already, or leads in a circle;
                or the old class has the name of the new one.
        """
        source = None if isinstance(stored_name, str) else stored_name
        if not isinstance(stored_name, str):
            stored_name = self._name_of_old(stored_name, event_type)
        if not callable(function):
            raise RegistrationError(
                f"what is stored as {stored_name!r} can't be upcast to {_label(event_type)} by"
                f" {function!r}: it takes a function"
            )
        if stored_name != self._names.get(event_type):
            self.add_types(event_type)
        rules = self._upcasters.get(stored_name, [])
        if rules and rules[0].type is not event_type:
            raise RegistrationError(
                f"what is stored as {stored_name!r} is upcast to {_label(rules[0].type)} already,"
                f" and can't become {_label(event_type)} as well: chain from its name instead"
            )
        self._check_no_circle(stored_name, event_type)
        self._upcasters[stored_name] = [*rules, Upcaster(source, event_type, function)]

    def mask(self, event_type: type, function: _Change) -> None:
        """Say how personal data is taken out of events of a type, and of its subclasses.

        Args:
            event_type: the type, or a base of several.
            function: takes the event's data; returns it masked, or changes it and returns None.
        """
        self._masks.append((event_type, function))

    def masked(self, data: Any) -> Any:
        """Apply every mask that fits, in the order of registration; without one, return `data`."""
        for event_type, function in self._masks:
            if isinstance(data, event_type):
                changed = function(data)
                data = data if changed is None else changed
        return data

    def name_of(self, event_type: type) -> str:
        """Give the name that a type is stored under, making the type known if it isn't.

        Raises:
            RegistrationError: the type can't be an event's, or its name is another type's.
        """
        name = self._names.get(event_type)
        if name is None:
            self.add_types(event_type)
            name = self._names[event_type]
        return name

    def reading(self, stored_name: str) -> Reading:
        """Find how what is stored under a name is read.

        Raises:
            UnknownEventTypeError: no known type has the name. Nothing is ever imported for it.
        """
        upcasters: list[Upcaster] = []
        name = stored_name
        while rules := self._upcasters.get(name):
            upcasters += rules
            before, name = name, self._names[rules[0].type]
            if name == before:
                return Reading(rules[0].type, tuple(upcasters))
        found = self._types.get(name) or _OWN_TYPES.get(name)
        if found is None:
            raise UnknownEventTypeError(stored_name, self.known_names())
        return Reading(found, tuple(upcasters))

    def known_names(self) -> tuple[str, ...]:
        """List every name that can be read, sorted."""
        return tuple(sorted(self._types.keys() | self._upcasters.keys()))

    def stored_names(self, *event_types: type) -> tuple[str, ...]:
        """List every name whose events are read as one of the types, sorted.

        Args:
            event_types: exact types; a subclass isn't its base. Unknown ones are made known.
        """
        for event_type in event_types:
            self.name_of(event_type)
        wanted = set(event_types)
        return tuple(name for name in self.known_names() if self.reading(name).type in wanted)

    def only(self, *event_types: type) -> "EventRegistry":
        """Make a registry that reads some types as this one does, and no others; to be pickled.

        Args:
            event_types: exact types, as for `stored_names`.

        Raises:
            RegistrationError: what its converter does can't be known.
        """
        if not isinstance(self.converter, NotingConverter) or not self.converter.is_told:
            raise RegistrationError(
                "options.events.converter is one of your own, or its options were changed, which no"
                " other process can be told: leave it as it is, and register hooks on it"
            )
        names = self.stored_names(*event_types)
        copy = attrs.evolve(self)
        types, named, upcasters = copy._types, copy._names, copy._upcasters  # noqa: SLF001 - of this very class
        types.update((name, kind) for name, kind in self._types.items() if name in names)
        named.update((kind, name) for kind, name in self._names.items() if name in names)
        upcasters.update((name, rules) for name, rules in self._upcasters.items() if name in names)
        return copy

    def _claim(self, event_type: type, name: str) -> None:
        if not name.strip():
            raise RegistrationError(f"{_label(event_type)} needs a name to be stored under")
        if "\0" in name or any("\ud800" <= letter <= "\udfff" for letter in name):
            raise RegistrationError(
                f"{_label(event_type)} can't be stored as {name!r}: PostgreSQL can't keep NUL, or"
                " half of a surrogate pair"
            )
        if len(name.encode()) > LONGEST_NAME:
            raise RegistrationError(
                f"{_label(event_type)} can't be stored as {name!r}: it has {len(name.encode())}"
                f" bytes, and names have {LONGEST_NAME} at most; give it a shorter one with"
                " options.events.alias(type, name)"
            )
        holder = self._types.get(name)
        if holder not in (None, event_type):
            raise RegistrationError(
                f"{_label(event_type)} and {_label(holder)} would both be stored as {name!r}: give"
                " one of them another name with options.events.alias(type, name)"
            )
        self._types[name] = event_type
        self._names[event_type] = name

    def _name_of_old(self, old: type, event_type: type) -> str:
        _check_event_type(old)
        name = self._names.get(old) or stored_name_of(old)
        if name == (self._names.get(event_type) or stored_name_of(event_type)):
            raise RegistrationError(
                f"{_label(old)} can't be upcast to {_label(event_type)}, as both are stored as"
                f" {name!r}: give the new one another name with options.events.alias(type, name)"
                " first"
            )
        return name

    def _check_no_circle(self, stored_name: str, event_type: type) -> None:
        before, name = stored_name, self._names[event_type]
        while name != before and (rules := self._upcasters.get(name)):
            before, name = name, self._names[rules[0].type]
            if name == stored_name:
                raise RegistrationError(
                    f"upcasting {stored_name!r} to {_label(event_type)} leads back to"
                    f" {stored_name!r}: a chain must end at a type of today"
                )


def _check_event_type(event_type: Any) -> None:
    if not isinstance(event_type, type):
        raise RegistrationError(f"an event type is a class, not {event_type!r}")
    if is_builtin(event_type):
        raise RegistrationError(
            f"{event_type.__name__} can't be an event type: make a class of your own that says"
            " what happened"
        )


def _label(kind: type | None) -> str:
    return "nothing" if kind is None else f"{kind.__module__}.{kind.__qualname__}"
