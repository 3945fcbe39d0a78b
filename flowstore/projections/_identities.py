"""Whether an aggregate's `id` can hold the identity of its stream."""

from typing import Any, get_type_hints
from uuid import UUID

from flowstore.errors import RegistrationError
from flowstore.projections._aggregate_projection import AggregateProjection

__all__ = ["check_identity"]


def check_identity(projection: AggregateProjection, stream_identity: type) -> None:
    """Refuse an aggregate of one stream whose `id` is of another type than the streams'.

    Args:
        projection: its documents have the identities of their streams.
        stream_identity: what the store's streams are known by: UUID or str.

    Raises:
        RegistrationError: the message names class and field, what is expected and the way out.
    """
    aggregate = projection.rule.document_type
    annotation = _annotation(aggregate)
    kind = getattr(annotation, "__supertype__", annotation)
    # What is no identity at all is for the documents' catalogue to refuse, where all are.
    if not isinstance(kind, type) or not issubclass(kind, (UUID, str, int)):
        return
    if not issubclass(kind, stream_identity):
        name, expected = aggregate.__qualname__, stream_identity.__name__
        said = "string" if stream_identity is str else "uuid"
        other = "uuid" if stream_identity is str else "string"
        raise RegistrationError(
            f"{name}.id is annotated {kind.__name__}, and projection {projection.name!r} keeps one"
            f" {name} for each stream, which this store knows by {expected}"
            f" (stream_identity={said!r}): annotate id with {expected}, open the store with"
            f" stream_identity={other!r}, or group by a key with aggregate_across_streams"
        )


def _annotation(aggregate: type) -> Any:
    try:
        return get_type_hints(aggregate).get("id")
    except (NameError, TypeError):
        return None  # told by the catalogue, with the cause
