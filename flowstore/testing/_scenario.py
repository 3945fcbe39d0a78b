"""Given events, then documents."""

from collections.abc import Iterator
from itertools import chain
from typing import Any, Final, Self
from uuid import UUID

import attrs
from cattrs import Converter

from flowstore.events import Event, NewEvent, StreamId
from flowstore.projections import IProjection
from flowstore.testing._broken_law import BrokenLawError
from flowstore.testing._differences import Side, first_difference
from flowstore.testing._memory import Memory
from flowstore.testing._placing import place
from flowstore.testing._subjects import as_projection

__all__ = ["ProjectionScenario"]

_STREAM: Final = UUID(int=1)


@attrs.frozen
class ProjectionScenario:
    """Say what documents a projection makes of some events, without a database.

    Every verb but `then` gives a new scenario, so that several may share a beginning:

        ProjectionScenario(Issue, stream_id="a").given(Opened("x")).then(Issue("a", "x"))

    Attributes:
        projection: an `IProjection`, or the class of an aggregate, which stands for one.
        stream_id: the stream that events belong to where none is said.
        converter: what classes mean as JSON, as `options.events.converter`; None takes the default.
    """

    projection: IProjection = attrs.field(converter=as_projection)
    stream_id: StreamId = attrs.field(default=_STREAM, kw_only=True)
    converter: Converter | None = attrs.field(default=None, kw_only=True, repr=False)
    _pages: tuple[tuple[tuple[StreamId, Any], ...], ...] = attrs.field(
        default=(), kw_only=True, alias="pages", repr=False
    )

    def given(self, *events: Any, stream_id: StreamId | None = None) -> Self:
        """Add events of one stream, in a page of their own.

        Args:
            *events: the application's own values; or `NewEvent`s, which bring headers and time.
            stream_id: their stream; None takes the scenario's.
        """
        stream = self.stream_id if stream_id is None else stream_id
        page = tuple((stream, event) for event in events)
        return attrs.evolve(self, pages=(*self._pages, page))

    def when(self, *events: Any, stream_id: StreamId | None = None) -> Self:
        """Add the events that the scenario is about; the same as `given`, which reads otherwise."""
        return self.given(*events, stream_id=stream_id)

    def documents(self) -> list[Any]:
        """Give the documents that come of the events.

        Raises:
            NotInMemoryError: the projection needs a database.
        """
        return self._played().documents()

    def then(self, *documents: Any) -> None:
        """Check that these documents, and no others, come of the events.

        Args:
            *documents: all of them, in any order; nothing, or None, where there are to be none.

        Raises:
            BrokenLawError: they differ; names the first document and its fields.
            NotInMemoryError: the projection needs a database.
        """
        expected = Memory(self.converter)
        for document in documents:
            if document is not None:
                expected.write(expected.key_of(None, document), document)
        left = Side("expected", expected.values())
        found = first_difference(left, Side("found", self._played().values()))
        if found is not None:
            raise BrokenLawError("agreement", found[1], key=found[0])

    def _played(self) -> Memory:
        memory = Memory(self.converter)
        for page in self._recorded():
            memory.apply(self.projection, page)
        return memory

    def _recorded(self) -> Iterator[list[Event]]:
        facts = list(chain.from_iterable(self._pages))
        placed = place((stream, _data(fact), 1) for stream, fact in facts)
        events = iter(
            _with_marks(event, fact) for event, (_, fact) in zip(placed, facts, strict=True)
        )
        for page in self._pages:
            yield [next(events) for _ in page]


def _data(fact: Any) -> Any:
    return fact.data if isinstance(fact, NewEvent) else fact


def _with_marks(event: Event, fact: Any) -> Event:
    """Add to the event what a `NewEvent` says about it."""
    if not isinstance(fact, NewEvent):
        return event
    return attrs.evolve(
        event,
        id=fact.id or event.id,
        timestamp=fact.timestamp or event.timestamp,
        headers=fact.headers,
        correlation_id=fact.correlation_id,
        causation_id=fact.causation_id,
    )
