"""What may be checked: projections, and what stands for one."""

import copy
import inspect
from collections.abc import Callable
from typing import Any, TypeAlias, cast

from flowstore.projections import (
    Aggregate,
    AggregateProjection,
    IProjection,
    aggregate_projection,
    transform_projection,
)

__all__ = ["MakeProjection", "as_projection", "maker_of"]

MakeProjection: TypeAlias = Callable[[], IProjection]
"""Gives a projection that no other process has, with nothing in its memory."""


def as_projection(subject: Any) -> IProjection:
    """Give the projection that is meant: itself, or the one that a class or rule makes.

    Raises:
        RegistrationError: the class can't be folded.
        TypeError: it is nothing of these.
    """
    if isinstance(subject, Aggregate):
        rule = cast("Aggregate[Any]", subject)
        return AggregateProjection(rule, rule.document_type.__name__)
    if isinstance(subject, type):
        return aggregate_projection(cast("type[Any]", subject))
    if isinstance(subject, IProjection):
        return subject
    message = f"{subject!r} is no projection: give an IProjection, or an aggregate's class"
    raise TypeError(message)


def maker_of(subject: Any) -> MakeProjection:
    """Say how each process comes by a projection of its own.

    Args:
        subject: a projection, which is copied before anybody uses it; a class of projections, or
            a function without parameters, which is called; a function that turns an event into
            a document; an aggregate's class or rule.

    Raises:
        RegistrationError: a class can't be folded, or a function has no annotations.
        TypeError: it is nothing of these, or can't be copied.
    """
    if isinstance(subject, type):
        return _maker_of_class(cast("type[Any]", subject))
    if callable(subject) and not isinstance(subject, (Aggregate, IProjection)):
        return _maker_of_function(cast("Callable[..., Any]", subject))
    pristine = _copied(as_projection(subject))
    return lambda: _copied(pristine)


def _maker_of_class(kind: type[Any]) -> MakeProjection:
    if hasattr(kind, "consumes"):
        return kind
    if any(name.startswith("transform") for name in dir(kind)):
        return lambda: transform_projection(kind)
    return lambda: aggregate_projection(kind)


def _maker_of_function(function: Callable[..., Any]) -> MakeProjection:
    if inspect.signature(function).parameters:
        return lambda: transform_projection(function)
    return lambda: as_projection(function())


def _copied(projection: IProjection) -> IProjection:
    """Copy a projection, so that no two processes share what it keeps in memory."""
    try:
        return copy.deepcopy(projection)
    except Exception as error:
        raise TypeError(
            f"projection {projection.name!r} can't be copied for each process that runs it"
            f" ({type(error).__name__}: {error}): give its class, or a function that makes one"
        ) from error
