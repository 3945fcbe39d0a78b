"""Keeping documents folded from events of many streams."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias, cast
from uuid import UUID

import attrs

from flowstore.errors import RegistrationError
from flowstore.events import Event, EventStream, StreamId, in_sequence, plain_key
from flowstore.projections._aggregate import Aggregate, aggregate_rule, check_class
from flowstore.projections._enriching import Enrich, enriched, expect_enrich, settled
from flowstore.projections._event_functions import EventFunction, event_function
from flowstore.projections._options import AsyncOptions
from flowstore.projections._protocols import ProjectionSession
from flowstore.projections._shards import check_name, check_version
from flowstore.projections._signatures import check_event_type

__all__ = ["AcrossStreamsProjection", "across_streams_projection"]

_Key: TypeAlias = UUID | str | int
_Functions: TypeAlias = Mapping[type, EventFunction]


@attrs.frozen
class AcrossStreamsProjection:
    """Keep one document for each key, folded from the events that are grouped under it.

    Attributes:
        rule: how events are folded.
        name: the name that progress, status and dead letters go by.
        version: of the rule; raising it gives documents and progress of their own.
        async_options: how it runs in the daemon.
    """

    rule: Aggregate[Any]
    name: str = attrs.field(validator=check_name)
    version: int = attrs.field(validator=check_version)
    async_options: AsyncOptions
    _group_by: _Functions = attrs.field(repr=False, alias="group_by")
    _fan_out: _Functions = attrs.field(repr=False, alias="fan_out")
    _enrich: Enrich | None = attrs.field(repr=False, alias="enrich")

    @property
    def consumes(self) -> tuple[type, ...]:
        """The event types that are grouped or fanned out."""
        return tuple(dict.fromkeys((*self._group_by, *self._fan_out)))

    @property
    def produces(self) -> type:
        """The documents' class."""
        return self.rule.document_type

    @property
    def asks(self) -> bool:
        """Whether anything but the rule gets the session, to ask it for whatever it likes."""
        functions = (*self._group_by.values(), *self._fan_out.values())
        return self._enrich is not None or any(function.asks for function in functions)

    async def apply(self, session: ProjectionSession, streams: Sequence[EventStream]) -> None:
        """Queue the next document of every key, folded in sequence order.

        All documents are loaded in one round trip; functions that ask the session add theirs.
        """
        events = await enriched(self._enrich, session, in_sequence(streams), self.name)
        grouped = await self._grouped(session, events)
        concerned = [group for group in grouped if self.rule.concerns(group)]
        if not concerned:
            return
        kind = self.rule.document_type
        loaded = await session.load_many(kind, [group.id for group in concerned])
        before = {plain_key(document.id): document for document in loaded}
        for group in concerned:
            key = plain_key(group.id)
            after = self.rule.fold(before.get(key), group)
            if after is not None:
                session.store(after)
            elif key in before:
                session.delete_by_id(kind, group.id)

    async def _grouped(
        self, session: ProjectionSession, events: Iterable[Event]
    ) -> list[EventStream]:
        groups: dict[_Key, list[Event]] = {}
        for parent in events:
            inherited = keys = await self._keys(session, parent, ())
            for event in (parent, *await self._children(session, parent)):
                if event is not parent:
                    keys = await self._keys(session, event, inherited)
                for key in keys:
                    groups.setdefault(key, []).append(event)
        # The values say what they share; that need not be a stream's identity.
        return [EventStream(cast("StreamId", key), members) for key, members in groups.items()]

    async def _children(self, session: ProjectionSession, parent: Event) -> list[Event]:
        fan_out = self._fan_out.get(parent.data.__class__)
        if fan_out is None:
            return []
        found = await settled(fan_out(parent, session))
        if found is None:
            return []
        if not isinstance(found, Iterable):
            raise RegistrationError(
                f"{fan_out.where} gave {found!r}: give the data of the children in an iterable, or"
                " None"
            )
        children = cast("Iterable[Any]", found)
        return [
            attrs.evolve(parent, data=child, type_name=type(child).__name__) for child in children
        ]

    async def _keys(
        self, session: ProjectionSession, event: Event, inherited: Sequence[_Key]
    ) -> Sequence[_Key]:
        group_by = self._group_by.get(event.data.__class__)
        if group_by is None:
            return inherited
        found = await settled(group_by(event, session))
        if found is None or _is_key(found):
            return () if found is None else (found,)
        if isinstance(found, Iterable) and not isinstance(found, (bytes, bytearray)):
            found = [key for key in cast("Iterable[Any]", found) if key is not None]
            if all(map(_is_key, found)):
                # A dictionary, because it keeps the order: one key twice counts once.
                return tuple(dict.fromkeys(found))
        raise RegistrationError(
            f"{group_by.where} gave {found!r}: a key is a UUID, str or int; give one, several in an"
            " iterable, or None"
        )


def across_streams_projection(
    aggregate: type,
    *,
    group_by: Mapping[type, Callable[..., Any]],
    fan_out: Mapping[type, Callable[..., Any]] | None = None,
    enrich: Callable[..., Any] | None = None,
    name: str | None = None,
    version: int = 1,
    async_options: AsyncOptions | None = None,
) -> AcrossStreamsProjection:
    """Make the projection that folds events of many streams into documents of a class.

    Args:
        aggregate: the class, with handlers by convention; its `id` holds the key. A field
            `version` is its own: there is no one stream to follow.
        group_by: by event type, a function of the event that gives its key, several keys, or None
            to leave it out. It may be async, and ask for the session by a parameter so named.
            A function is given what its parameters ask for: one annotated `Event` the envelope,
            one annotated with the event's type the data; without annotation the data's
            attributes, and behind them the envelope's.
        fan_out: by event type, such a function that gives the data of child events, or None.
            Children follow their parent and stand in its place: same sequence, id, version
            and time. They are grouped by their own type, or go where the parent goes.
        enrich: a function of session and events, plain or async, called once a batch before
            anything else; may return changed events in place of those it got.
        name: the projection's name; None takes the class' name.
        version: of the rule, from 1.
        async_options: how it runs in the daemon; None takes the defaults.

    Raises:
        RegistrationError: the class can't be folded, an event type is handled and not grouped or
            the reverse, or something isn't a function of what it gets.
    """
    check_class(aggregate)
    label = aggregate.__qualname__
    folding: Aggregate[Any] = aggregate_rule(aggregate)
    rule = attrs.evolve(folding, keeps_version=False)
    groups = _functions(group_by, f"{label}: group_by")
    if not groups:
        raise RegistrationError(
            f"{label}: group_by is empty: name a function for each event type that {label} handles"
        )
    children = _functions({} if fan_out is None else fan_out, f"{label}: fan_out")
    expect_enrich(enrich, label)
    _check_all_meet(rule, groups, children, enriched=enrich is not None)
    return AcrossStreamsProjection(
        rule,
        aggregate.__name__ if name is None else name,
        version,
        AsyncOptions() if async_options is None else async_options,
        groups,
        children,
        enrich,
    )


def _functions(given: Any, where: str) -> dict[type, EventFunction]:
    if not isinstance(given, Mapping):
        raise RegistrationError(f"{where} is {given!r}: it maps event types to functions")
    functions: dict[type, EventFunction] = {}
    for event_type, function in cast("Mapping[Any, Any]", given).items():
        if not isinstance(event_type, type):
            raise RegistrationError(f"{where} names {event_type!r}, which isn't a class")
        check_event_type(event_type, where)
        functions[event_type] = event_function(
            function,
            event_type=event_type,
            where=f"{where}[{event_type.__qualname__}]",
            may_ask=True,
        )
    return functions


def _check_all_meet(
    rule: Aggregate[Any], groups: _Functions, children: _Functions, *, enriched: bool
) -> None:
    """Refuse events that would reach no document, and handlers that no event would reach."""
    label = rule.document_type.__qualname__
    for event_type in rule.consumes:
        # What fan_out makes is known only once it has.
        if event_type not in groups and not children and not enriched:
            raise RegistrationError(
                f"{label} handles {event_type.__qualname__}, which group_by doesn't name: none"
                " would reach it"
            )
    for event_type in groups:
        if event_type not in rule.consumes and event_type not in children and not enriched:
            raise RegistrationError(
                f"{label}: group_by names {event_type.__qualname__}, which {label} has no handler"
                " for"
            )


def _is_key(found: Any) -> bool:
    return isinstance(found, (UUID, str, int)) and not isinstance(found, bool)
