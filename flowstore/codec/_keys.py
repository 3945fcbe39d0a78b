"""Under which names the fields of a class stand in its JSON."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import attrs
from cattrs import Converter

from flowstore.codec._direct_writing import is_written_as_usual
from flowstore.codec._structs import is_struct, struct_keys

__all__ = ["stored_keys"]


def stored_keys(converter: Converter, kind: Any) -> Mapping[str, str] | None:
    """Give the names of a class' fields by their keys in its JSON.

    A field stands under all the names that it may have where the hook that cattrs made doesn't say
    which of them it takes.

    Returns:
        None where only an application's own hook knows.
    """
    as_usual = is_written_as_usual(converter, kind)
    if is_struct(kind):
        return struct_keys(kind) if as_usual else None
    fields = _fields(kind)
    if fields is None:
        return None
    if as_usual:
        return {field.name: field.name for field in fields if field.init}
    overrides = _overrides(converter, kind)
    if overrides is None:
        return None
    return {key: field.name for field in fields for key in _keys(field, overrides)}


def _fields(kind: Any) -> "tuple[Any, ...] | None":
    if attrs.has(kind):
        return attrs.fields(kind)
    return dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else None


def _overrides(converter: Converter, kind: Any) -> Mapping[str, Any] | None:
    """Read what a hook that cattrs made was told of fields; None of any other hook."""
    try:
        hook = converter.get_unstructure_hook(kind)
    except Exception:  # noqa: BLE001  resolving annotations runs the application's code
        return None
    # What wraps one, and has its attributes, may do anything to the JSON.
    return None if hasattr(hook, "__wrapped__") else getattr(hook, "overrides", None)


def _keys(field: Any, overrides: Mapping[str, Any]) -> tuple[str, ...]:
    override = overrides.get(field.name)
    if override is not None and override.omit:
        return ()
    if override is not None and override.rename is not None:
        return (override.rename,)
    # Since version 26 cattrs notes an alias as a renaming; before it says nothing of it.
    return field.name, getattr(field, "alias", field.name)
