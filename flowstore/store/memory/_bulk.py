"""Bringing in many documents at once, in memory."""

from contextlib import aclosing
from typing import Any, TypeAlias, cast

import attrs

from flowstore.errors import InvalidDocumentError
from flowstore.store._bulk import DocumentSource, OnConflict
from flowstore.store._document_types import DocumentId, DocumentType
from flowstore.store._engine import Engine
from flowstore.store._files import each_of
from flowstore.store.memory._database import MemoryDatabase
from flowstore.store.memory._limits import check_key
from flowstore.store.memory._rows import StoredDocument, documents_of
from flowstore.store.memory._steps import Pause

__all__ = ["insert_all"]

_Texts: TypeAlias = dict[DocumentType, dict[DocumentId, str]]


@attrs.frozen
class _Arriving:
    """Gather documents as JSON, and settle which of those that come twice is kept."""

    on_conflict: OnConflict
    texts: _Texts = attrs.field(factory=dict[DocumentType, dict[DocumentId, str]], init=False)

    def add(self, kind: DocumentType, identity: DocumentId, text: str) -> None:
        texts = self.texts.setdefault(kind, {})
        if identity in texts and self.on_conflict == "refuse":
            raise _conflict(kind, identity)
        if identity not in texts or self.on_conflict == "overwrite":
            texts[identity] = text


async def insert_all(
    engine: Engine,
    database: MemoryDatabase,
    pause: Pause,
    tenant: str,
    documents: DocumentSource,
    *,
    on_conflict: OnConflict,
) -> int:
    """Write documents of any types in one transaction, and give how many were written.

    Raises:
        InvalidDocumentError: one can't be stored, or is stored already and that is refused.
    """
    arriving = _Arriving(on_conflict)
    async with aclosing(each_of(documents)) as each:
        async for document in each:
            kind = engine.catalogue.describe(cast("type[Any]", type(document)))
            identity = kind.identity_of(document)
            check_key(identity)
            arriving.add(kind, identity, engine.documents.value(document))
    written = 0
    async with database.transaction(pause) as transaction:
        for kind in sorted(arriving.texts, key=lambda each: each.table):
            texts = arriving.texts[kind]
            for identity in sorted(cast("dict[Any, str]", texts)):
                rows, key = documents_of(kind), (tenant, identity)
                await transaction.lock(rows, key)
                found = transaction.get(rows, key)
                if found is not None and on_conflict == "refuse":
                    raise _conflict(kind, identity)
                if found is None or on_conflict == "overwrite":
                    version = 1 if found is None else found.version + 1
                    transaction.put(rows, key, StoredDocument(texts[identity], version))
                    written += 1
    return written


def _conflict(kind: DocumentType, identity: DocumentId) -> InvalidDocumentError:
    return InvalidDocumentError(
        f"a {kind.type.__name__} is stored already, or comes twice: its id is {str(identity)!r};"
        " insert it with on_conflict='ignore' or 'overwrite'"
    )
