"""Instances straight to JSON text, where it is what the converter would write.

The converter defines how a class is written: as an object of its fields. For a class whose fields hold
text, numbers, truth values, UUIDs, times, enumerations, other such classes, and collections of them, with
no hook registered for any part of it, they are taken out all at once, looked at, and written. What is
found to hold anything else at run time, whatever the annotations say, is left to the converter and to
`to_json`, and so is all that they would refuse.
"""

import dataclasses
from collections.abc import Callable
from enum import Enum
from functools import partial
from types import NoneType, UnionType
from typing import Any, Final, TypeAlias, Union, cast, get_args, get_origin, get_type_hints
from uuid import UUID

import attrs
from cattrs import Converter

from flowstore.codec import _direct_parts as parts
from flowstore.codec._alike import Comparison
from flowstore.codec._direct import untouched, usual_options
from flowstore.codec._direct_parts import LEAVES, Part, Turn
from flowstore.codec._json import EncodingLimits, quick_encode

__all__ = ["DirectWriting", "is_written_as_usual"]

_Write: TypeAlias = Callable[[Any], str | None]

_SIMPLE: Final[dict[Any, Part]] = {
    **dict.fromkeys((str, int, bool, NoneType), Part()),
    float: Part(parts.as_number, is_text=False),
    UUID: Part(parts.as_uuid),
}
_UNORDERED: Final = frozenset({set, frozenset})
_MAKERS: Final[dict[Any, Callable[[Turn | None], Turn]]] = {
    list: partial(parts.as_items, list),
    tuple: partial(parts.as_items, tuple),
    set: partial(parts.as_sorted, set),
    frozenset: partial(parts.as_sorted, frozenset),
}
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
        if not is_written_as_usual(self._converter, kind):  # which says as much of all its parts
            return None
        part = self._of_class(kind, ())
        if part is None or part.turn is None or part.depth > self._limits.max_depth:
            return None
        return _make(part.turn, quick_encode, self._limits.max_bytes)

    def _part(self, hint: Any, within: tuple[type, ...]) -> Part | None:
        """Say how values of a type are written; None where only the converter can tell."""
        origin, arguments = get_origin(hint), get_args(hint)
        if origin is Union or origin is UnionType:
            return self._of_union(arguments, within)
        if origin is not None:
            return self._of_collection(origin, arguments, within)
        return _SIMPLE.get(hint) or self._of_type(hint, within)

    def _of_type(self, kind: Any, within: tuple[type, ...]) -> Part | None:
        if not isinstance(kind, type):
            return None
        hook = self._converter.get_unstructure_hook(kind)
        if kind in LEAVES:
            return Part(parts.as_leaf(kind, hook))
        if issubclass(kind, Enum):
            turn = parts.as_enum(kind, hook)
            # What is text itself may have an order of its own.
            is_text = not issubclass(kind, (str, int))
            return None if turn is None else Part(turn, is_text=is_text)
        return self._of_class(cast("type[Any]", kind), within)

    def _of_union(self, arguments: tuple[Any, ...], within: tuple[type, ...]) -> Part | None:
        """Say how one type or None is written, or several types whose values are written as they are."""
        found = [self._part(each, within) for each in arguments]
        if all(each is not None and each.turn is None for each in found):
            return Part()
        some = [part for part, each in zip(found, arguments, strict=True) if each is not NoneType]
        # Of several types, which of them a value has decides how it is written.
        if len(some) != 1 or some[0] is None or some[0].turn is None:
            return None
        return attrs.evolve(some[0], turn=parts.as_optional(some[0].turn), is_text=False)

    def _of_collection(
        self, origin: Any, arguments: tuple[Any, ...], within: tuple[type, ...]
    ) -> Part | None:
        if origin is dict:
            member = self._part(arguments[1], within) if arguments[0] is str else None
            make = parts.as_values
        else:
            if origin is tuple and (len(arguments) != 2 or arguments[1] is not Ellipsis):
                return None
            member = self._part(arguments[0], within)
            make = _MAKERS.get(origin)
        if member is None or make is None:
            return None
        if origin in _UNORDERED and not (member.is_text and member.depth == 0):
            return None
        return Part(make(member.turn), member.depth + 1, is_text=False)

    def _of_class(self, kind: type, within: tuple[type, ...]) -> Part | None:
        names = [] if kind in within else _public_fields(kind)
        if not names:
            return None
        try:
            hints = get_type_hints(kind)
        except Exception:  # noqa: BLE001  resolving annotations runs the application's code
            return None
        turns: list[Turn | None] = []
        depth = 0
        for name in names:
            part = self._part(hints[name], (*within, kind)) if name in hints else None
            if part is None:
                return None
            turns.append(part.turn)
            depth = max(depth, part.depth)
        turn = parts.as_fields(kind, names, turns)
        return None if turn is None else Part(turn, depth + 1, is_text=False)


def is_written_as_usual(converter: Converter, kind: Any) -> bool:
    """Tell whether a type is written by the hook that it has where nobody registered any."""
    usual = untouched()
    try:
        one, other = converter.get_unstructure_hook(kind), usual.get_unstructure_hook(kind)
    except Exception:  # noqa: BLE001  as above; writing the class the other way says what it is
        return False
    return Comparison(converter, usual).are_alike(one, other)


def _make(turn: Turn, encode: Callable[[Any], bytes], most: int) -> _Write:
    def write(value: Any) -> str | None:
        try:
            data = encode(turn(value))
        except Exception:  # noqa: BLE001  unusual values, half a surrogate pair, and what a class raises
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
