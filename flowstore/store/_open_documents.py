"""Documents as objects, for as long as several pages are folded together.

Each is read once, changed by one page after the other, and written as JSON once, at the end: as one
large page would have it. Nothing of it is kept beyond that, as objects might be shared with whoever
folds them, or with an event's data.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final
from uuid import UUID

import attrs

from flowstore.events import PlainKey, plain_key
from flowstore.store._document_types import DocumentId, DocumentType
from flowstore.store._held import HeldDocuments, HeldKey, Written

__all__ = ["OpenDocuments", "Shelf"]

_AS_OBJECT: Final = 1_000
"""Bytes that a document takes as an object, beside as many as its text has."""


@attrs.define(eq=False)
class _Entry:
    """A document as it was read, or as it was stored last."""

    identity: DocumentId
    document: Any
    is_changed: bool = False


@attrs.define(eq=False)
class Shelf:
    """Have the documents of one class and tenant that were read or written.

    Attributes:
        tenant: the tenant column's value.
        kind: how the documents are kept.
        stores: how often one was stored.
        size: about how many bytes they take as objects, without what they have grown by since.
    """

    tenant: str
    kind: DocumentType
    stores: int = attrs.field(default=0, init=False)
    size: int = attrs.field(default=0, init=False)
    _entries: dict[PlainKey, _Entry] = attrs.field(factory=dict[PlainKey, _Entry], init=False)

    def keys(self, identities: Iterable[DocumentId]) -> list[PlainKey]:
        """Give what documents are looked up by here.

        Raises:
            InvalidDocumentError: an identity is of another type than the class'.
        """
        checked, usual = self.kind.checked, self.kind.usual_identity
        if usual is UUID:
            return [
                each.int if each.__class__ is UUID else plain_key(checked(each))  # type: ignore[union-attr] # pyright: ignore[reportAttributeAccessIssue,reportUnknownMemberType,reportUnknownVariableType]
                for each in identities
            ]
        return [
            each if each.__class__ is usual else plain_key(checked(each)) for each in identities
        ]  # type: ignore[misc] # pyright: ignore[reportReturnType]

    def missing(
        self, keys: Sequence[PlainKey], identities: Sequence[DocumentId]
    ) -> dict[PlainKey, DocumentId]:
        """Find which documents haven't been read yet."""
        entries = self._entries
        return {
            key: identity
            for key, identity in zip(keys, identities, strict=True)
            if key not in entries
        }

    def put(self, key: PlainKey, identity: DocumentId, document: Any, text: str | None) -> None:
        """Take what was read, and the JSON that it was read from; None: there is none."""
        self._entries[key] = _Entry(identity, document)
        self.size += _AS_OBJECT + len(text or "")

    def present(self, keys: Iterable[PlainKey]) -> list[Any]:
        """Give those documents that there are; each has been read or stored."""
        entries = self._entries
        found = [entries[key].document for key in keys]
        return [document for document in found if document is not None]

    def store(self, identity: DocumentId, document: Any) -> None:
        """Have a document written at the end, as it is then; None: deleted.

        Raises:
            InvalidDocumentError: the identity is of another type than the class'.
        """
        if identity.__class__ is not self.kind.usual_identity:
            self.kind.checked(identity)
        key = plain_key(identity)
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = _Entry(self.kind.checked(identity), document)
            self.size += _AS_OBJECT
        entry.document, entry.is_changed = document, True
        self.stores += 1

    def changed(self) -> Iterator[tuple[DocumentId, Any]]:
        """Yield identity and document of all that is to be written; None: deleted."""
        for entry in self._entries.values():
            if entry.is_changed:
                yield entry.identity, entry.document


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
    _grown: int = attrs.field(default=0, init=False)
    _stores: int = attrs.field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        """Begin the part that will be written."""
        self.written = self.held.begin()

    @property
    def size(self) -> int:
        """About how many bytes they take, which nobody knows before they are written."""
        return self._grown + sum(shelf.size for shelf in self._shelves.values())

    def shelf(self, tenant: str, kind: DocumentType) -> Shelf:
        """Give the documents of a class and tenant."""
        key = (tenant, kind.type)
        found = self._shelves.get(key)
        if found is None:
            found = self._shelves[key] = Shelf(tenant, kind)
        return found

    def known(
        self, shelf: Shelf, keys: Iterable[PlainKey]
    ) -> tuple[dict[HeldKey, str | None], list[HeldKey]]:
        """Give the JSON of what was written before, and what only the database has."""
        return self.held.split((shelf.tenant, shelf.kind.type, key) for key in keys)

    def grow(self, events: int, size: int) -> None:
        """Take note that documents were stored for events of so many bytes of JSON.

        Each may have grown by what its events say; a document that many events went to, by all of
        them, and where one event goes to many documents, each of those by one event at least.
        """
        stores = sum(shelf.stores for shelf in self._shelves.values())
        self._grown += max(size, (stores - self._stores) * size // max(events, 1))
        self._stores = stores

    def changed(self) -> Iterator[tuple[Shelf, DocumentId, Any]]:
        """Yield all that is to be written: where, which and what; None: deleted."""
        for shelf in self._shelves.values():
            for identity, document in shelf.changed():
                yield shelf, identity, document
