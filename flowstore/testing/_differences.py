"""Telling how documents differ, in one line."""

from collections.abc import Mapping
from typing import Any

import attrs

from flowstore.testing._memory import DocumentKey

__all__ = ["Side", "first_difference"]


@attrs.frozen
class Side:
    """One of two sets of documents to be compared.

    Attributes:
        label: what a story calls it.
        values: the documents' JSON values.
    """

    label: str
    values: Mapping[DocumentKey, Any]


def first_difference(left: Side, right: Side) -> tuple[DocumentKey, str] | None:
    """Find the first document that isn't the same on both sides.

    Returns:
        The document and the line to tell; None if all are the same.
    """
    for key in dict.fromkeys([*left.values, *right.values]):
        if key not in left.values:
            return key, f"{_name(key)} exists {right.label} only: {right.values[key]!r}"
        if key not in right.values:
            return key, f"{_name(key)} exists {left.label} only: {left.values[key]!r}"
        if left.values[key] != right.values[key]:
            return key, f"{_name(key)}: {_fields(key, left, right)}"
    return None


def _name(key: DocumentKey) -> str:
    tenant, kind, identity = key
    whose = "" if tenant is None else f" of tenant {tenant!r}"
    return f"{getattr(kind, '__name__', kind)} {str(identity)!r}{whose}"


def _fields(key: DocumentKey, left: Side, right: Side) -> str:
    ours, theirs = left.values[key], right.values[key]
    return ", ".join(
        f"{name} is {ours.get(name)!r} {left.label}, {theirs.get(name)!r} {right.label}"
        for name in dict.fromkeys([*ours, *theirs])
        if ours.get(name) != theirs.get(name)
    )
