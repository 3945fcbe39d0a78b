"""Documents that a projection has written, kept for what it folds next: as JSON, never as objects.

What is handed out is read from text each time, so that it is what the database would have given:
nothing is shared with an event's data, or with whoever folded it before.

With some of them comes a stamp, which the commit has told: what tells a document's row, as it was
written, from anything that it may have been since. Whoever goes on from such a document says so to the
next commit, which is refused if the row isn't that one any more. So those can be kept for as long as one
likes; all others only while pages follow each other without a pause.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Final, TypeAlias

import attrs

from flowstore.events import PlainKey, plain_key
from flowstore.store._document_types import DocumentId, DocumentType
from flowstore.store._queue import DocumentOperation, Queue, StoreDocument

__all__ = ["ABSENT", "HeldDocuments", "HeldKey", "Kept", "Relied", "Stamp", "Written"]

_OVERHEAD: Final = 400
"""Bytes that an entry takes beside its text: key, identity, stamp and their places."""
Stamp: TypeAlias = object
"""Equal for a document's row that nobody has written to, and for no other: the store alone knows more."""
ABSENT: Final[Stamp] = ""
"""Stands for no row."""
HeldKey: TypeAlias = tuple[str, type, PlainKey]
"""Stored tenant, class, and identity in the form that is quickly looked up."""


@attrs.frozen
class Kept:
    """Hold what is known of a document.

    Attributes:
        text: its JSON; None: there is none.
        stamp: tells its row; None: nobody has said.
    """

    text: str | None = attrs.field(repr=False)
    stamp: Stamp | None = None


@attrs.frozen
class Relied:
    """Say which document was gone on from without looking whether it is still as it was.

    Attributes:
        tenant: the tenant column's value.
        kind: how the document's class is kept.
        identity: the document's.
        stamp: what its row has to be; `ABSENT`: there has to be none.
    """

    tenant: str
    kind: DocumentType
    identity: DocumentId
    stamp: Stamp


@attrs.define(eq=False)
class Written:
    """Gather what was written to documents, to be committed as one.

    Attributes:
        size: how much is gathered, in bytes of JSON and a little for each document.
        relied: the documents that it rests on as they were kept: those alone that had a stamp.
    """

    size: int = attrs.field(default=0, init=False)
    relied: dict[HeldKey, Relied] = attrs.field(
        factory=dict[HeldKey, Relied], init=False, repr=False
    )
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
    is retried, which the commit is refused for, and for whoever mends one by hand, which it is
    refused for where a stamp tells. After a commit that failed, throw this away.

    Attributes:
        types: the classes whose documents are kept: those that the projection alone writes.
        max_bytes: how much is kept of what is committed, the least recently used going first. What
            isn't committed is kept beside, as the database doesn't have it.
        size: how much is kept of what is committed, in bytes.
    """

    types: frozenset[type]
    max_bytes: int
    size: int = attrs.field(default=0, init=False)
    _stamped: dict[HeldKey, Kept] = attrs.field(factory=dict[HeldKey, Kept], init=False, repr=False)
    _passing: dict[HeldKey, Kept] = attrs.field(factory=dict[HeldKey, Kept], init=False, repr=False)
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

    def confirm(self, told: Mapping[HeldKey, Kept]) -> None:
        """Take note that the first part that was pending is committed.

        Args:
            told: what the commit told of documents that it has written, as they are kept now.
        """
        for key, text in self._pending.popleft().texts():
            self._drop(key)
            kept = told.get(key) or Kept(text)
            place = self._passing if kept.stamp is None else self._stamped
            place[key] = kept
            self.size += _size(kept.text)
        while self.size > self.max_bytes:
            self._drop(next(iter(self._stamped or self._passing)))

    def forget_unstamped(self) -> None:
        """Let go of what the database may have otherwise by now, without anybody being told."""
        for kept in self._passing.values():
            self.size -= _size(kept.text)
        self._passing.clear()

    def split(self, keys: Iterable[HeldKey]) -> tuple[dict[HeldKey, Kept], list[HeldKey]]:
        """Give what is known of documents, and which ones are to be read."""
        known: dict[HeldKey, Kept] = {}
        missing: list[HeldKey] = []
        parts = [part for part in reversed(self._pending) if part.size]
        for key in keys:
            written = next(filter(None, (part.find(key) for part in parts)), None)
            kept = self._use(key) if written is None else Kept(_text(written))
            if kept is None:
                missing.append(key)
            else:
                known[key] = kept
        return known, missing

    def _use(self, key: HeldKey) -> Kept | None:
        """Find what is committed, and put it at the end: the least recently used stands first."""
        for place in (self._stamped, self._passing):
            if key in place:
                kept = place[key] = place.pop(key)
                return kept
        return None

    def _drop(self, key: HeldKey) -> None:
        kept = self._stamped.pop(key, None) or self._passing.pop(key, None)
        if kept is not None:
            self.size -= _size(kept.text)


def _text(operation: DocumentOperation) -> str | None:
    return operation.text if isinstance(operation, StoreDocument) else None


def _size(text: str | None) -> int:
    return _OVERHEAD + len(text or "")
