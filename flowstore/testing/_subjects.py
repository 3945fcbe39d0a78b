"""What may be checked: projections, and the aggregates that stand for one."""

from typing import Any, cast

from flowstore.projections import (
    Aggregate,
    AggregateProjection,
    IProjection,
    aggregate_projection,
)

__all__ = ["as_projection"]


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
