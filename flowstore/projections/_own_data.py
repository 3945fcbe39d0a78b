"""Giving a fold events of its own.

What a document takes of an event, such as a list, it may change with the next one. The event is others'
too: of shards that read the same page, of documents that it is grouped under as well, of the same fold
once more when a transaction was rolled back. They would find what the document has become.
"""

import dataclasses
from collections.abc import Callable
from copy import deepcopy
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin, get_type_hints
from uuid import UUID

import attrs
from attrs.exceptions import FrozenError

from flowstore.events import Event, recorded_event

__all__ = ["is_settled", "own_event"]

_PLAIN: Final = frozenset(
    {
        str,
        int,
        float,
        complex,
        bool,
        bytes,
        NoneType,
        UUID,
        Decimal,
        date,
        datetime,
        time,
        timedelta,
    }
)


def own_event(event_type: type) -> Callable[[Event], Event] | None:
    """Give what makes an event of a type one's own; None: nothing of it can be changed anyway."""
    return None if is_settled(event_type) else _copied


def is_settled(kind: Any) -> bool:
    """Tell whether values of a type can't be changed, with all that they hold.

    So are plain values, enums, tuples and frozen sets of such, and frozen classes whose fields are.
    """
    return _is_settled(kind, set())


def _copied(event: Event) -> Event:
    return recorded_event(
        deepcopy(event.data),
        event.sequence,
        event.id,
        (event.stream_id, event.version),
        event.type_name,
        event.timestamp,
        event.headers,
        (event.correlation_id, event.causation_id, event.tenant_id, event.user_name),
    )


def _is_settled(kind: Any, seen: set[Any]) -> bool:
    kind = getattr(kind, "__value__", getattr(kind, "__supertype__", kind))
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Literal:
        return True
    if origin is Annotated:
        return _is_settled(parts[0], seen)
    if origin in {Union, UnionType, tuple, frozenset}:
        return bool(parts) and all(part is ... or _is_settled(part, seen) for part in parts)
    return kind is None or (isinstance(kind, type) and _is_settled_class(kind, seen))


def _is_settled_class(kind: "type[Any]", seen: set[Any]) -> bool:
    if kind in _PLAIN or kind in seen or issubclass(kind, Enum):
        return True
    return _is_frozen(kind) and _has_settled_fields(kind, seen | {kind})


def _has_settled_fields(kind: type, seen: set[Any]) -> bool:
    try:
        hints = get_type_hints(kind, include_extras=True)
    except Exception:  # noqa: BLE001  resolving annotations runs the application's code
        return False
    return all(_is_settled(hint, seen) for hint in hints.values())


def _is_frozen(kind: Any) -> bool:
    if dataclasses.is_dataclass(kind):
        return bool(kind.__dataclass_params__.frozen)  # type: ignore[union-attr]  # pyright: ignore[reportAttributeAccessIssue,reportUnknownMemberType,reportUnknownArgumentType]
    if not attrs.has(kind):
        return bool(getattr(getattr(kind, "__struct_config__", None), "frozen", False))
    names = [field.name for field in attrs.fields(kind)]
    try:
        setattr(object.__new__(kind), names[0] if names else "anything", None)
    except FrozenError:
        return True
    except Exception:  # noqa: BLE001  a class may do what it likes when it is set
        return False
    return False
