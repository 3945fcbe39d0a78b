"""Which aggregates are kept as documents, and how far such a document has come."""

import sys
from typing import Any, Final

import attrs

from flowstore.projections import (
    Aggregate,
    AggregateProjection,
    Lifecycle,
    Projections,
    members_of,
)

__all__ = ["KeptView", "kept_view"]

_ALL: Final = sys.maxsize
"""Above every version: 2**63 - 1, the largest bigint."""


@attrs.frozen
class KeptView:
    """Hold how an aggregate's documents relate to their streams.

    Attributes:
        shard: the name that what couldn't be folded is set aside under.
        rule: folds further events onto a document; None if it isn't folded from its stream.
        tells_its_place: whether a document's field `version` says what it was folded from; else it
            has everything.
    """

    shard: str
    rule: Aggregate[Any] | None
    tells_its_place: bool

    def place_of(self, document: Any) -> int:
        """Give the version that a document has come to; above all where it has everything."""
        return document.version if self.tells_its_place else _ALL


def kept_view(projections: Projections, aggregate: type) -> KeptView | None:
    """Find the projection that keeps one document of a class for each stream, ready to be loaded.

    Returns:
        None if there is none, or none whose documents, with the newer events folded onto them,
        are what folding the whole stream gives.
    """
    registration = projections.producing(aggregate)
    if registration is None or registration.lifecycle is Lifecycle.LIVE:
        return None
    keeping = next(
        each for each in members_of(registration.projection) if each.produces is aggregate
    )
    if not isinstance(keeping, AggregateProjection):
        return (
            KeptView(registration.shard, None, tells_its_place=False)
            if registration.lifecycle is Lifecycle.INLINE
            else None
        )
    tells = keeping.rule.keeps_version and not keeping.is_enriched
    if registration.lifecycle is Lifecycle.INLINE:
        return KeptView(registration.shard, keeping.rule, tells)
    begins = registration.projection.async_options.start_from
    if not tells or begins != "beginning":
        return None
    return KeptView(registration.shard, keeping.rule, tells)
