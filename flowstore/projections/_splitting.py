"""Which projections can be rebuilt by several processes at once, each with streams of its own."""

from flowstore.projections._aggregate_projection import AggregateProjection
from flowstore.projections._composite import Composite, members_of
from flowstore.projections._protocols import IProjection

__all__ = ["why_not_split"]


def why_not_split(projection: IProjection) -> str | None:
    """Say why a projection's streams can't be shared out; None if they can.

    They can where each document is made of one stream and nothing else is looked at: then whoever
    has the stream is the only one who reads or writes the document.
    """
    for member in members_of(projection):
        of = f"its member {member.name!r}" if isinstance(projection, Composite) else "it"
        if type(member) is not AggregateProjection:
            return f"{of} is of kind {type(member).__name__}, no aggregate of one stream"
        if member.is_enriched:
            return f"{of} has enrich=, which may look at documents of other streams"
    return None
