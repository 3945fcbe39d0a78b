"""Documents that a projection has written, kept for what it folds next: as JSON, never as objects.

What is handed out is read from text each time, so that it is what the database would have given:
nothing is shared with an event's data, or with whoever folded it before.
"""

from collections import deque
from collections.abc import Iterable
from typing import Final, TypeAlias

import attrs

from flowstore.events import PlainKey, plain_key
from flowstore.store._queue import DocumentOperation, Queue, StoreDocument

__all__ = ["HeldDocuments", "HeldKey", "Written"]

_OVERHEAD: Final = 300
"""Bytes that an entry takes beside its text: key, identity and their places."""
HeldKey: TypeAlias = tuple[str, type, PlainKey]
"""Stored tenant, class, and identity in the form that is quickly looked up."""


@attrs.define(eq=False)
class Written:
    """Gather what was written to documents, to be committed as one.

    Attributes:
        size: how much is gathered, in bytes of JSON and a little for each document.
    """

    size: int = attrs.field(default=0, init=False)
    _operations: dict[HeldKey, DocumentOperation] = attrs.field(
        factory=dict[HeldKey, DocumentOperation], init=False, repr=False
    )

    def add(self, operation: DocumentOperation) -> None:
        """Gather an operation, whose document is written as JSON already; the last one wins."""
        key = (operation.tenant, operation.kind.type, plain_key(operation.identity))
        before = self._operations.pop(key, None)
        self.size += _size(_text(operation)) - (0 if before is None else _size(_text(before)))
        self._operations[key] = operation

    def queue(self) -> Queue:
        """Queue all of it for one commit."""
        return Queue(operations=list(self._operations.values()))

    def find(self, key: HeldKey) -> DocumentOperation | None:
        """Find what is written of a document."""
        return self._operations.get(key)

    def texts(self) -> Iterable[tuple[HeldKey, str | None]]:
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
    _committed: dict[HeldKey, str | None] = attrs.field(
        factory=dict[HeldKey, str | None], init=False, repr=False
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
            if key in self._committed:
                self.size -= _size(self._committed.pop(key))
            self._committed[key] = text
            self.size += _size(text)
        while self.size > self.max_bytes and self._committed:
            self.size -= _size(self._committed.pop(next(iter(self._committed))))

    def forget_committed(self) -> None:
        """Let go of what the database has."""
        self._committed.clear()
        self.size = 0

    def split(self, keys: Iterable[HeldKey]) -> tuple[dict[HeldKey, str | None], list[HeldKey]]:
        """Give what is known of documents, None for one that there isn't, and what is to be read."""
        known: dict[HeldKey, str | None] = {}
        missing: list[HeldKey] = []
        parts = [part for part in reversed(self._pending) if part.size]
        for key in keys:
            written = next(filter(None, (part.find(key) for part in parts)), None)
            if written is not None:
                known[key] = _text(written)
            elif key in self._committed:
                # Put back at the end: the least recently used stands first.
                known[key] = self._committed[key] = self._committed.pop(key)
            else:
                missing.append(key)
        return known, missing


def _text(operation: DocumentOperation) -> str | None:
    return operation.text if isinstance(operation, StoreDocument) else None


def _size(text: str | None) -> int:
    return _OVERHEAD + len(text or "")
