"""JSON text straight into instances, by msgspec, where it means the same as the converter.

The converter defines what a class means. msgspec reads the same in a quarter of the time, but has
ideas of its own about some types, and knows nothing of hooks. So it is used for a class only if
every part of it is of a kind on which the two agree, and no hook was registered for any of them;
and whatever it refuses, the converter looks at again.
"""

import dataclasses
from collections.abc import Callable
from enum import Enum
from functools import cache
from importlib import import_module
from types import CodeType, FunctionType, MethodType, UnionType
from typing import Any, Final, TypeAlias, Union, cast, get_args, get_origin, get_type_hints
from uuid import UUID

import attrs
from cattrs import Converter

from flowstore.codec._converter import make_converter

__all__ = ["DirectReading", "else_by", "untouched", "usual_options"]

_Read: TypeAlias = Callable[[str | bytes], Any]

_PLAIN: Final = frozenset({str, int, float, bool, UUID})
"""Times aren't among them: msgspec takes leap seconds, a lower-case 't', and rounds nanoseconds."""
_OPTIONS: Final = ("forbid_extra_keys", "use_alias", "_prefer_attrib_converters")
_COLLECTIONS: Final = frozenset({list, set, frozenset, tuple, dict})


def _find_msgspec() -> Any:
    try:
        return import_module("msgspec")
    except ImportError:
        return None


_msgspec = _find_msgspec()


@cache
def untouched() -> Converter:
    """Give a converter to compare others with: nobody registers anything with it, so one will do."""
    return make_converter()


def usual_options(converter: Converter, options: tuple[str, ...]) -> bool:
    """Tell whether a converter is of the usual class, and its options are as usual."""
    usual = untouched()
    return type(converter) is type(usual) and all(
        getattr(converter, option) == getattr(usual, option) for option in options
    )


class DirectReading:
    """Find out which classes can be read directly.

    Args:
        converter: what classes mean; asked when a class is first read, with the hooks it has then.
    """

    def __init__(self, converter: Converter) -> None:
        self._converter = converter
        self._untouched = untouched()

    def reader(self, kind: type) -> _Read | None:
        """Give the function that reads a class from JSON text; None where only the converter can.

        The function raises for text that the converter has to look at: see `else_by`.
        """
        if _msgspec is None or not usual_options(self._converter, _OPTIONS):
            return None
        if not (_is_class_of_fields(kind) and self._agree(kind, set())):
            return None
        return _msgspec.json.Decoder(kind).decode

    def _agree(self, kind: Any, seen: set[type]) -> bool:
        """Tell whether both libraries read a type alike, all that it holds included."""
        if kind in seen:
            return True
        if kind is Any or kind in _PLAIN:
            return self._is_untouched(kind)
        if not self._is_untouched(kind):
            return False
        if isinstance(kind, type) and not get_args(kind):
            return self._agree_on_class(kind, seen)
        return self._agree_on_parts(get_origin(kind), get_args(kind), seen)

    def _agree_on_parts(self, origin: Any, parts: tuple[Any, ...], seen: set[type]) -> bool:
        if origin is Union or origin is UnionType:
            # One type or None. Of several, each library has its own way to choose.
            parts = tuple(part for part in parts if part is not type(None))
            return len(parts) == 1 and self._agree(parts[0], seen)
        if origin is dict:
            return parts[0] is str and self._agree(parts[1], seen)
        if origin is tuple and (len(parts) != 2 or parts[1] is not Ellipsis):
            return False
        return origin in _COLLECTIONS and self._agree(parts[0], seen)

    def _agree_on_class(self, kind: Any, seen: set[type]) -> bool:
        if issubclass(kind, Enum):
            return _is_plain_enum(kind)
        if not _is_class_of_fields(kind):
            return False
        seen.add(kind)
        try:
            hints = get_type_hints(kind)
        except Exception:  # noqa: BLE001  resolving annotations runs the application's code
            return False
        return all(self._agree(hints.get(name), seen) for name in _fields(kind))

    def _is_untouched(self, kind: Any) -> bool:
        """Tell whether a type is read by the hook that it has where nobody registered any."""
        try:
            ours = self._converter.get_structure_hook(kind)
            usual = self._untouched.get_structure_hook(kind)
        except Exception:  # noqa: BLE001  as above; reading the class the other way says what it is
            return False
        return not getattr(ours, "overrides", None) and _code(ours) == _code(usual) is not None


def else_by(direct: _Read, careful: _Read) -> _Read:
    """Read directly, and carefully what can't be read so: that gives the value, or says why not."""

    def read(text: str | bytes) -> Any:
        try:
            return direct(text)
        except Exception:  # noqa: BLE001  also what a class' own validators raise
            return careful(text)

    return read


def _code(hook: Any) -> CodeType | None:
    """Give what a hook does. Generated ones are made anew by each converter, of equal code."""
    function = hook.__func__ if isinstance(hook, MethodType) else hook
    return function.__code__ if isinstance(function, FunctionType) else None


def _is_plain_enum(kind: type[Enum]) -> bool:
    """Tell whether members are found by their values alone, all texts or all numbers."""
    sorts: set[type[Any]] = {type(member.value) for member in kind}
    return sorts in ({str}, {int}) and "_missing_" not in kind.__dict__


def _is_class_of_fields(kind: type) -> bool:
    """Tell whether instances are made by a generated `__init__` that only assigns its fields."""
    if attrs.has(kind):
        return _is_usual_attrs_class(kind)
    if dataclasses.is_dataclass(kind):
        return _is_usual_dataclass(kind)
    return False


def _is_usual_attrs_class(kind: Any) -> bool:
    init = kind.__init__
    is_generated = (
        isinstance(init, FunctionType)
        and init.__code__.co_filename.startswith("<attrs generated")
        and "__init__" in kind.__dict__
    )
    return (
        is_generated
        and not hasattr(kind, "__attrs_pre_init__")
        and kind.__new__ is object.__new__
        and not getattr(kind, "__parameters__", ())
        and all(_is_usual_field(field) for field in attrs.fields(kind))
    )


def _is_usual_field(field: "attrs.Attribute[Any]") -> bool:
    takes_self = getattr(field.default, "takes_self", False)
    is_converted = cast("Any", field).converter is not None
    return field.init and not is_converted and field.alias == field.name and not takes_self


def _is_usual_dataclass(kind: Any) -> bool:
    return (
        kind.__dataclass_params__.init
        and isinstance(kind.__init__, FunctionType)
        and kind.__init__.__code__.co_filename == "<string>"
        and "__init__" in kind.__dict__
        and kind.__new__ is object.__new__
        and not getattr(kind, "__parameters__", ())
        and len(kind.__dataclass_fields__) == len(dataclasses.fields(kind))
        and all(field.init for field in dataclasses.fields(kind))
    )


def _fields(kind: Any) -> list[str]:
    found = attrs.fields(kind) if attrs.has(kind) else dataclasses.fields(kind)
    return [field.name for field in found]
