"""Events on their way in from elsewhere: what an import takes, made ready to be stored."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, Protocol, TypeAlias, cast
from uuid import UUID

import attrs

from flowstore.codec import EventCodec, stored_name_of
from flowstore.errors import InvalidEventError
from flowstore.events import Archived, Compacted, Event, NewEvent, StreamId, check_readable
from flowstore.store._engine import Engine
from flowstore.store._ids import new_event_id
from flowstore.store._names import check_event_text

__all__ = ["Incoming", "Intake", "StreamKey", "incoming_from_json"]

StreamKey: TypeAlias = tuple[str, StreamId]
"""Stored tenant and identity: what a stream is known by."""

_COMPACTED: Final = stored_name_of(Compacted)


class Incoming(Protocol):
    """Hold one event as it is going to be stored."""

    @property
    def key(self) -> StreamKey:
        """Its stream."""
        ...

    @property
    def type_name(self) -> str:
        """The name that it is stored under."""
        ...

    @property
    def data(self) -> str:
        """Its JSON text."""
        ...

    @property
    def event_id(self) -> UUID | None:
        """Its identity; None: the store draws one with those of its neighbours."""
        ...

    @property
    def version(self) -> int | None:
        """The place in its stream that it has to get; None takes the next."""
        ...

    @property
    def timestamp(self) -> datetime | None:
        """When it was recorded; None is the database's clock."""
        ...

    @property
    def headers(self) -> str | None:
        """Their JSON text, if there are any."""
        ...

    @property
    def correlation_id(self) -> str | None:
        """What it belongs to."""
        ...

    @property
    def causation_id(self) -> str | None:
        """What caused it."""
        ...

    @property
    def user_name(self) -> str | None:
        """Who caused it."""
        ...

    @property
    def skipped(self) -> bool:
        """Whether projections pass it over."""
        ...

    @property
    def archives(self) -> bool:
        """Whether its stream is archived afterwards."""
        ...

    @property
    def begins_later(self) -> bool:
        """Whether it may begin a stream at another version than 1."""
        ...

    @property
    def stream_type(self) -> str | None:
        """The type that the stream is begun for."""
        ...

    @property
    def is_bare(self) -> bool:
        """Whether nothing is said about it but what every event has."""
        ...


@attrs.define
class BareIncoming:
    """Hold an event of which nothing else is said: most of an import.

    Nobody changes it, and freezing it takes time; and so does entering ten times that nothing is said.
    """

    key: StreamKey
    type_name: str
    data: str = attrs.field(repr=False)
    event_id: UUID | None
    version = None
    timestamp = None
    headers = None
    correlation_id = None
    causation_id = None
    user_name = None
    skipped = False
    archives = False
    begins_later = False
    stream_type = None
    is_bare = True


@attrs.define(kw_only=True)
class ToldIncoming:
    """Hold an event with all that is said about it; nobody changes it."""

    key: StreamKey
    type_name: str
    data: str = attrs.field(repr=False)
    event_id: UUID | None = None
    version: int | None = None
    timestamp: datetime | None = None
    headers: str | None = attrs.field(default=None, repr=False)
    correlation_id: str | None = None
    causation_id: str | None = None
    user_name: str | None = None
    skipped: bool = False
    archives: bool = False
    begins_later: bool = False
    stream_type: str | None = None

    @property
    def is_bare(self) -> bool:
        """Whether nothing is said about it but what every event has."""
        return (
            self.headers is None
            and self.timestamp is None
            and self.correlation_id is None
            and self.causation_id is None
            and self.user_name is None
            and not self.skipped
        )


@attrs.define(eq=False)
class Intake:
    """Make an import's events ready to be stored, looking once at each stream and each class.

    Attributes:
        engine: the store's.
        tenant_id: the tenant of those events that name none.
    """

    engine: Engine
    tenant_id: str | None
    _keys: dict[Any, StreamKey] = attrs.field(factory=dict[Any, StreamKey], init=False)
    _of_numbers: dict[int, StreamKey] = attrs.field(factory=dict[int, StreamKey], init=False)
    _names: dict[type, str] = attrs.field(factory=dict[type, str], init=False)

    def take(self, pair: Any) -> Incoming:
        """Make a stream's identity and an event ready: a value, a `NewEvent` or a recorded `Event`.

        Raises:
            InvalidEventError: it is no such pair, or the event can't be stored.
            RegistrationError: an event type's name is another type's.
        """
        try:
            stream_id, event = pair
        except (TypeError, ValueError) as cause:
            raise InvalidEventError(
                f"an import takes pairs of a stream's identity and an event, not {pair!r}"
            ) from cause
        kind = cast("type[Any]", type(event))
        name = self._names.get(kind)
        if name is not None:
            data = self.engine.codec.encode(event)
            return BareIncoming(self._key(stream_id), name, data, _drawn(self.engine))
        if isinstance(event, Event):
            return _recorded(self.engine, self.tenant_id, stream_id, event)
        new = event if isinstance(event, NewEvent) else NewEvent(event)
        made = ToldIncoming(
            key=_key(self.engine, self.tenant_id, stream_id),
            event_id=new.id or _drawn(self.engine),
            timestamp=new.timestamp,
            correlation_id=_checked(new.correlation_id, "correlation_id"),
            causation_id=_checked(new.causation_id, "causation_id"),
            **_content(self.engine.codec, new.data, new.headers),
        )
        if new is not event and not (made.archives or made.begins_later):
            self._names[kind] = made.type_name
        return made

    def _key(self, stream_id: Any) -> StreamKey:
        if type(stream_id) is UUID:
            # By its number: the standard library hashes and compares UUIDs in Python.
            key = self._of_numbers.get(stream_id.int)
            if key is None:
                key = _key(self.engine, self.tenant_id, stream_id)
                self._of_numbers[stream_id.int] = key
            return key
        try:
            key = self._keys.get(stream_id)
        except TypeError:  # it can't be hashed, nor be a stream's identity
            key = None
        if key is None:
            key = self._keys[stream_id] = _key(self.engine, self.tenant_id, stream_id)
        return key


def _drawn(engine: Engine) -> UUID | None:
    """Draw an identity where the store has a way of its own; else it is drawn with its page's."""
    return None if engine.new_id is new_event_id else engine.new_id()


def _recorded(engine: Engine, tenant_id: str | None, stream_id: Any, event: Event) -> Incoming:
    tenant = tenant_id if event.tenant_id is None else event.tenant_id
    check_readable(event.timestamp)
    return ToldIncoming(
        key=_key(engine, tenant, stream_id),
        version=event.version or None,
        event_id=event.id,
        timestamp=event.timestamp,
        correlation_id=_checked(event.correlation_id, "correlation_id"),
        causation_id=_checked(event.causation_id, "causation_id"),
        user_name=_checked(event.user_name, "user_name"),
        **_content(engine.codec, event.data, event.headers),
    )


def _content(codec: EventCodec, data: Any, headers: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type_name": codec.name_of(data),
        "data": codec.encode(data),
        "headers": codec.encode_headers(headers) if headers else None,
        "archives": isinstance(data, Archived),
        "begins_later": isinstance(data, Compacted),
    }


def _key(engine: Engine, tenant_id: str | None, stream_id: Any) -> StreamKey:
    return engine.tenant(tenant_id), engine.checked_stream(stream_id)


def incoming_from_json(engine: Engine, tenant_id: str | None, value: Any, where: str) -> Incoming:
    """Make what an export has written ready; its type need not be known here.

    Args:
        engine: the store's.
        tenant_id: the tenant of what names none.
        value: the JSON object.
        where: where it stands, for messages.

    Raises:
        InvalidEventError: something is missing, or can't be stored.
    """
    if not isinstance(value, dict):
        raise InvalidEventError(f"{where} holds {value!r}: an export holds an object a line")
    found = cast("dict[str, Any]", value)
    try:
        return _from_fields(engine, tenant_id, found, where)
    except (KeyError, TypeError, ValueError, AttributeError) as cause:
        reason = f"it has no {cause}" if isinstance(cause, KeyError) else str(cause)
        raise InvalidEventError(f"{where} isn't an exported event: {reason}") from cause


def _from_fields(
    engine: Engine, tenant_id: str | None, found: dict[str, Any], where: str
) -> Incoming:
    stream_id = found["stream_id"] if engine.has_text_ids else UUID(found["stream_id"])
    tenant = tenant_id if found.get("tenant_id") is None else found["tenant_id"]
    headers = found.get("headers")
    return ToldIncoming(
        key=_key(engine, tenant, stream_id),
        version=_number(found.get("version")),
        event_id=UUID(found["id"]) if found.get("id") else _drawn(engine),
        type_name=_text(found["type"], "type"),
        data=engine.codec.encode_json(found["data"], where),
        timestamp=_time(found.get("timestamp")),
        headers=engine.codec.encode_json(headers, where) if headers else None,
        correlation_id=_text(found.get("correlation_id"), "correlation_id"),
        causation_id=_text(found.get("causation_id"), "causation_id"),
        user_name=_text(found.get("user_name"), "user_name"),
        skipped=found.get("skipped") is True,
        archives=found.get("archived") is True,
        begins_later=found["type"] == _COMPACTED,
        stream_type=_text(found.get("stream_type"), "stream_type"),
    )


def _checked(text: Any, what: str) -> Any:
    check_event_text(text, what)
    return text


def _text(value: Any, name: str) -> Any:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"its {name} is {value!r}, which is no text")
    return _checked(value, name)


def _number(value: Any) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise ValueError(f"its version is {value!r}, which is no number from 1")
    return value


def _time(value: Any) -> datetime | None:
    if value is None:
        return None
    when = datetime.fromisoformat(value)
    if when.utcoffset() is None:
        raise ValueError(f"its timestamp {value!r} has no time zone")
    check_readable(when)
    return when
