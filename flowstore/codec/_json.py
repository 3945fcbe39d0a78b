"""Values to JSON text, refusing what PostgreSQL would refuse, and saying where it stands."""

import json
from collections.abc import Callable, Iterator
from importlib import import_module
from math import isfinite
from types import NoneType
from typing import Any, Final, cast

import attrs

from flowstore.errors import FlowstoreError, RegistrationError

__all__ = ["EncodingLimits", "from_json", "plain_types", "quick_encode", "to_json"]

_encode: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode

_ESCAPED_NUL: Final = "\\u0000"

plain_types: Final = frozenset({str, int, bool, NoneType})
"""What msgspec writes letter for letter as `json` does. Floats aren't: it writes NaN as null, and
1e16 shorter. Nor is what only msgspec would take, such as a datetime that a hook has left."""
_CONTAINERS: Final = frozenset({dict, list})
_TEXT: Final = frozenset({str})
_SHALLOW: Final = 4
"""Containers within each other that are looked through before writing quickly."""


def _find_quick_encode() -> Callable[[Any], bytes] | None:
    try:
        return import_module("msgspec").json.Encoder().encode
    except ImportError:
        return None


quick_encode: Final = _find_quick_encode()


def _check_positive(_: "EncodingLimits", attribute: "attrs.Attribute[int]", value: int) -> None:
    if value < 1:
        raise RegistrationError(f"EncodingLimits.{attribute.name} is {value}: it is at least 1")


@attrs.frozen
class EncodingLimits:
    """Bound what one event or document may weigh.

    Attributes:
        max_bytes: longest JSON text, in bytes of UTF-8. The default of 1 MiB is far above any
            event that states a fact, and far below jsonb's own limit of 255 MiB a string.
        max_depth: deepest nesting of objects and arrays. The default of 100 is what Python's
            recursion limit of 1,000 frames bears with room for the application's own frames.

    Raises:
        RegistrationError: a limit is below 1.
    """

    max_bytes: int = attrs.field(default=1_048_576, validator=_check_positive)
    max_depth: int = attrs.field(default=100, validator=_check_positive)


def to_json(value: Any, *, what: str, limits: EncodingLimits, error: type[FlowstoreError]) -> str:
    """Write a JSON value as text that PostgreSQL's jsonb takes.

    Args:
        value: dictionaries with text keys, lists, and scalars.
        what: whose value it is, for messages.
        limits: the bounds it must keep.
        error: the class of the error to raise.

    Raises:
        FlowstoreError: as `error`; the value isn't JSON, has NaN, an infinity, a NUL character
            or half a surrogate pair in it, or is beyond the limits. The message says where.
    """
    try:
        text, size = _written(value)
    except UnicodeEncodeError as cause:
        raise error(
            f"{what}{_place(value, _has_surrogate)} holds half a surrogate pair,"
            " which is no character: mend the text"
        ) from cause
    except RecursionError as cause:
        raise error(f"{what} is nested too deeply, or contains itself: flatten it") from cause
    except (TypeError, ValueError) as cause:
        raise error(_why_no_json(value, what, cause)) from cause
    if size > limits.max_bytes:
        raise error(
            f"{what} takes {size} bytes as JSON, and {limits.max_bytes} are allowed: keep"
            " what is large elsewhere, or raise max_bytes of the limits"
        )
    if _ESCAPED_NUL in text and (place := _place(value, _has_nul)):
        raise error(f"{what}{place} holds a NUL character, which PostgreSQL can't store: strip it")
    _check_depth(value, text, what, limits, error)
    return text


def _written(value: Any) -> tuple[str, int]:
    """Give the JSON text, and its length in bytes of UTF-8."""
    if quick_encode is not None and _is_plain(value, _SHALLOW):
        try:
            data = quick_encode(value)
        except (UnicodeEncodeError, OverflowError):
            pass  # half a surrogate pair, which is told of below; a number beyond 64 bits
        else:
            return data.decode(), len(data)
    text = _encode(value)
    return text, len(text.encode())


def _is_plain(value: Any, levels: int) -> bool:
    """Tell whether a value is of exactly such types as are written alike, and is shallow."""
    kind = cast("type[Any]", type(value))
    if kind in plain_types:
        return True
    if levels == 0 or kind not in _CONTAINERS:
        return False
    if kind is dict and not _TEXT.issuperset(map(type, value)):
        return False
    items = value if kind is list else value.values()
    if plain_types.issuperset(map(type, items)):
        return True
    # A loop, and scalars passed over in it: most of the time of writing a document was this question.
    for item in items:
        if type(item) not in plain_types and not _is_plain(item, levels - 1):
            return False
    return True


def from_json(text: str | bytes, *, what: str, error: type[FlowstoreError]) -> Any:
    """Read JSON text.

    Raises:
        FlowstoreError: as `error`; the text isn't JSON.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as cause:
        raise error(f"{what} is stored as text that isn't JSON: {cause}") from cause


def _check_depth(
    value: Any, text: str, what: str, limits: EncodingLimits, error: type[FlowstoreError]
) -> None:
    # Nesting can't be deeper than there are brackets: nearly every value ends here.
    if text.count("{") + text.count("[") <= limits.max_depth:
        return
    depth = max(depth + isinstance(item, (dict, list, tuple)) for depth, _, item in _walk(value))
    if depth > limits.max_depth:
        raise error(
            f"{what} is nested {depth} deep, and {limits.max_depth} are allowed: flatten"
            " it, or raise max_depth of the limits"
        )


def _why_no_json(value: Any, what: str, cause: Exception) -> str:
    if place := _place(value, _is_not_finite):
        return f"{what}{place} is NaN or infinite, which JSON can't say: use None or text"
    return (
        f"{what} isn't JSON: {cause}; make its class an attrs class or a dataclass, or register a"
        " hook for it on options.events.converter"
    )


def _place(value: Any, holds: Callable[[Any], bool]) -> str:
    """Name the first place, as in `.items[3].name`, whose scalar or key `holds`; '' if none."""
    parts = _walk(value, once=True)  # it may contain itself
    found = next((path or " itself" for _, path, item in parts if holds(item)), "")
    # The message is printed and stored in its turn, and can hold neither of what it tells of.
    return found.encode(errors="backslashreplace").decode().replace("\0", "\\x00")


def _walk(value: Any, *, once: bool = False) -> Iterator[tuple[int, str, Any]]:
    """Yield depth, path and value of every part, keys too; without recursion, for deep ones.

    Args:
        value: what to walk through.
        once: look into each part but once, wherever else it stands; ends for one in itself, too.
    """
    entered: set[int] = set()
    waiting: list[tuple[int, str, Any]] = [(0, "", value)]
    while waiting:
        depth, path, item = waiting.pop()
        yield depth, path, item
        if once and isinstance(item, (dict, list, tuple)):
            if id(cast("Any", item)) in entered:
                continue
            entered.add(id(cast("Any", item)))
        parts = _parts(item)
        yield from ((depth, path + step, key) for step, key, _ in parts)
        waiting.extend((depth + 1, path + step, part) for step, _, part in reversed(parts))


def _parts(item: Any) -> list[tuple[str, Any, Any]]:
    """List the step, the key and the value of each member of an object or array."""
    if isinstance(item, dict):
        members = cast("dict[Any, Any]", item)
        return [(f".{key}", key, member) for key, member in members.items()]
    if isinstance(item, (list, tuple)):
        elements = cast("list[Any]", item)
        return [(f"[{index}]", index, element) for index, element in enumerate(elements)]
    return []


def _has_nul(value: Any) -> bool:
    return isinstance(value, str) and "\0" in value


def _has_surrogate(value: Any) -> bool:
    return isinstance(value, str) and any("\ud800" <= char <= "\udfff" for char in value)


def _is_not_finite(value: Any) -> bool:
    return isinstance(value, float) and not isfinite(value)
