"""What one type of event does to a row of a flat table."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any, TypeAlias, cast

import attrs

from flowstore.errors import InvalidEventError, RegistrationError
from flowstore.events import Event
from flowstore.projections._event_functions import EventView, event_function
from flowstore.projections._state import field_names
from flowstore.projections._tables import Column, DeleteRow, RowChange, WriteRow

__all__ = ["Given", "RowRule", "Value", "delete_rule", "write_rule"]

Value: TypeAlias = Callable[[Event], Any]
Given: TypeAlias = Mapping[str, Any] | Iterable[str] | str | None
"""Columns with what goes into each; or only their names."""


@attrs.frozen
class RowRule:
    """Say what an event does to a row.

    Attributes:
        where: the table and event type, for messages.
        key: finds the row; None follows the table.
        deletes: whether the row is deleted, and nothing else.
        set: by column, what gives its new value.
        add: by column, what gives the number to be added.
        insert: whether a missing row is made.
    """

    where: str
    key: Value | None
    deletes: bool = False
    set: Mapping[str, Value] = attrs.field(factory=dict[str, Value])
    add: Mapping[str, Value] = attrs.field(factory=dict[str, Value])
    insert: bool = True

    def change(self, event: Event, key: Any) -> RowChange:
        """Give what the event changes in the row with a key."""
        if self.deletes:
            return DeleteRow(key)
        values = {column: value(event) for column, value in self.set.items()}
        added = {column: value(event) for column, value in self.add.items()}
        return WriteRow(key, values, added, self.insert)


def write_rule(
    columns: Mapping[str, Column],
    event_type: type,
    where: str,
    *,
    values: Given,
    increment: Given,
    decrement: Given,
    insert: bool,
    key_from: Any,
) -> RowRule:
    """Make the rule of an event that changes columns.

    Raises:
        RegistrationError: a column isn't the table's, is named twice, or can't be added to; or
            what is to go into it isn't to be had from the event.
    """
    place = f"{where}: set"
    setting = {
        column: _value(source, event_type, f"{place} {column!r}")
        for column, source in _by_column(values, columns, place, None).items()
    }
    adding: dict[str, Value] = {}
    for given, word, sign in ((increment, "increment", 1), (decrement, "decrement", -1)):
        place = f"{where}: {word}"
        for column, source in _by_column(given, columns, place, 1).items():
            if column in adding or column in setting:
                raise RegistrationError(f"{place} names {column!r}, which is changed already")
            if not columns[column].is_number:
                raise RegistrationError(
                    f"{place} names {column!r}, which is of type {columns[column].type}: only"
                    " numbers can be added to"
                )
            amount = _value(source, event_type, f"{place} {column!r}")
            adding[column] = _number(amount, sign, f"{place} {column!r}")
    if not (setting or adding or insert):
        raise RegistrationError(f"{where} does nothing: it names no column, and inserts no row")
    key = None if key_from is None else _key_source(key_from, event_type, where)
    return RowRule(where, key, set=setting, add=adding, insert=insert)


def delete_rule(event_type: type, where: str, key_from: Any) -> RowRule:
    """Make the rule of an event that deletes a row.

    Raises:
        RegistrationError: the key isn't to be had from the event.
    """
    key = None if key_from is None else _key_source(key_from, event_type, where)
    return RowRule(where, key, deletes=True)


def _key_source(key_from: Any, event_type: type, where: str) -> Value:
    """Make what finds an event's row: the name of a field, or a function of the event.

    Raises:
        RegistrationError: it is neither.
    """
    if not isinstance(key_from, str) and not callable(key_from):
        raise RegistrationError(
            f"{where}: key_from is {key_from!r}: it is a field's name, or a function of the event"
        )
    return _value(key_from, event_type, f"{where}: key_from")


def _by_column(
    given: Any, columns: Mapping[str, Column], where: str, default: int | None
) -> dict[str, Any]:
    """Read what goes into each column; without a mapping the field of its name, or `default`."""
    if given is None:
        return {}
    if isinstance(given, Mapping):
        sources = dict(cast("Mapping[Any, Any]", given))
    elif isinstance(given, Iterable):
        names = [given] if isinstance(given, str) else list(cast("Iterable[Any]", given))
        sources = {name: name if default is None else default for name in names}
    else:
        raise RegistrationError(f"{where} is {given!r}: it maps columns to what goes into them")
    for name in sources:
        if name not in columns:
            known = ", ".join(map(repr, columns)) or "none"
            raise RegistrationError(f"{where} names {name!r}; the table's columns are {known}")
    return sources


def _value(source: Any, event_type: type, where: str) -> Value:
    if isinstance(source, str):
        _check_field(source, event_type, where)
        return lambda event: getattr(EventView(event), source)
    if inspect.isroutine(source) or (callable(source) and not isinstance(source, type)):
        return event_function(source, event_type=event_type, where=where)
    return lambda _: source


def _check_field(name: str, event_type: type, where: str) -> None:
    if name in field_names(event_type) | field_names(Event) or hasattr(event_type, name):
        return
    fields = ", ".join(map(repr, sorted(field_names(event_type)))) or "none"
    raise RegistrationError(
        f"{where}: {name!r} is no field of {event_type.__qualname__}, which has {fields}; give a"
        " function for anything else, also for a constant text"
    )


def _number(amount: Value, sign: int, where: str) -> Value:
    def number(event: Event) -> int | float | Decimal:
        found = amount(event)
        if isinstance(found, bool) or not isinstance(found, (int, float, Decimal)):
            raise InvalidEventError(
                f"{where}: the event with sequence {event.sequence} gives {found!r}, which isn't a"
                " number"
            )
        return sign * found

    return number
