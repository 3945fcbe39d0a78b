"""Keeping an aggregate's documents up to date with its streams."""

from collections.abc import Callable, Sequence
from typing import Any

import attrs

from flowstore.errors import RegistrationError
from flowstore.events import (
    Compacted,
    Event,
    EventStream,
    group_by_stream_id,
    in_sequence,
    plain_key,
)
from flowstore.projections._aggregate import Aggregate, aggregate_rule, check_class
from flowstore.projections._enriching import Enrich, enriched, expect_enrich
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
    _enrich: Enrich | None = attrs.field(default=None, repr=False, alias="enrich")

    def __reduce__(self) -> tuple[Any, ...]:
        # The rule is made of the class' functions, which are found again by the class.
        mine = (self.name, self.version, self._enrich, self.async_options)
        return _made_again, (self.rule.document_type, *mine)

    @property
    def is_enriched(self) -> bool:
        """Whether handlers see events that were changed for them, which no live fold does."""
        return self._enrich is not None

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
        if self._enrich is not None:
            streams = await self._enriched(session, self._enrich, streams)
        concerned = [stream for stream in streams if self.rule.concerns(stream)]
        if not concerned:
            return
        loaded = await session.load_many(
            self.rule.document_type, [stream.id for stream in concerned]
        )
        before = {plain_key(document.id): document for document in loaded}
        for stream in concerned:
            self._apply_one(session, before.get(plain_key(stream.id)), stream)

    async def _enriched(
        self, session: ProjectionSession, enrich: Enrich, streams: Sequence[EventStream]
    ) -> Sequence[EventStream]:
        events = in_sequence(streams)
        changed = await enriched(enrich, session, events, self.name)
        # A fold follows a stream from version to version: what moved would be folded elsewhere,
        # and what was left out would leave no trace.
        if list(map(_place, changed)) != list(map(_place, events)):
            raise RegistrationError(
                f"enrich of {self.name!r} returned other events than it got: an aggregate of one"
                " stream is folded from all of them, so change their data by attrs.evolve alone"
            )
        return group_by_stream_id(changed)

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
    enrich: Callable[[ProjectionSession, list[Event]], Any] | None = None,
    async_options: AsyncOptions | None = None,
) -> AggregateProjection:
    """Make the projection that folds every stream into a document of a class.

    Args:
        aggregate: the class, with handlers by convention; see `aggregate_rule`.
        name: the projection's name; None takes the class' name.
        version: of the rule, from 1.
        enrich: a function of session and events, plain or async, called once a batch before
            anything is folded; may return the same events with changed data. Live folds don't
            call it.
        async_options: how it runs in the daemon; None takes the defaults.

    Raises:
        RegistrationError: the class can't be folded, name or version can't be kept, or `enrich`
            isn't such a function.
    """
    check_class(aggregate)
    expect_enrich(enrich, aggregate.__qualname__)
    return AggregateProjection(
        aggregate_rule(aggregate),
        aggregate.__name__ if name is None else name,
        version,
        AsyncOptions() if async_options is None else async_options,
        enrich,
    )


def _made_again(
    aggregate: type, name: str, version: int, enrich: Enrich | None, async_options: AsyncOptions
) -> AggregateProjection:
    return aggregate_projection(
        aggregate, name=name, version=version, enrich=enrich, async_options=async_options
    )


def _place(event: Event) -> tuple[Any, ...]:
    return (event.sequence, event.tenant_id, event.stream_id, event.version)
