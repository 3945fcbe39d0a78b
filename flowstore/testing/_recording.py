"""A projection that remembers what it was handed."""

from collections.abc import Sequence

import attrs

from flowstore.events import Event, EventStream, in_sequence
from flowstore.projections import AsyncOptions, ProjectionSession

__all__ = ["RecordingProjection"]


@attrs.define(eq=False)
class RecordingProjection:
    """Record every delivery; an `IProjection` that writes nothing.

    A page that was rolled back comes again, as it does to every projection, and is recorded again:
    what is recorded is what was handed over, not what was committed.

    Attributes:
        name: the name that progress, status and dead letters go by.
        consumes: the exact event types to be handed over; empty means all of them.
        async_options: how it runs in the daemon.
        batches: the streams of each call, in the order of the calls.
    """

    name: str = "recording"
    consumes: tuple[type, ...] = ()
    async_options: AsyncOptions = attrs.field(factory=AsyncOptions)
    batches: list[tuple[EventStream, ...]] = attrs.field(
        factory=list[tuple[EventStream, ...]], init=False, repr=False
    )

    @property
    def produces(self) -> None:
        """No document type."""
        return

    @property
    def deliveries(self) -> list[Event]:
        """The events in the order they were handed over: by batch, in it by stream."""
        return [event for streams in self.batches for stream in streams for event in stream.events]

    @property
    def sequences(self) -> list[int]:
        """The events' sequences batch by batch, rising within each."""
        return [event.sequence for streams in self.batches for event in in_sequence(streams)]

    def apply(self, _session: ProjectionSession, streams: Sequence[EventStream]) -> None:
        """Remember the streams."""
        self.batches.append(tuple(streams))
