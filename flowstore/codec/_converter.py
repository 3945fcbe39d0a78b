"""What a class means as JSON: cattrs, and the standard types that it leaves to us."""

import json
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from datetime import time, timedelta
from decimal import Decimal
from typing import Any, cast, get_origin
from uuid import UUID

import attrs
from cattrs import Converter
from cattrs.cols import (
    is_any_set,  # pyright: ignore[reportUnknownVariableType]  # untyped there
    iterable_unstructure_factory,
)
from cattrs.preconf.json import make_converter as make_json_converter

from flowstore.codec._problems import MisfitError
from flowstore.codec._structs import register_structs

__all__ = ["make_converter"]

_MICROSECOND = timedelta(microseconds=1)


def make_converter() -> Converter:
    """Make a converter between Python values and JSON values.

    It knows attrs classes, dataclasses, msgspec's structs, typed dictionaries, the standard collections, enums,
    unions that cattrs can tell apart, and as text: UUID, Decimal, bytes (base 85), and dates and
    times (ISO 8601). A timedelta is a count of microseconds. Sets are written in sorted order, so
    that equal values give equal text in every process. Register hooks on the result for the rest.
    """
    converter = make_json_converter()
    for kind in (UUID, Decimal):
        converter.register_unstructure_hook(kind, str)
    converter.register_structure_hook(UUID, _to_uuid)
    converter.register_structure_hook(Decimal, _to_decimal)
    converter.register_unstructure_hook(time, time.isoformat)
    converter.register_structure_hook(time, _to_time)
    converter.register_unstructure_hook(timedelta, _from_timedelta)
    converter.register_structure_hook(timedelta, _to_timedelta)
    converter.register_unstructure_hook_factory(_is_set, _set_factory)
    converter.register_structure_hook_factory(_has_fields, _from_object)
    register_structs(converter)
    return converter


def _to_uuid(value: Any, _: Any) -> UUID:
    return value if isinstance(value, UUID) else UUID(value)


def _to_decimal(value: Any, _: Any) -> Decimal:
    # Through text: a stored number is a float by now, whose binary digits nobody wrote.
    return Decimal(str(value))


def _to_time(value: Any, _: Any) -> time:
    return time.fromisoformat(value)


def _from_timedelta(value: timedelta) -> int:
    return value // _MICROSECOND


def _to_timedelta(value: Any, _: Any) -> timedelta:
    return timedelta(microseconds=value)


def _has_fields(kind: Any) -> bool:
    kind = get_origin(kind) or kind
    return attrs.has(kind) or is_dataclass(kind)


def _from_object(kind: Any, converter: Converter) -> Callable[[Any, Any], Any]:
    """Read a class as cattrs does, but from nothing else than an object.

    Of a list or a text cattrs would make an instance whose fields all have their defaults.
    """
    structure = converter.gen_structure_attrs_fromdict(kind)

    def from_object(value: Any, wanted: Any) -> Any:
        if not isinstance(value, Mapping):
            raise MisfitError(
                f"{kind.__name__} is read from a JSON object, and {value!r} isn't one"
            )
        return structure(cast("Mapping[str, Any]", value), wanted)

    return from_object


def _is_set(kind: Any) -> bool:
    return is_any_set(kind)


def _set_factory(kind: Any, converter: Converter) -> Callable[[Any], list[Any]]:
    to_list = iterable_unstructure_factory(kind, converter, unstructure_to=list)

    def in_order(members: Any) -> list[Any]:
        return _sorted(to_list(members))

    return in_order


def _sorted(members: list[Any]) -> list[Any]:
    try:
        return sorted(members)
    except TypeError:  # of several kinds, or objects: any order will do, so long as it is one
        return sorted(members, key=_as_text)


def _as_text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=repr)
