"""What stands in a class' fields, turned into what is written as JSON: as the converter does it, or not at all.

Nothing here knows what a type means: what isn't written as it is, is turned by the converter's own hook,
or by what that hook is known to do. A value that isn't exactly of the annotated type is left to the
converter, by `UnusualError`.
"""

from collections.abc import Callable, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, Flag
from importlib import import_module
from inspect import getattr_static
from operator import attrgetter
from typing import Any, Final, TypeAlias
from uuid import UUID

import attrs

from flowstore.codec._json import plain_types

__all__ = [
    "LEAVES",
    "Part",
    "Turn",
    "UnusualError",
    "as_enum",
    "as_fields",
    "as_items",
    "as_leaf",
    "as_number",
    "as_optional",
    "as_sorted",
    "as_uuid",
    "as_values",
]

Turn: TypeAlias = Callable[[Any], Any]

LEAVES: Final = frozenset({UUID, datetime, date, time, timedelta, Decimal, bytes})
"""Types of which the converter's hook makes text, or a whole number, and looks at nothing else."""
_TEXT: Final = frozenset({str})
_LEAST, _MOST = 1e-4, 1e16
"""Between them msgspec writes numbers letter for letter as `json` does."""


class UnusualError(Exception):
    """A value isn't exactly of the type that its field is annotated with: the converter is to look at it."""


@attrs.frozen
class Part:
    """Say how values of a type are written.

    Attributes:
        turn: makes what is written of a value; None: it is written as it is, if it is plain.
        depth: how many objects and arrays stand within each other in it.
        is_text: what is made of it is text, or a whole number.
    """

    turn: Turn | None = None
    depth: int = 0
    is_text: bool = True


def as_leaf(kind: type, hook: Turn) -> Turn:
    def leaf(value: Any) -> Any:
        if value.__class__ is not kind:
            raise UnusualError
        return hook(value)

    return leaf


def as_uuid(value: Any) -> Any:
    """Leave a UUID as it is: msgspec writes it as `str` does, in a tenth of the time."""
    if value.__class__ is not UUID:
        raise UnusualError
    return value


def as_number(value: Any) -> Any:
    if value.__class__ is float:
        if not (_LEAST <= abs(value) < _MOST or value == 0):
            raise UnusualError
        return value
    return _plain(value)


def as_enum(kind: type[Enum], hook: Turn) -> Turn | None:
    """Look members up, each turned beforehand; None where they aren't all that there can be."""
    has_own = (
        issubclass(kind, Flag)
        or "_value_" in getattr(kind, "__annotations__", ())
        or getattr_static(kind, "value") is not getattr_static(Enum, "value")
    )
    if has_own:
        return None
    members = {id(member): _content(hook(member)) for member in kind}
    if not plain_types.issuperset(map(type, members.values())):
        return None

    def member(value: Any) -> Any:
        # They live as long as their class: nothing else has an identity of theirs.
        found = members.get(id(value), members)
        if found is members:
            raise UnusualError
        return found

    return member


def as_optional(turn: Turn) -> Turn:
    def optional(value: Any) -> Any:
        return None if value is None else turn(value)

    return optional


def as_items(kind: type, turn: Turn | None) -> Turn:
    """Turn each member of a list or tuple."""

    def items(value: Any) -> Any:
        if value.__class__ is not kind:
            raise UnusualError
        if turn is not None:
            return [turn(each) for each in value]
        if not plain_types.issuperset(map(type, value)):
            raise UnusualError
        return value

    return items


def as_sorted(kind: type, turn: Turn | None) -> Turn:
    """Turn each member of a set, and put them in order; raises `TypeError` where they have none."""

    def in_order(value: Any) -> Any:
        if value.__class__ is not kind:
            raise UnusualError
        if turn is not None:
            return sorted([turn(each) for each in value])
        if not plain_types.issuperset(map(type, value)):
            raise UnusualError
        return sorted(value)

    return in_order


def as_values(turn: Turn | None) -> Turn:
    """Turn each value of a dictionary, whose keys have to be text."""

    def values(value: Any) -> Any:
        if value.__class__ is not dict or not _TEXT.issuperset(map(type, value)):
            raise UnusualError
        if turn is not None:
            return {key: turn(each) for key, each in value.items()}
        if not plain_types.issuperset(map(type, value.values())):
            raise UnusualError
        return value

    return values


def as_fields(kind: type, names: Sequence[str], turns: Sequence[Turn | None]) -> Turn | None:
    """Turn the fields of a class, at least one, and give them by their names.

    As a struct, which is made and written in half of the time that a dictionary takes; None where a
    name can't be a struct's.
    """
    try:
        make = import_module("msgspec").defstruct("Fields", [*names], gc=False)
    except (TypeError, ValueError):
        return None
    get = _getter(names)
    turned = [(place, turn) for place, turn in enumerate(turns) if turn is not None]
    plain = [name for name, turn in zip(names, turns, strict=True) if turn is None]
    get_plain = _getter(plain) if turned and plain else None

    def fields(value: Any) -> Any:
        if value.__class__ is not kind:
            raise UnusualError
        found = get(value)
        if not turned:
            if not plain_types.issuperset(map(type, found)):
                raise UnusualError
            return make(*found)
        if get_plain is not None and not plain_types.issuperset(map(type, get_plain(value))):
            raise UnusualError
        found = list(found)
        for place, turn in turned:
            found[place] = turn(found[place])
        return make(*found)

    return fields


def _getter(names: Sequence[str]) -> Callable[[Any], tuple[Any, ...]]:
    get = attrgetter(*names)
    return get if len(names) > 1 else lambda value: (get(value),)


def _plain(value: Any) -> Any:
    if value.__class__ not in plain_types:
        raise UnusualError
    return value


def _content(value: Any) -> Any:
    """Give what `json` writes of a member that is text or a number itself."""
    if isinstance(value, Enum):
        if isinstance(value, str):
            return str.__str__(value)
        if isinstance(value, int):
            return int(int.__repr__(value))
    return value
