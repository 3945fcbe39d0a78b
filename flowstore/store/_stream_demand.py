"""What a commit's appends together ask of one stream, and what its refusal means."""

import attrs

from flowstore.errors import (
    ConcurrencyError,
    FlowstoreError,
    StreamArchivedError,
    StreamCollisionError,
    StreamNotFoundError,
)
from flowstore.events import StreamId
from flowstore.store._queue import QueuedAppend

__all__ = ["StreamDemand"]


@attrs.define
class StreamDemand:
    """What a commit's appends together ask of one stream.

    Attributes:
        stream_id: the stream's identity.
        stream_type: the type it is started for.
        starts: it must not exist.
        base: the version it must be at; None asks nothing.
        offset: how many of the commit's own events stood before the append that asked.
        added: how many events it gets.
    """

    stream_id: StreamId
    stream_type: str | None = None
    starts: bool = False
    base: int | None = None
    offset: int = 0
    added: int = 0

    def take(self, queued: QueuedAppend) -> None:
        """Add an append to the demand, checking it against those before."""
        action = queued.action
        if action.starts:
            if self.added:
                raise StreamCollisionError(self.stream_id)
            self.starts, self.stream_type = True, action.stream_type
        if action.expected_version is not None and not action.starts:
            self._expect(action.expected_version)
        self.added += len(action.events)

    def _expect(self, version: int) -> None:
        base = version - self.added
        known = 0 if self.starts else self.base
        if base < 0 or known not in (None, base):
            found = self.added if known is None else known + self.added
            raise ConcurrencyError(self.stream_id, expected=version, found=found)
        if self.base is None:
            self.base, self.offset = base, self.added

    def refusal(self, sqlstate: str, found: int) -> FlowstoreError:
        """Give the error for what the database found, at the base of this commit's events."""
        if sqlstate == "FS001":
            return StreamCollisionError(self.stream_id)
        if sqlstate == "FS003":
            return StreamArchivedError(self.stream_id)
        if sqlstate == "FS004":
            return StreamNotFoundError(self.stream_id)
        expected = None if self.base is None else self.base + self.offset
        return ConcurrencyError(self.stream_id, expected=expected, found=found + self.offset)
