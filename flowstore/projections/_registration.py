"""One registered projection, what it answers to, and what keeps it apart from others."""

from typing import Any

import attrs

from flowstore.errors import RegistrationError
from flowstore.projections._composite import members_of, produced_by
from flowstore.projections._options import Lifecycle
from flowstore.projections._process import EventProcess
from flowstore.projections._protocols import IProjection
from flowstore.projections._subscription import Subscription
from flowstore.projections._transform import TransformProjection

__all__ = ["Registration", "answers_to", "check_apart"]


@attrs.frozen
class Registration:
    """Hold one registered projection.

    Attributes:
        projection: the projection.
        lifecycle: when its documents follow the events.
        shard: the name that its progress is kept under; differs from version to version.
        document_key: the name that its documents are kept under; None if it produces none.
    """

    projection: IProjection
    lifecycle: Lifecycle
    shard: str
    document_key: str | None


def answers_to(item: Registration, asked: Any) -> bool:
    """Tell whether a projection is what somebody asks for: by name, class or document type."""
    if isinstance(asked, str):
        return asked in _names(item)
    if asked is None:
        return False
    workers = members_of(item.projection)
    keys: list[Any] = [item.projection, type(item.projection), *workers]
    for worker in workers:
        keys += (worker.produces, type(worker))
        if isinstance(worker, (EventProcess, Subscription, TransformProjection)):
            keys.append(worker.source)
    return any(asked is key for key in keys)


def _names(item: Registration) -> set[str]:
    """List the names that a projection goes by; a composite by those of its members too."""
    members = {member.name for member in members_of(item.projection)}
    return {item.projection.name, item.shard, *members}


def _what(projection: IProjection) -> str:
    produces = projection.produces
    made = "" if produces is None else f" that makes {produces.__module__}.{produces.__qualname__}"
    return f"{type(projection).__name__}{made}"


def check_apart(new: Registration, other: Registration) -> None:
    """Refuse a projection that shares a name or a document type with another.

    Raises:
        RegistrationError: the message names both.
    """
    shared = _names(new) & _names(other)
    if shared:
        raise RegistrationError(
            f"a projection named {min(shared)!r} is registered already, {_what(other.projection)}:"
            f" give the other, {_what(new.projection)}, another name"
        )
    for produces in produced_by(new.projection).keys() & produced_by(other.projection).keys():
        raise RegistrationError(
            f"{produces.__qualname__} is produced by {other.projection.name!r} already, and a"
            f" rebuild of either would delete the documents of both: let {new.projection.name!r}"
            " produce a class of its own"
        )
