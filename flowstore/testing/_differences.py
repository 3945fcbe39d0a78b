"""Telling how documents differ, in one line."""

from collections.abc import Mapping
from typing import Any, cast

import attrs

from flowstore.store.memory import same_value

__all__ = ["Side", "first_difference"]


@attrs.frozen
class Side:
    """One of two sets of documents to be compared.

    Attributes:
        label: what a story calls it.
        values: the documents' JSON values; by tenant, class and identity, or whatever they are
            known by.
    """

    label: str
    values: Mapping[Any, Any]


def first_difference(left: Side, right: Side) -> tuple[Any, str] | None:
    """Find the first document that isn't the same on both sides.

    Returns:
        The document's key and the line to tell; None if all are the same.
    """
    for key in dict.fromkeys([*left.values, *right.values]):
        if key not in left.values:
            return key, f"{_name(key)} exists {right.label} only: {right.values[key]!r}"
        if key not in right.values:
            return key, f"{_name(key)} exists {left.label} only: {left.values[key]!r}"
        if not same_value(left.values[key], right.values[key]):
            return key, f"{_name(key)}: {_fields(key, left, right)}"
    return None


def _name(key: Any) -> str:
    match key:
        case (tenant, kind, identity):
            whose = "" if tenant is None else f" of tenant {tenant!r}"
            return f"{getattr(kind, '__name__', kind)} {str(identity)!r}{whose}"
        case _:
            return repr(key)


def _fields(key: Any, left: Side, right: Side) -> str:
    ours, theirs = left.values[key], right.values[key]
    if not (isinstance(ours, Mapping) and isinstance(theirs, Mapping)):
        return f"it is {ours!r} {left.label}, {theirs!r} {right.label}"
    one, other = cast("Mapping[str, Any]", ours), cast("Mapping[str, Any]", theirs)
    return ", ".join(
        f"{name} is {one.get(name)!r} {left.label}, {other.get(name)!r} {right.label}"
        for name in dict.fromkeys([*one, *other])
        if name not in one or name not in other or not same_value(one[name], other[name])
    )
