"""What a class means as JSON: cattrs, and the standard types that it leaves to us."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import is_dataclass
from datetime import time, timedelta
from decimal import Decimal
from functools import partial
from typing import Any, Final, cast, get_origin
from uuid import UUID

import attrs
from cattrs import Converter
from cattrs.cols import (
    is_any_set,  # pyright: ignore[reportUnknownVariableType]  # untyped there
    iterable_unstructure_factory,
)
from cattrs.preconf.json import JsonConverter, configure_converter

from flowstore.codec._problems import MisfitError
from flowstore.codec._structs import register_structs

__all__ = ["NotingConverter", "make_converter"]

_MICROSECOND = timedelta(microseconds=1)
_OPTIONS: Final = (
    "detailed_validation",
    "forbid_extra_keys",
    "omit_if_default",
    "type_overrides",
    "use_alias",
    "_dict_factory",
    "_prefer_attrib_converters",
)


class NotingConverter(JsonConverter):
    """Note what an application registers, so that another process can be told of it.

    Attributes:
        noted: the method's name and its two arguments, in the order of registration.
        is_copy: it was copied from another, with hooks that nobody noted.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        self.noted: list[tuple[str, Any, Any]] = []
        self.is_copy = False
        super().__init__(*args, **options)

    def __reduce__(self) -> tuple[Any, ...]:
        return _converter_with, (tuple(self.noted),)

    @property
    def is_told(self) -> bool:
        """Whether what was noted, and nothing else, makes it differ from a new one."""
        new = make_converter()
        return not self.is_copy and all(
            getattr(self, option, None) == getattr(new, option, None) for option in _OPTIONS
        )

    def copy(self, *args: Any, **options: Any) -> "NotingConverter":
        """Copy everything but what was noted."""
        copied = super().copy(*args, **options)
        copied.is_copy = True
        return copied

    def register_structure_hook(self, cl: Any, func: Any = None) -> Any:
        """Register, and note it."""
        return self._note("register_structure_hook", cl, func)

    def register_structure_hook_func(self, check_func: Any, func: Any) -> Any:
        """Register, and note it."""
        return self._note("register_structure_hook_func", check_func, func)

    def register_structure_hook_factory(self, predicate: Any, factory: Any = None) -> Any:
        """Register, and note it."""
        if factory is None:  # a decorator's first half
            return partial(self.register_structure_hook_factory, predicate)
        return self._note("register_structure_hook_factory", predicate, factory)

    def register_unstructure_hook(self, cls: Any = None, func: Any = None) -> Any:
        """Register, and note it."""
        return self._note("register_unstructure_hook", cls, func)

    def register_unstructure_hook_func(self, check_func: Any, func: Any) -> Any:
        """Register, and note it."""
        return self._note("register_unstructure_hook_func", check_func, func)

    def register_unstructure_hook_factory(self, predicate: Any, factory: Any = None) -> Any:
        """Register, and note it."""
        if factory is None:
            return partial(self.register_unstructure_hook_factory, predicate)
        return self._note("register_unstructure_hook_factory", predicate, factory)

    def _note(self, name: str, first: Any, second: Any) -> Any:
        if second is not None:  # else it comes again, with the type that the function names
            self.noted.append((name, first, second))
        return getattr(super(), name)(first, second)


def make_converter() -> NotingConverter:
    """Make a converter between Python values and JSON values.

    It knows attrs classes, dataclasses, msgspec's structs, typed dictionaries, the standard collections, enums,
    unions that cattrs can tell apart, and as text: UUID, Decimal, bytes (base 85), and dates and
    times (ISO 8601). A timedelta is a count of microseconds. Sets are written in sorted order, so
    that equal values give equal text in every process. Register hooks on the result for the rest.
    """
    converter = NotingConverter(unstruct_collection_overrides={AbstractSet: list, Counter: dict})
    configure_converter(converter)
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
    converter.noted.clear()
    return converter


def _converter_with(noted: Iterable[tuple[str, Any, Any]]) -> NotingConverter:
    converter = make_converter()
    for name, first, second in noted:
        getattr(converter, name)(first, second)
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
