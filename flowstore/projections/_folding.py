"""Which projections only fold: pages of theirs may be committed together."""

from flowstore.projections._across_streams import AcrossStreamsProjection
from flowstore.projections._aggregate_projection import AggregateProjection
from flowstore.projections._composite import members_of
from flowstore.projections._protocols import IProjection
from flowstore.projections._transform import TransformProjection

__all__ = ["only_folds"]


def only_folds(projection: IProjection) -> bool:
    """Tell whether a projection reads and writes nothing but its own documents, by their ids.

    So do aggregates and transforms that ask nothing of the session. Anything else might see what a
    page before has written, by a query or a statement of its own.
    """
    return all(map(_folds, members_of(projection)))


def _folds(member: IProjection) -> bool:
    if type(member) is AggregateProjection:
        return not member.is_enriched
    if type(member) is AcrossStreamsProjection:
        return not member.asks
    return type(member) is TransformProjection
