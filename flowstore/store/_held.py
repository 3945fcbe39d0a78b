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

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from operator import itemgetter
from typing import Any, Final, TypeAlias, cast

import attrs

from flowstore.events import PlainKey
from flowstore.store._document_types import DocumentId, DocumentType
from flowstore.store._queue import AT_ONCE, DeleteDocument, Queue, StoreDocument, WriteDocuments

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
    "WrittenPart",
]

_OVERHEAD: Final = 400
"""Bytes that an entry takes beside its text: key, identity, stamp and their places."""
_FEW: Final = 100
"""Documents that are queued one by one, so that the commit can tell how they are kept."""
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
class WrittenPart:
    """Gather what is written to documents of one class and tenant.

    Attributes:
        kind: how the documents are kept.
        identities: of those that are gathered.
        texts: their JSON, None for one to be deleted.
    """

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
        relied: the documents that it rests on as they were kept: those alone that had a stamp.
    """

    relied: dict[HeldKey, Relied] = attrs.field(
        factory=dict[HeldKey, Relied], init=False, repr=False
    )
    _parts: dict[Place, WrittenPart] = attrs.field(
        factory=dict[Place, WrittenPart], init=False, repr=False
    )

    @property
    def size(self) -> int:
        """How much is gathered, in bytes of JSON and a little for each document."""
        return sum(sum(map(_size, part.texts.values())) for part in self._parts.values())

    def part(self, tenant: str, kind: DocumentType) -> WrittenPart:
        """Give what is gathered of a class and tenant, to be added to: the last of each wins."""
        place = (tenant, kind.type)
        found = self._parts.get(place)
        if found is None:
            found = self._parts[place] = WrittenPart(kind)
        return found

    def queue(self) -> Queue:
        """Queue all of it for one commit, document by document."""
        return Queue(
            operations=[
                DeleteDocument(tenant, part.kind, part.identities[key])
                if text is None
                else StoreDocument(tenant, part.kind, part.identities[key], None, text=text)
                for (tenant, _), part in self._parts.items()
                for key, text in part.texts.items()
            ]
        )

    def queue_at_once(self) -> Queue:
        """Queue all of it for one commit, many documents as one where there are many.

        Not with any that has to be as it was, or is to be deleted: the commit looks at each.
        """
        texts = [part.texts for part in self._parts.values()]
        are_many = sum(map(len, texts)) > _FEW
        if self.relied or not are_many or any(None in each.values() for each in texts):
            return self.queue()
        return Queue(operations=list(self._many()))

    def _many(self) -> Iterator[WriteDocuments]:
        """Yield what is stored, table by table and in the order of the identities: see `in_batches`."""
        places = [((part.kind.table, tenant), part) for (tenant, _), part in self._parts.items()]
        for (_, tenant), part in sorted(places, key=itemgetter(0)):
            texts = cast("dict[PlainKey, str]", part.texts)
            in_order = sorted(texts, key=_as_ordered)
            for start in range(0, len(in_order), AT_ONCE):
                keys = in_order[start : start + AT_ONCE]
                yield WriteDocuments(tenant, part.kind, keys, [texts[key] for key in keys])

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
    # In these two the first is looked for again and again, which takes a dictionary as long as there
    # were others before it.
    _stamped: OrderedDict[HeldKey, Kept] = attrs.field(
        factory=OrderedDict[HeldKey, Kept], init=False, repr=False
    )
    _passing: OrderedDict[Place, dict[PlainKey, str | None]] = attrs.field(
        factory=OrderedDict[Place, "dict[PlainKey, str | None]"], init=False, repr=False
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
            if self._stamped:
                for key in texts:
                    self._drop_stamped((*place, key))
            passing = self._passing.setdefault(place, {})
            # Those that are there already come to stand at the end: the least recently used go first.
            for key in passing.keys() & texts.keys():
                self.size -= _size(passing.pop(key))
            passing.update(texts)
            self.size += sum(map(_size, texts.values()))
        for held_key, kept in told.items():
            self._keep(held_key, kept)
        if self.size > self.max_bytes:
            self._drop()

    def forget_unstamped(self) -> None:
        """Let go of what the database may have otherwise by now, without anybody being told."""
        for passing in self._passing.values():
            self.size -= sum(map(_size, passing.values()))
        self._passing.clear()

    def split(self, place: Place, keys: Iterable[PlainKey]) -> Known:
        """Tell what is known of documents of a class and tenant, and which ones are to be read."""
        known = Known()
        left, texts = list(keys), known.texts
        for part in reversed(self._pending):
            if written := part.of(place):
                texts.update({key: written[key] for key in left if key in written})
                left = [key for key in left if key not in written]
        passing = self._passing.get(place)
        if passing:
            for key in left:
                if key in passing:
                    # Put back at the end: the least recently used stands first.
                    texts[key] = passing[key] = passing.pop(key)
            left = [key for key in left if key not in passing]
        if self._stamped:
            for key in left:
                held_key = (*place, key)
                if (kept := self._stamped.get(held_key)) is not None:
                    self._stamped.move_to_end(held_key)
                    texts[key], known.stamps[key] = kept.text, kept.stamp
            left = [key for key in left if key not in texts]
        known.missing.extend(left)
        return known

    def _keep(self, key: HeldKey, kept: Kept) -> None:
        """Take a document as it is kept now, in the place of what was written."""
        passing = self._passing.setdefault(key[:2], {})
        if key[2] in passing:
            self.size -= _size(passing.pop(key[2]))
        if kept.stamp is None:
            passing[key[2]] = kept.text
        else:
            self._stamped[key] = kept
        self.size += _size(kept.text)

    def _drop_stamped(self, key: HeldKey) -> None:
        kept = self._stamped.pop(key, None)
        if kept is not None:
            self.size -= _size(kept.text)

    def _drop(self) -> None:
        """Let go of as much as is too much, of each class and tenant one by turns.

        Each dictionary is gone through once for all of it: its first would be looked for behind all
        those that have gone before.
        """
        while self._stamped and self.size > self.max_bytes:
            self.size -= _size(self._stamped.popitem(last=False)[1].text)
        going: dict[Place, tuple[Iterator[PlainKey], list[PlainKey]]] = {}
        while self.size > self.max_bytes:
            place, passing = next(iter(self._passing.items()))
            if place not in going:
                going[place] = iter(passing), []
            keys, gone = going[place]
            key = next(keys, None)
            if key is not None:
                self.size -= _size(passing[key])
                gone.append(key)
            if len(gone) == len(passing):
                del self._passing[place], going[place]
            else:
                self._passing.move_to_end(place)
        for place, (_, gone) in going.items():
            passing = self._passing[place]
            for key in gone:
                del passing[key]


def _as_ordered(key: PlainKey) -> Any:
    return key  # of one type in one table; its order is the database's too


def _size(text: str | None) -> int:
    return _OVERHEAD + len(text or "")
