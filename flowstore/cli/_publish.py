"""Publishes histories into the store, each event once, also over several runs."""

from collections.abc import Iterable, Sequence
from uuid import UUID

import attrs

from flowstore import Store
from flowstore.cli._history import Part
from flowstore.cli._projects import ActiveProject, ProjectEvent, fold
from flowstore.errors import ConcurrencyError, StreamCollisionError

__all__ = ["Published", "Publisher"]


@attrs.define
class Published:
    """Counts what all publishers have done so far.

    Attributes:
        found: events that an earlier run had published.
        appended: events that this run has published.
        last_sequence: the highest place in the store that an event of this run was given.
        in_hand: events of commits that nobody knows of yet whether they took effect.
        projects: what the histories fold to in plain Python, by stream.
    """

    found: int = 0
    appended: int = 0
    last_sequence: int = 0
    in_hand: int = 0
    projects: dict[UUID, ActiveProject] = attrs.Factory(dict[UUID, ActiveProject])

    @property
    def events(self) -> int:
        """All events that have been read and are in the store."""
        return self.found + self.appended

    def kept(self) -> str:
        """Tell what is in the store of a run that was stopped."""
        if not self.events and not self.in_hand:
            return "nothing had been published"
        perhaps = f", {self.in_hand:,} more may be" if self.in_hand else ""
        there = f"{self.events:,} events are in the store{perhaps}"
        return f"{there}, and the same command goes on from there"


class Publisher:
    """Appends the parts of one history to its streams, where they stand.

    A stream's version tells how many of its events are in the store already: so many are passed
    over, and the rest is appended under that version. Thus a run that was killed goes on behind
    its last commit, and of two runs at once each event is appended by one.
    """

    def __init__(self, store: Store, published: Published) -> None:
        self._store = store
        self._published = published
        self._versions: dict[UUID, int] = {}
        self._read: dict[UUID, int] = {}

    async def receive(self, part: Part) -> None:
        """Publish one part in one transaction; returns when it is committed."""
        streams = _by_stream(part)
        await self._learn_versions(streams)
        while not await self._append(streams):
            # Another run was faster: look again where the streams are.
            for stream_id in streams:
                del self._versions[stream_id]
            await self._learn_versions(streams)
        for stream_id, events in streams.items():
            self._read[stream_id] = self._read.get(stream_id, 0) + len(events)
            project = self._published.projects.setdefault(stream_id, ActiveProject(stream_id))
            for event in events:
                fold(project, event)

    async def _learn_versions(self, streams: Iterable[UUID]) -> None:
        """Ask the store how far the streams are that aren't known yet."""
        async with self._store.session() as session:
            for stream_id in streams:
                if stream_id not in self._versions:
                    state = await session.events.fetch_stream_state(stream_id)
                    self._versions[stream_id] = state.version if state else 0

    async def _append(self, streams: dict[UUID, list[ProjectEvent]]) -> bool:
        """Append what isn't there yet; False, with nothing appended, if a stream has moved."""
        fresh = {stream_id: self._fresh(stream_id, events) for stream_id, events in streams.items()}
        async with self._store.session() as session:
            actions = [
                session.events.append(
                    stream_id, *events, expected_version=self._versions[stream_id]
                )
                for stream_id, events in fresh.items()
                if events
            ]
            appended = sum(map(len, fresh.values()))
            self._published.in_hand += appended
            try:
                await session.save_changes()
            except (ConcurrencyError, StreamCollisionError):
                self._published.in_hand -= appended
                return False
        self._published.in_hand -= appended
        self._published.appended += appended
        self._published.found += sum(map(len, streams.values())) - appended
        for stream_id, events in fresh.items():
            self._versions[stream_id] += len(events)
        last = max((action.events[-1].sequence for action in actions), default=0)
        self._published.last_sequence = max(self._published.last_sequence, last)
        return True

    def _fresh(self, stream_id: UUID, events: Sequence[ProjectEvent]) -> Sequence[ProjectEvent]:
        """Leave out the events that the stream holds already."""
        return events[max(0, self._versions[stream_id] - self._read.get(stream_id, 0)) :]


def _by_stream(part: Part) -> dict[UUID, list[ProjectEvent]]:
    """Gather the events of a part by stream, keeping their order within each."""
    streams: dict[UUID, list[ProjectEvent]] = {}
    for stream_id, event in part:
        streams.setdefault(stream_id, []).append(event)
    return streams
