"""Whether a converter treats a type as one does with which nobody has registered anything."""

from collections.abc import Iterable, Iterator
from types import CodeType, FunctionType, MethodType
from typing import Any, cast

import attrs
from cattrs import BaseConverter, Converter

__all__ = ["Comparison"]


@attrs.define(eq=False)
class Comparison:
    """Compare hooks of two converters by what they do.

    A hook that cattrs makes for a class has the hooks of the fields within it, as defaults, as what it
    closes over, or as globals of its own: a hook may be made by another converter, and registered. So
    it isn't enough that its code is the usual one: all that it refers to has to be the usual, too.

    Attributes:
        ours: one converter.
        usual: the other.
    """

    ours: Converter
    usual: Converter
    _begun: set[tuple[int, int]] = attrs.field(factory=set[tuple[int, int]], init=False)

    def are_alike(self, one: Any, other: Any) -> bool:
        """Tell whether two hooks, or what they refer to, mean the same."""
        if one is other:
            return True
        if isinstance(one, BaseConverter):
            return one is self.ours and other is self.usual
        place = (id(one), id(other))
        if place in self._begun:  # a class that has itself for a field: judged by the rest
            return True
        pairs = _pairs(one, other)
        if pairs is None:
            return _are_equal(one, other)
        self._begun.add(place)
        return all(self.are_alike(mine, theirs) for mine, theirs in pairs)


def _pairs(one: Any, other: Any) -> Iterable[tuple[Any, Any]] | None:
    """Pair what two things consist of that are alike themselves; None if they aren't, or are whole."""
    if type(one) is not type(other):
        return None
    if isinstance(one, MethodType):
        return [(one.__func__, other.__func__), (one.__self__, other.__self__)]
    if isinstance(one, FunctionType):
        is_alike = one.__code__ == other.__code__
        return zip(_referred(one), _referred(other), strict=True) if is_alike else None
    if isinstance(one, (tuple, list)):
        mine, theirs = cast("tuple[Any, ...]", one), cast("tuple[Any, ...]", other)
        return zip(mine, theirs, strict=True) if len(mine) == len(theirs) else None
    return None


def _referred(hook: FunctionType) -> Iterator[Any]:
    """Yield what a function refers to, in an order that its code decides."""
    yield hook.__defaults__
    yield from (value for _, value in sorted((hook.__kwdefaults__ or {}).items()))
    for cell in hook.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # nothing has been put there
            yield None
    yield from (hook.__globals__.get(name) for name in sorted(set(_names(hook.__code__))))


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _are_equal(one: Any, other: Any) -> bool:
    try:
        return bool(one == other)
    except Exception:  # noqa: BLE001  an application's own comparison may raise anything
        return False
