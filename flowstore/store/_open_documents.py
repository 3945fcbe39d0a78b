"""Documents as objects, for as long as several pages are folded together.

Each is read once, changed by one page after the other, and written as JSON once, at the end: as one
large page would have it. Nothing of it is kept beyond that, as objects might be shared with whoever
folds them, or with an event's data.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

import attrs

from flowstore.events import PlainKey, plain_key
from flowstore.store._document_types import DocumentId, DocumentType
from flowstore.store._held import HeldDocuments, Known, Relied, Written

__all__ = ["OpenDocuments", "Shelf"]

_AS_OBJECT: Final = 1_000
"""Bytes that a document takes as an object, beside as many as its text has."""
_SAMPLES: Final = 4
"""Documents that are written for their size alone, of those that pages have stored."""
_LITTLE: Final = 64 * 1024
_FEW: Final = 250
"""Bytes that events said, and documents stored for them, that nothing is written for: a page's at the tail."""


@attrs.define(eq=False)
class Shelf:
    """Have the documents of one class and tenant that were read or written.

    What is known of each stands in dictionaries side by side rather than in an object of its own: there
    are thousands, for as long as a span, and the garbage collector follows every object.

    Attributes:
        tenant: the tenant column's value.
        kind: how the documents are kept.
        read: bytes of JSON that were read.
    """

    tenant: str
    kind: DocumentType
    read: int = attrs.field(default=0, init=False)
    _usual: type = attrs.field(init=False, repr=False)
    _documents: dict[PlainKey, Any] = attrs.field(factory=dict[PlainKey, Any], init=False)
    _sizes: dict[PlainKey, int] = attrs.field(factory=dict[PlainKey, int], init=False)
    _changed: dict[PlainKey, DocumentId] = attrs.field(
        factory=dict[PlainKey, DocumentId], init=False
    )
    _stored: list[PlainKey] = attrs.field(factory=list[PlainKey], init=False)

    def __attrs_post_init__(self) -> None:
        """Look up the class that identities have."""
        self._usual = self.kind.usual_identity

    def __len__(self) -> int:
        return len(self._documents)

    @property
    def unweighed(self) -> int:
        """How often documents were stored since they were weighed."""
        return len(self._stored)

    def keys(self, identities: Iterable[DocumentId]) -> list[PlainKey]:
        """Give what documents are looked up by here.

        Raises:
            InvalidDocumentError: an identity is of another type than the class'.
        """
        checked, usual = self.kind.checked, self._usual
        if usual is UUID:
            return [
                each.int if each.__class__ is UUID else plain_key(checked(each))  # type: ignore[union-attr] # pyright: ignore[reportAttributeAccessIssue,reportUnknownMemberType,reportUnknownVariableType]
                for each in identities
            ]
        return [plain_key(checked(each)) for each in identities]  # type: ignore[misc] # pyright: ignore[reportReturnType]

    def missing(
        self, keys: Sequence[PlainKey], identities: Sequence[DocumentId]
    ) -> dict[PlainKey, DocumentId]:
        """Find which documents haven't been read yet."""
        documents = self._documents
        return {
            key: identity
            for key, identity in zip(keys, identities, strict=True)
            if key not in documents
        }

    def put(self, key: PlainKey, document: Any, text: str | None) -> None:
        """Take what was read, and the JSON that it was read from; None: there is none."""
        size = len(text or "")
        self._documents[key], self._sizes[key] = document, size
        self.read += size

    def present(self, keys: Iterable[PlainKey]) -> list[Any]:
        """Give those documents that there are; each has been read or stored."""
        documents = self._documents
        found = [documents[key] for key in keys]
        return [document for document in found if document is not None]

    def store(self, identity: DocumentId, document: Any) -> None:
        """Have a document written at the end, as it is then; None: deleted.

        Raises:
            InvalidDocumentError: the identity is of another type than the class'.
        """
        if type(identity) is UUID and self._usual is UUID:
            key: PlainKey = identity.int
        else:
            key = plain_key(self.kind.checked(identity))
        self._changed.setdefault(key, identity)
        self._documents[key] = document
        self._stored.append(key)

    def weigh(self, measure: Callable[[Any], int]) -> int:
        """Take what was stored lately for as large as a few of it are; tells by how much it grew."""
        stored, self._stored = self._stored, []
        some = [self._documents[key] for key in stored[:: len(stored) // _SAMPLES + 1]]
        measured = [measure(document) for document in some if document is not None]
        size, sizes, grown = sum(measured) // max(len(measured), 1), self._sizes, 0
        for key in stored:
            grown += size - sizes.get(key, 0)
            sizes[key] = size
        return grown

    def changed(self) -> tuple[Mapping[PlainKey, DocumentId], Mapping[PlainKey, Any]]:
        """Give the identities of what is to be written, and documents, these among them; None: deleted."""
        return self._changed, self._documents


@attrs.define(eq=False)
class OpenDocuments:
    """Have the documents of pages that are folded together.

    Attributes:
        held: what was written before.
        written: what these will have written.
    """

    held: HeldDocuments
    written: Written = attrs.field(init=False)
    _shelves: dict[tuple[str, type], Shelf] = attrs.field(
        factory=dict[tuple[str, type], Shelf], init=False, repr=False
    )
    _new: set[tuple[str, PlainKey]] = attrs.field(
        factory=set[tuple[str, PlainKey]], init=False, repr=False
    )
    _told: int = attrs.field(default=0, init=False)
    _grown: int = attrs.field(default=0, init=False)
    _unweighed: int = attrs.field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        """Begin the part that will be written."""
        self.written = self.held.begin()

    @property
    def size(self) -> int:
        """About how many bytes they take, which nobody knows before they are written.

        Events make documents grow by what they say, and what a few have grown by says whether it is
        more: where one event goes to many documents, or one says little that makes much of it.
        """
        shelves = self._shelves.values()
        return sum(_AS_OBJECT * len(shelf) + shelf.read for shelf in shelves) + max(
            self._told, self._grown
        )

    def shelf(self, tenant: str, kind: DocumentType) -> Shelf:
        """Give the documents of a class and tenant."""
        key = (tenant, kind.type)
        found = self._shelves.get(key)
        if found is None:
            found = self._shelves[key] = Shelf(tenant, kind)
        return found

    def expect_new(self, tenant: str, identities: Iterable[DocumentId]) -> None:
        """Take it that there are no such documents, unless one is known; the commit will see."""
        self._new.update((tenant, plain_key(identity)) for identity in identities)

    def known(self, shelf: Shelf, asked: Mapping[PlainKey, DocumentId]) -> Known:
        """Tell what was written before, and what only the database has.

        What has a stamp is relied on from here on, also if nothing comes to be written to it: what
        is written to others may follow from it.
        """
        tenant, kind = shelf.tenant, shelf.kind
        known = self.held.split((tenant, kind.type), asked)
        if self._new:
            known.take_for_absent(lambda key: (tenant, key) in self._new)
        for key, stamp in known.stamps.items():
            relied = Relied(tenant, kind, asked[key], stamp)
            self.written.relied[tenant, kind.type, key] = relied
        return known

    def weigh(self, told: int, measure: Callable[[Any], int]) -> None:
        """Take note of what a page has stored.

        Args:
            told: bytes of JSON that its events had.
            measure: gives a document's bytes of JSON; 0 for one that can't be written.
        """
        self._told += told
        self._unweighed += told
        stored = sum(shelf.unweighed for shelf in self._shelves.values())
        if self._unweighed < _LITTLE and stored < _FEW:
            return
        self._unweighed = 0
        self._grown += sum(shelf.weigh(measure) for shelf in self._shelves.values())

    def shelves(self) -> Iterable[Shelf]:
        """List the documents by class and tenant."""
        return self._shelves.values()
