"""What makes an object a projection: found out when it is registered."""

from collections.abc import Collection
from typing import Any, Final, cast

from flowstore.errors import RegistrationError
from flowstore.projections._aggregate_projection import AggregateProjection
from flowstore.projections._flat_table import FlatTable
from flowstore.projections._options import AsyncOptions, Lifecycle
from flowstore.projections._process import EventProcess
from flowstore.projections._protocols import IProjection
from flowstore.projections._shards import check_name, check_version
from flowstore.projections._subscription import Subscription

__all__ = ["check_lifecycle", "check_members", "check_options"]

_MEMBERS: Final = ("name", "consumes", "produces", "async_options", "apply")


def check_lifecycle(projection: IProjection, lifecycle: Any) -> None:
    """Refuse a lifecycle that a projection can't have.

    Raises:
        RegistrationError: it is none, is live and the projection no aggregate, or is inline and
            the projection a subscription or a process.
    """
    if not isinstance(lifecycle, Lifecycle):
        raise RegistrationError(
            f"{lifecycle!r} is no lifecycle of {projection.name!r}: it is one of Lifecycle"
        )
    if lifecycle is Lifecycle.LIVE:
        _check_live(projection)
    if lifecycle is Lifecycle.INLINE and isinstance(projection, (EventProcess, Subscription)):
        kind = "process" if isinstance(projection, EventProcess) else "subscription"
        raise RegistrationError(
            f"{projection.name!r} can't be inline: a {kind} follows all events in the order of"
            " their sequence, which is settled only when their transactions are over"
        )


def check_options(projection: IProjection) -> None:
    """Refuse what isn't a projection's options.

    Raises:
        RegistrationError: the message names the projection.
    """
    options: Any = projection.async_options
    if not isinstance(options, AsyncOptions):
        raise RegistrationError(
            f"async_options of {projection.name!r} is {options!r}: it is an AsyncOptions"
        )


def _check_live(projection: IProjection) -> None:
    if not isinstance(projection, AggregateProjection):
        raise RegistrationError(
            f"{projection.name!r} can't be live: only an aggregate is folded when it is asked for"
        )
    if projection.is_enriched:
        raise RegistrationError(
            f"{projection.name!r} can't be live with enrich=: a live fold sees the events as they"
            " are stored; leave enrich out, or keep the aggregate inline or in the daemon"
        )


def check_members(projection: Any) -> None:
    """Refuse what hasn't the members of `IProjection`, or has them wrong.

    Raises:
        RegistrationError: the message names the member.
    """
    kind = projection.__name__ if isinstance(projection, type) else type(projection).__name__
    if isinstance(projection, type):
        raise RegistrationError(f"{kind} is a class: register an instance of it")
    missing = [member for member in _MEMBERS if not hasattr(projection, member)]
    if missing:
        raise RegistrationError(
            f"{kind} is no projection: it has no {', '.join(missing)}; IProjection says what they"
            " mean"
        )
    check_name(None, None, projection.name)
    check_version(None, None, getattr(projection, "version", 1))
    _check_types(kind, projection)
    if isinstance(projection, FlatTable):
        projection.check()


def _check_types(kind: str, projection: Any) -> None:
    consumes, produces = projection.consumes, projection.produces
    if not isinstance(consumes, Collection) or isinstance(consumes, str):
        raise RegistrationError(f"{kind}.consumes is {consumes!r}: it is a tuple of event types")
    for event_type in cast("Collection[Any]", consumes):
        if not isinstance(event_type, type):
            raise RegistrationError(f"{kind}.consumes holds {event_type!r}, which isn't a class")
    if produces is not None and not isinstance(produces, type):
        raise RegistrationError(f"{kind}.produces is {produces!r}: it is a document type or None")
    if not callable(projection.apply):
        raise RegistrationError(f"{kind}.apply is {projection.apply!r}: it is a method")
