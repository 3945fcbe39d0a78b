"""What may be done to an aggregate of any class: make it, and set a field of it."""

import dataclasses
import inspect
from typing import Any, TypeVar

import attrs
from attrs.exceptions import FrozenError

__all__ = ["field_names", "missing_to_begin", "with_field"]

_T = TypeVar("_T")


def field_names(kind: type) -> frozenset[str]:
    """List the fields of a class: as attrs or dataclasses know them, else the annotated ones."""
    known = _declared(kind)
    if known is not None:
        return known
    annotated = {name for base in kind.__mro__ for name in inspect.get_annotations(base)}
    return frozenset(annotated | _parameters(kind).keys())


def missing_to_begin(kind: type) -> tuple[str, ...] | None:
    """List what `kind(id=...)` would lack.

    Returns:
        The parameters that have no default; None if `id` can't be given at all.
    """
    parameters = _parameters(kind)
    takes_any = any(item.kind is item.VAR_KEYWORD for item in parameters.values())
    given = parameters.get("id")
    if not takes_any and (given is None or given.kind is given.POSITIONAL_ONLY):
        return None
    optional = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return tuple(
        name
        for name, item in parameters.items()
        if name != "id" and item.default is item.empty and item.kind not in optional
    )


def with_field(state: _T, name: str, value: Any) -> _T:
    """Set a field; of a frozen state, make a copy that has it."""
    try:
        setattr(state, name, value)
    except (FrozenError, dataclasses.FrozenInstanceError):
        return _copy_with(state, name, value)
    except AttributeError:
        if not _struct_fields(state):
            raise
        return _copy_with(state, name, value)
    return state


def _declared(kind: Any) -> frozenset[str] | None:
    if attrs.has(kind):
        return frozenset(field.name for field in attrs.fields(kind))
    if dataclasses.is_dataclass(kind):
        return frozenset(field.name for field in dataclasses.fields(kind))
    return None


def _copy_with(state: Any, name: str, value: Any) -> Any:
    if attrs.has(state.__class__):
        return attrs.evolve(state, **{name: value})
    if fields := _struct_fields(state):
        return type(state)(**{field: getattr(state, field) for field in fields} | {name: value})
    return dataclasses.replace(state, **{name: value})


def _struct_fields(state: Any) -> tuple[str, ...]:
    """List the fields of a `msgspec.Struct`, without msgspec, which need not be there."""
    return getattr(state, "__struct_fields__", ())


def _parameters(kind: type) -> dict[str, inspect.Parameter]:
    try:
        return dict(inspect.signature(kind).parameters)
    except ValueError:  # one of Python's own, such as int
        return {}
