"""What a projection's documents have to be at each place, and the story of where they aren't."""

from bisect import bisect_right
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import cast

import attrs
import trio

from flowstore.events import Event
from flowstore.testing._broken_law import BrokenLawError
from flowstore.testing._document_laws import (
    ALONE,
    check_effects,
    check_rebuild_equals_replay,
    check_ways_agree,
)
from flowstore.testing._memory import DocumentKey
from flowstore.testing._placing import told
from flowstore.testing._witness import Commit, Documents, WitnessedDatabase

__all__ = ["Judge", "Reference"]


@attrs.define
class Reference:
    """Hold what comes of events that are applied one at a time, and nothing happens to.

    Attributes:
        name: the projection's.
        is_by_stream: whether a document comes of the events of its stream and no others.
        events: those that were committed, in sequence order.
    """

    name: str
    is_by_stream: bool
    events: tuple[Event, ...] = ()
    _places: list[int] = attrs.field(factory=lambda: [0], init=False)
    _documents: list[Documents] = attrs.field(factory=lambda: [Documents()], init=False)

    @property
    def end(self) -> int:
        """The last event's sequence; 0 if there is none."""
        return self.events[-1].sequence if self.events else 0

    @property
    def is_empty(self) -> bool:
        """Whether nothing was ever written."""
        return not any(self._documents)

    def note(self, progress: int, documents: Documents) -> None:
        """Say what the documents are from a place on."""
        if progress > self._places[-1]:
            self._places.append(progress)
            self._documents.append(documents)

    def at(self, progress: int) -> Documents:
        """Give what the documents are if all events up to a place are applied, and no others."""
        return self._documents[bisect_right(self._places, progress) - 1]

    def check_effects(
        self, found: Documents, progress: int, way: str, log: Sequence[Commit | str] = ()
    ) -> None:
        """Hold all documents against what they have to be at a place.

        Args:
            found: all documents.
            progress: the place.
            way: how they came to be.
            log: what happened before, if that is worth telling.

        Raises:
            BrokenLawError: some document differs.
        """
        with self._telling(progress, log):
            check_effects(found, self.at(progress), progress=progress, way=way)

    def check_way(self, found: Documents, progress: int, way: str) -> None:
        """Hold what another way of running gives at a place against what it has to be there.

        Raises:
            BrokenLawError: some document differs.
        """
        with self._telling(progress, ()):
            check_ways_agree({ALONE: self.at(progress), way: found})

    def check_rebuilt(self, found: Documents, log: Sequence[Commit | str]) -> None:
        """Hold what a rebuild gives against the events applied from the beginning.

        Raises:
            BrokenLawError: some document differs.
        """
        with self._telling(self.end, log):
            check_rebuild_equals_replay(found, self.at(self.end))

    def check_unaltered(self, database: WitnessedDatabase) -> None:
        """Hold what was handed over, as far as that wasn't done before, against what it was.

        Raises:
            BrokenLawError: an event's data was changed in place.
        """
        altered = database.altered()
        if altered is not None:
            raise BrokenLawError(
                "agreement",
                f"projection {self.name!r} changes an event's data, and other shards are handed the"
                " same object, as it is itself where it tries again: change a copy\n"
                f"  {told(altered.event)}\n  was stored as {altered.stored}",
            )

    @contextmanager
    def _telling(self, progress: int, log: Sequence[Commit | str]) -> Generator[None]:
        """Add to a story whose it is, and what happened."""
        try:
            yield
        except BrokenLawError as broken:
            events = self._concerned(cast("DocumentKey", broken.key), progress)
            lines = _in_commits(events, log) if log else (told(event) for event in events)
            head = f"projection {self.name!r}: {broken}"
            story = "\n  ".join([head, *lines])
            raise BrokenLawError(broken.law, story, key=broken.key) from None

    def _concerned(self, key: DocumentKey, progress: int) -> list[Event]:
        """List the events that the document may come of."""
        tenant, _, identity = key
        events = [
            event
            for event in self.events
            if event.tenant_id == tenant and event.sequence <= progress
        ]
        own = [event for event in events if event.stream_id == identity]
        return own if self.is_by_stream else events


class Judge:
    """Hold every commit of a shard against what has to be there.

    Args:
        reference: what has to be there.
        database: whose commits.
        label: who commits.

    Attributes:
        scope: is cancelled when the first commit is wrong.
    """

    def __init__(self, reference: Reference, database: WitnessedDatabase, label: str) -> None:
        self.scope = trio.CancelScope()
        self._reference, self._database, self._label = reference, database, label
        self._broken: BrokenLawError | None = None
        self._rebuilds = False
        database.looked_at = self._look

    def begin_rebuild(self) -> None:
        """Begin a rebuild, for which what happened before is of no interest."""
        self._look(self._reference.end)
        if self._broken is None:
            self._rebuilds, self._label = True, "in a rebuild"
            self._database.log.clear()

    def blame(self, what: str) -> None:
        """Say what else is wrong; a commit that was wrong before counts for more."""
        head = f"projection {self._reference.name!r}: {what}"
        if self._broken is None:
            lines = _in_commits(self._reference.events, self._database.log)
            self._broken = BrokenLawError("no skip", "\n  ".join([head, *lines]))

    def settle(self) -> None:
        """Look at the end.

        Raises:
            BrokenLawError: something was wrong.
        """
        self._look(self._reference.end)
        if self._broken is not None:
            raise self._broken
        if self._rebuilds:
            self._reference.check_rebuilt(self._database.documents(), self._database.log)
        self._reference.check_unaltered(self._database)

    def _look(self, progress: int) -> None:
        if self._broken is not None:
            return
        found, log = self._database.documents(), self._database.log
        try:
            self._reference.check_effects(found, progress, self._label, log)
        except BrokenLawError as broken:
            self._broken = broken
            self.scope.cancel()


def _in_commits(events: Sequence[Event], log: Sequence[Commit | str]) -> Iterator[str]:
    """Tell what happened, and under each commit its events."""
    for entry in log:
        if isinstance(entry, str):
            yield entry
            continue
        yield f"progress goes from {entry.floor} to {entry.ceiling}"
        for event in events:
            if entry.floor < event.sequence <= entry.ceiling:
                yield f"  {told(event)}"
