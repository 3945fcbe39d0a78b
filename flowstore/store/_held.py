"""Documents that a projection has written, kept for its next pages: as JSON, never as objects.

What is handed out is read from text each time, so that it is what the database would have given:
nothing is shared with an event's data, or with whoever folded it before.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final

import attrs

from flowstore.errors import FlowstoreError
from flowstore.store._queue import (
    DeleteDocument,
    DocumentKey,
    DocumentOperation,
    Queue,
    StoreDocument,
)

__all__ = ["HeldDocuments", "Written"]

_OVERHEAD: Final = 300
"""Bytes that an entry takes beside its text: key, identity and their places."""


@attrs.define(eq=False)
class Written:
    """Gather what several units of work have written, the last write of a document winning.

    Attributes:
        size: how much is gathered, in bytes of JSON and a little for each document.
    """

    size: int = attrs.field(default=0, init=False)
    _operations: dict[DocumentKey, DocumentOperation] = attrs.field(
        factory=dict[DocumentKey, DocumentOperation], init=False, repr=False
    )

    def add(self, operations: Iterable[DocumentOperation]) -> None:
        """Gather operations, whose documents are written as JSON already."""
        for operation in operations:
            key = operation.key
            before = self._operations.pop(key, None)
            self.size += _size(_text(operation)) - (0 if before is None else _size(_text(before)))
            self._operations[key] = operation

    def queue(self) -> Queue:
        """Queue all of it for one commit."""
        queue = Queue()
        for operation in self._operations.values():
            queue.add(operation)
        return queue

    def find(self, key: DocumentKey) -> DocumentOperation | None:
        """Find what is written of a document."""
        return self._operations.get(key)

    def texts(self) -> Iterable[tuple[DocumentKey, str | None]]:
        """List documents as JSON; None for one that is deleted."""
        return [(key, _text(operation)) for key, operation in self._operations.items()]


@attrs.define(eq=False)
class HeldDocuments:
    """Keep documents between a projection's pages, those before anybody has committed them too.

    Whoever owns the projection's shard is the only one to write to them, but for a dead letter that
    is retried, which the commit is refused for. After a commit that failed, throw this away.

    Attributes:
        types: the classes whose documents are kept: those that the projection alone writes.
        max_bytes: how much is kept of what is committed, the least recently used going first. What
            isn't committed is kept beside, as the database doesn't have it.
    """

    types: frozenset[type]
    max_bytes: int
    size: int = attrs.field(default=0, init=False)
    _committed: dict[DocumentKey, str | None] = attrs.field(
        factory=dict[DocumentKey, str | None], init=False, repr=False
    )
    _pending: deque[Written] = attrs.field(factory=deque[Written], init=False, repr=False)

    @property
    def pending(self) -> int:
        """How many parts were begun and aren't committed."""
        return len(self._pending)

    def begin(self) -> Written:
        """Begin a part that will be committed as one, after those begun before."""
        written = Written()
        self._pending.append(written)
        return written

    def confirm(self) -> None:
        """Take note that the first part that was pending is committed."""
        for key, text in self._pending.popleft().texts():
            self._put(key, text)
        self._shrink()

    def forget_committed(self) -> None:
        """Let go of what the database has."""
        self._committed.clear()
        self.size = 0

    def split(
        self, keys: Sequence[DocumentKey]
    ) -> tuple[dict[DocumentKey, str | None], list[DocumentKey]]:
        """Give what is known of documents, None for one that there isn't, and what is to be read."""
        known: dict[DocumentKey, str | None] = {}
        missing: list[DocumentKey] = []
        for key in keys:
            written = next(filter(None, (part.find(key) for part in reversed(self._pending))), None)
            if written is not None:
                known[key] = _text(written)
            elif key in self._committed:
                # Put back at the end: the least recently used stands first.
                known[key] = self._committed[key] = self._committed.pop(key)
            else:
                missing.append(key)
        return known, missing

    def note(self, texts: Iterable[tuple[DocumentKey, str | None]]) -> None:
        """Keep what was read of the database; None for a document that isn't there."""
        for key, text in texts:
            self._put(key, text)
        self._shrink()

    def check(self, queue: Queue) -> None:
        """Refuse what can't be gathered with other units' writes.

        Raises:
            FlowstoreError: something else than documents of these types was queued.
        """
        is_plain = not queue.appends and not queue.callbacks
        if not is_plain or not all(map(self._is_kept, queue.operations)):
            raise FlowstoreError(
                "more was queued than documents of the projection's own: it is applied page by page"
            )

    def _is_kept(self, operation: object) -> bool:
        is_document = isinstance(operation, (StoreDocument, DeleteDocument))
        return is_document and operation.kind.type in self.types

    def _put(self, key: DocumentKey, text: str | None) -> None:
        if key in self._committed:
            self.size -= _size(self._committed.pop(key))
        self._committed[key] = text
        self.size += _size(text)

    def _shrink(self) -> None:
        while self.size > self.max_bytes and self._committed:
            self.size -= _size(self._committed.pop(next(iter(self._committed))))


def _text(operation: DocumentOperation) -> str | None:
    return operation.text if isinstance(operation, StoreDocument) else None


def _size(text: str | None) -> int:
    return _OVERHEAD + len(text or "")
