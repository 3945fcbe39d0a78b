"""Instances whose fields hold only text, whole numbers, truth values and None, straight to JSON text.

The converter defines how a class is written. For a class of such fields, with no hook registered
for any part of it, that is an object of the fields as they are; so they are taken out all at once,
looked at, and written. What is found to hold anything else at run time, whatever the annotations
say, is left to the converter and to `to_json`, and so is all that they would refuse.
"""

import dataclasses
from collections.abc import Callable
from operator import attrgetter
from types import CodeType, FunctionType, NoneType, UnionType
from typing import Any, Final, TypeAlias, Union, cast, get_args, get_origin, get_type_hints

import attrs
from cattrs import Converter

from flowstore.codec._direct import untouched, usual_options
from flowstore.codec._json import EncodingLimits, plain_types, quick_encode

__all__ = ["DirectWriting", "is_written_as_usual"]

_Write: TypeAlias = Callable[[Any], str | None]

_WRITABLE: Final = frozenset({str, int, bool, NoneType})
_OPTIONS: Final = ("omit_if_default", "use_alias", "unstruct_strat")


class DirectWriting:
    """Find out which classes can be written directly.

    Args:
        converter: how classes are written; asked when a class is first written, with the hooks it
            has then.
        limits: the bounds that the text must keep.
    """

    def __init__(self, converter: Converter, limits: EncodingLimits) -> None:
        self._converter = converter
        self._limits = limits

    def writer(self, kind: type) -> _Write | None:
        """Give the function that writes a class as JSON text; None where only the converter can.

        The function gives None for an instance that the converter has to look at.
        """
        if quick_encode is None or not usual_options(self._converter, _OPTIONS):
            return None
        names = _public_fields(kind)
        if not names or not self._are_writable(kind, names):
            return None
        if not is_written_as_usual(self._converter, kind):
            return None
        return _make(names, quick_encode, self._limits.max_bytes)

    def _are_writable(self, kind: type, names: list[str]) -> bool:
        try:
            hints = get_type_hints(kind)
        except Exception:  # noqa: BLE001  resolving annotations runs the application's code
            return False
        return all(self._is_writable(hints.get(name)) for name in names)

    def _is_writable(self, hint: Any) -> bool:
        is_union = get_origin(hint) is Union or get_origin(hint) is UnionType
        parts: tuple[Any, ...] = get_args(hint) if is_union else (hint,)
        if not _WRITABLE.issuperset(parts):
            return False
        return all(is_written_as_usual(self._converter, part) for part in (hint, *parts))


def is_written_as_usual(converter: Converter, kind: Any) -> bool:
    """Tell whether a type is written by the hook that it has where nobody registered any."""
    try:
        ours = converter.get_unstructure_hook(kind)
        usual = untouched().get_unstructure_hook(kind)
    except Exception:  # noqa: BLE001  as above; writing the class the other way says what it is
        return False
    if ours is usual:
        return True
    has_own = getattr(ours, "overrides", None)
    return not has_own and _code(ours) == _code(usual) is not None


def _make(names: list[str], encode: Callable[[Any], bytes], most: int) -> _Write:
    get = attrgetter(*names)

    def write(value: Any) -> str | None:
        found = get(value)
        fields = found if len(names) > 1 else (found,)
        if not plain_types.issuperset(map(type, fields)):
            return None
        try:
            data = encode(dict(zip(names, fields, strict=True)))
        except (UnicodeEncodeError, OverflowError):  # half a surrogate pair; beyond 64 bits
            return None
        if len(data) > most or b"\\u0000" in data:
            return None
        return data.decode()

    return write


def _public_fields(kind: Any) -> list[str]:
    """List the fields that the converter writes; none of a class that it treats in its own way."""
    if getattr(kind, "__parameters__", ()):
        return []
    if attrs.has(kind):
        found: list[Any] = list(attrs.fields(kind))
    elif dataclasses.is_dataclass(kind):
        found = list(dataclasses.fields(kind))
    else:
        return []
    return [each.name for each in found] if all(each.init for each in found) else []


def _code(hook: Any) -> CodeType | None:
    """Give what a hook does. Generated ones are made anew by each converter, of equal code."""
    return cast("Any", hook).__code__ if isinstance(hook, FunctionType) else None
