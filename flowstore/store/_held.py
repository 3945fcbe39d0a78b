"""Documents that a projection has written, kept for what it folds next: as JSON, never as objects.

What is handed out is read from text each time, so that it is what the database would have given:
nothing is shared with an event's data, or with whoever folded it before.

With some of them comes a stamp, which the commit has told: what tells a document's row, as it was
written, from anything that it may have been since. Whoever goes on from such a document says so to the
next commit, which is refused if the row isn't that one any more. So those can be kept for as long as one
likes; all others only while pages follow each other without a pause.

Ten thousands of documents are kept in dictionaries of plain keys and texts, one a class and tenant: those
Python's garbage collector doesn't look into, where it would follow a tuple or an object for each, again
and again.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, TypeAlias

import attrs

from flowstore.events import PlainKey, plain_key
from flowstore.store._document_types import DocumentId, DocumentType
from flowstore.store._queue import DeleteDocument, Queue, StoreDocument

__all__ = [
    "ABSENT",
    "HeldDocuments",
    "HeldKey",
    "Kept",
    "Known",
    "Place",
    "Relied",
    "Stamp",
    "Written",
]

_OVERHEAD: Final = 400
"""Bytes that an entry takes beside its text: key, identity, stamp and their places."""
Stamp: TypeAlias = object
"""Equal for a document's row that nobody has written to, and for no other: the store alone knows more."""
ABSENT: Final[Stamp] = ""
"""Stands for no row."""
Place: TypeAlias = tuple[str, type]
"""Stored tenant and class."""
HeldKey: TypeAlias = tuple[str, type, PlainKey]
"""The same, and the identity in the form that is quickly looked up."""


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
class _Part:
    """What is written of one class and tenant."""

    kind: DocumentType
    identities: dict[PlainKey, DocumentId] = attrs.field(
        factory=dict[PlainKey, DocumentId], init=False
    )
    texts: dict[PlainKey, str | None] = attrs.field(
        factory=dict[PlainKey, "str | None"], init=False
    )


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
    _parts: dict[Place, _Part] = attrs.field(factory=dict[Place, _Part], init=False, repr=False)

    def add(self, tenant: str, kind: DocumentType, identity: DocumentId, text: str | None) -> None:
        """Gather a document, written as JSON already, None for one to be deleted; the last one wins."""
        place = (tenant, kind.type)
        part = self._parts.get(place)
        if part is None:
            part = self._parts[place] = _Part(kind)
        key = plain_key(identity)
        if key in part.texts:
            self.size -= _size(part.texts.pop(key))
        part.identities[key], part.texts[key] = identity, text
        self.size += _size(text)

    def queue(self) -> Queue:
        """Queue all of it for one commit."""
        return Queue(
            operations=[
                DeleteDocument(tenant, part.kind, part.identities[key])
                if text is None
                else StoreDocument(tenant, part.kind, part.identities[key], None, text=text)
                for (tenant, _), part in self._parts.items()
                for key, text in part.texts.items()
            ]
        )

    def of(self, place: Place) -> Mapping[PlainKey, str | None] | None:
        """Give what is written of a class and tenant, as JSON; None for a document that is deleted."""
        part = self._parts.get(place)
        return None if part is None else part.texts

    def texts(self) -> Iterator[tuple[Place, Mapping[PlainKey, str | None]]]:
        """List what is written, class by class and tenant by tenant."""
        for place, part in self._parts.items():
            yield place, part.texts


@attrs.frozen
class Known:
    """Tell what is known of documents of one class and tenant.

    Attributes:
        texts: their JSON; None for one that there isn't.
        stamps: what tells the rows of those that the commit has to find as they were.
        missing: of which nothing is known.
    """

    texts: dict[PlainKey, str | None] = attrs.field(factory=dict[PlainKey, "str | None"])
    stamps: dict[PlainKey, Stamp] = attrs.field(factory=dict[PlainKey, Stamp])
    missing: list[PlainKey] = attrs.field(factory=list[PlainKey])

    def take_for_absent(self, is_new: Callable[[PlainKey], bool]) -> None:
        """Take it that there is no document, of those of which nothing is known, where one is new."""
        new = [key for key in self.missing if is_new(key)]
        self.texts.update(dict.fromkeys(new))
        self.stamps.update(dict.fromkeys(new, ABSENT))
        self.missing[:] = [key for key in self.missing if key not in self.texts]


@attrs.define(eq=False)
class HeldDocuments:
    """Keep documents between a projection's pages, those before anybody has committed them too.

    Whoever owns the projection's shard is the only one to write to them, but for a dead letter that
    is retried, which the commit is refused for, and for whoever mends one by hand, which it is
    refused for where a stamp tells. After a commit that failed, throw this away.

    Attributes:
        types: the classes whose documents are kept: those that the projection alone writes.
        max_bytes: how much is kept of what is committed, of each class and tenant the least recently
            used going first. What isn't committed is kept beside, as the database doesn't have it.
        size: how much is kept of what is committed, in bytes.
    """

    types: frozenset[type]
    max_bytes: int
    size: int = attrs.field(default=0, init=False)
    _stamped: dict[HeldKey, Kept] = attrs.field(factory=dict[HeldKey, Kept], init=False, repr=False)
    _passing: dict[Place, dict[PlainKey, str | None]] = attrs.field(
        factory=dict[Place, "dict[PlainKey, str | None]"], init=False, repr=False
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

    def confirm(self, told: Mapping[HeldKey, Kept]) -> None:
        """Take note that the first part that was pending is committed.

        Args:
            told: what the commit told of documents that it has written, as they are kept now.
        """
        for place, texts in self._pending.popleft().texts():
            passing = self._passing.setdefault(place, {})
            for key, text in texts.items():
                if self._stamped:
                    self._drop_stamped((*place, key))
                if key in passing:
                    self.size -= _size(passing.pop(key))
                kept = told.get((*place, key)) if told else None
                if kept is None:
                    passing[key] = text
                    self.size += _size(text)
                else:
                    self._keep((*place, key), kept)
        while self.size > self.max_bytes:
            self._drop_one()

    def forget_unstamped(self) -> None:
        """Let go of what the database may have otherwise by now, without anybody being told."""
        for passing in self._passing.values():
            self.size -= sum(map(_size, passing.values()))
        self._passing.clear()

    def split(self, place: Place, keys: Iterable[PlainKey]) -> Known:
        """Tell what is known of documents of a class and tenant, and which ones are to be read."""
        known = Known()
        parts = [found for part in reversed(self._pending) if (found := part.of(place))]
        passing = self._passing.get(place, {})
        for key in keys:
            written = next((part for part in parts if key in part), None)
            if written is not None:
                known.texts[key] = written[key]
            elif key in passing:
                # Put back at the end: the least recently used stands first.
                known.texts[key] = passing[key] = passing.pop(key)
            elif (kept := self._stamped.pop((*place, key), None)) is not None:
                self._stamped[(*place, key)] = kept
                known.texts[key], known.stamps[key] = kept.text, kept.stamp
            else:
                known.missing.append(key)
        return known

    def _keep(self, key: HeldKey, kept: Kept) -> None:
        if kept.stamp is None:
            self._passing[key[:2]][key[2]] = kept.text
        else:
            self._stamped[key] = kept
        self.size += _size(kept.text)

    def _drop_stamped(self, key: HeldKey) -> None:
        kept = self._stamped.pop(key, None)
        if kept is not None:
            self.size -= _size(kept.text)

    def _drop_one(self) -> None:
        """Let go of one document, of each class and tenant in turn."""
        if self._stamped:
            self._drop_stamped(next(iter(self._stamped)))
            return
        place, passing = next(iter(self._passing.items()))
        del self._passing[place]
        if passing:
            self.size -= _size(passing.pop(next(iter(passing))))
        if passing:
            self._passing[place] = passing


def _size(text: str | None) -> int:
    return _OVERHEAD + len(text or "")
