"""What a projection's documents have to be at each place, and the story of where they aren't."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence

import attrs
import trio

from flowstore.events import Event
from flowstore.testing._differences import Side, first_difference
from flowstore.testing._memory import DocumentKey
from flowstore.testing._placing import told
from flowstore.testing._witness import Commit, Documents, WitnessedDatabase

__all__ = ["Judge", "Reference"]

_ALONE = "one at a time"


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

    def compare(
        self, found: Documents, progress: int, label: str, log: Sequence[Commit | str] = ()
    ) -> str | None:
        """Tell of the first document that isn't what it has to be at a place.

        Args:
            found: all documents.
            progress: the place.
            label: how they came to be.
            log: what happened before, if that is worth telling.

        Returns:
            The story; None if there is none to tell.
        """
        difference = first_difference(Side(_ALONE, self.at(progress)), Side(label, found))
        if difference is None:
            return None
        key, line = difference
        head = f"projection {self.name!r}: up to sequence {progress} the documents differ"
        events = self._concerned(key, progress)
        lines = _in_commits(events, log) if log else (told(event) for event in events)
        return "\n  ".join([head, line, *lines])

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
        self._story: str | None = None
        database.looked_at = self._look

    def begin(self, label: str) -> None:
        """Begin something else, after which what happened before is of no interest."""
        self._look(self._reference.end)
        if self._story is None:
            self._label = label
            self._database.log.clear()

    def blame(self, what: str) -> None:
        """Say what else is wrong; a commit that was wrong before counts for more."""
        head = f"projection {self._reference.name!r}: {what}"
        if self._story is None:
            lines = _in_commits(self._reference.events, self._database.log)
            self._story = "\n  ".join([head, *lines])

    def settle(self) -> None:
        """Look at the end.

        Raises:
            AssertionError: something was wrong.
        """
        self._look(self._reference.end)
        if self._story is not None:
            raise AssertionError(self._story)

    def _look(self, progress: int) -> None:
        if self._story is not None:
            return
        found, log = self._database.documents(), self._database.log
        self._story = self._reference.compare(found, progress, self._label, log)
        if self._story is not None:
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
