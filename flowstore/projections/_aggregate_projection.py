"""Keeping an aggregate's documents up to date with its streams."""

from collections.abc import Sequence
from typing import Any

import attrs

from flowstore.events import Compacted, EventStream
from flowstore.projections._aggregate import Aggregate, aggregate_rule
from flowstore.projections._options import AsyncOptions
from flowstore.projections._protocols import ProjectionSession
from flowstore.projections._shards import check_name, check_version

__all__ = ["AggregateProjection", "aggregate_projection"]


@attrs.frozen
class AggregateProjection:
    """Keep one document for each stream, folded from its events.

    Attributes:
        rule: how events are folded; the same for live aggregation.
        name: the name that progress, status and dead letters go by.
        version: of the rule; raising it gives documents and progress of their own.
        async_options: how it runs in the daemon.
    """

    rule: Aggregate[Any]
    name: str = attrs.field(validator=check_name)
    version: int = attrs.field(default=1, validator=check_version)
    async_options: AsyncOptions = attrs.field(factory=AsyncOptions)

    @property
    def consumes(self) -> tuple[type, ...]:
        """The event types that have a handler, and what stands for them in a compacted stream."""
        return (*self.rule.consumes, Compacted)

    @property
    def produces(self) -> type:
        """The aggregate's class."""
        return self.rule.document_type

    async def apply(self, session: ProjectionSession, streams: Sequence[EventStream]) -> None:
        """Queue every stream's next document; loads all of them in one round trip."""
        concerned = [stream for stream in streams if self.rule.concerns(stream)]
        if not concerned:
            return
        loaded = await session.load_many(
            self.rule.document_type, [stream.id for stream in concerned]
        )
        before = {document.id: document for document in loaded}
        for stream in concerned:
            self._apply_one(session, before.get(stream.id), stream)

    def _apply_one(self, session: ProjectionSession, before: Any, stream: EventStream) -> None:
        after = self.rule.fold(before, stream)
        if after is not None:
            session.store(after)
        elif before is not None:
            session.delete_by_id(self.rule.document_type, stream.id)


def aggregate_projection(
    aggregate: type,
    *,
    name: str | None = None,
    version: int = 1,
    async_options: AsyncOptions | None = None,
) -> AggregateProjection:
    """Make the projection that folds every stream into a document of a class.

    Args:
        aggregate: the class, with handlers by convention; see `aggregate_rule`.
        name: the projection's name; None takes the class' name.
        version: of the rule, from 1.
        async_options: how it runs in the daemon; None takes the defaults.

    Raises:
        RegistrationError: the class can't be folded, or name or version can't be kept.
    """
    return AggregateProjection(
        aggregate_rule(aggregate),
        aggregate.__name__ if name is None else name,
        version,
        AsyncOptions() if async_options is None else async_options,
    )
