"""JSON values compared as PostgreSQL's jsonb compares them."""

import json
from typing import Any, cast

__all__ = ["same_json", "same_value"]


def same_json(one: str, other: str) -> bool:
    """Tell whether two JSON texts mean the same."""
    return one == other or same_value(json.loads(one), json.loads(other))


def same_value(one: Any, other: Any) -> bool:
    """Tell whether two JSON values are the same: true isn't 1, and 1.0 is."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        left, right = cast("dict[str, Any]", one), cast("dict[str, Any]", other)
        return left.keys() == right.keys() and all(
            same_value(value, right[key]) for key, value in left.items()
        )
    if isinstance(one, list) and isinstance(other, list):
        ones, others = cast("list[Any]", one), cast("list[Any]", other)
        return len(ones) == len(others) and all(map(same_value, ones, others))
    return one == other
