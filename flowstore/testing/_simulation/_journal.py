"""Documents that hold what was applied: what the laws are held against."""

from collections.abc import Callable, Sequence
from typing import Any, Final
from uuid import UUID

import attrs

from flowstore.events import Event, EventStream
from flowstore.projections import AsyncOptions, ProjectionSession
from flowstore.store import StoreOptions

__all__ = ["JOURNAL", "Journal", "JournalProjection", "Ledger", "add_journal"]

JOURNAL: Final = "journal"


@attrs.define
class Journal:
    """Hold the sequences of all events that were applied, in the order they were.

    Attributes:
        id: the projection's name; there is one.
        sequences: of the events.
    """

    id: str
    sequences: list[int] = attrs.field(factory=list[int])


@attrs.define
class Ledger:
    """Be folded from a stream, and hold which of its events were applied, in the order they were.

    Attributes:
        id: the stream's identity.
        versions: of the events.
    """

    id: UUID
    versions: list[int] = attrs.field(factory=list[int])


def _takes(_event: Event, _session: ProjectionSession) -> None:
    """Take every event."""


@attrs.define(eq=False)
class JournalProjection:
    """Write every event down, in one document.

    Attributes:
        judge: raises for an event that can't be applied.
        name: the projection's.
        consumes: the exact event types to be handed over; empty means all of them.
        produces: the class of its document.
        async_options: how it runs in the daemon.
    """

    judge: Callable[[Event, ProjectionSession], Any] = _takes
    name: str = JOURNAL
    consumes: tuple[type, ...] = ()
    produces: type[Journal] = Journal
    async_options: AsyncOptions = attrs.field(
        factory=lambda: AsyncOptions(page_size=5, on_rebuild_error="dead_letter")
    )

    async def apply(self, session: ProjectionSession, streams: Sequence[EventStream]) -> None:
        """Add the streams' events, as they come."""
        journal = await session.load(self.produces, self.name) or self.produces(self.name)
        for stream in streams:
            for event in stream.events:
                judged = self.judge(event, session)
                if judged is not None:
                    await judged
                journal.sequences.append(event.sequence)
        session.store(journal)


def add_journal(options: StoreOptions) -> None:
    """Register a journal of all events, unless there is one."""
    if JOURNAL not in options.projections.names():
        options.projections.add(JournalProjection())
