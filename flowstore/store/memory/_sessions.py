"""Sessions that read and write in memory."""

import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, LiteralString, NoReturn, TypeVar, cast

import attrs

from flowstore.events import PlainKey, plain_key
from flowstore.projections import Table
from flowstore.store._document_session import DocumentSession
from flowstore.store._document_types import DocumentId, DocumentType
from flowstore.store._held import Written
from flowstore.store._open_documents import Shelf
from flowstore.store._projection_unit import ProjectionUnit
from flowstore.store._statements import Lend, Row
from flowstore.store.memory._database import Transaction, View
from flowstore.store.memory._errors import NotInMemoryError
from flowstore.store.memory._history import MemoryHistory
from flowstore.store.memory._json import same_value
from flowstore.store.memory._limits import check_key
from flowstore.store.memory._rows import documents_of

__all__ = ["MemoryDocuments", "MemoryUnit", "ReadsFrom", "view_of"]

_T = TypeVar("_T")


@attrs.frozen
class ReadsFrom:
    """Stand where a session is told whom to ask for a connection: there is none here.

    Attributes:
        view: what is read instead.
    """

    view: View

    def __call__(self) -> NoReturn:
        """Refuse.

        Raises:
            NotInMemoryError: always.
        """
        raise NotInMemoryError(
            "there is no database here to run SQL on: open a store on PostgreSQL"
        )


def view_of(lend: Lend) -> View:
    """Give what a session in memory reads."""
    return cast("ReadsFrom", lend).view


class MemoryDocuments(DocumentSession):
    """Read documents from memory."""

    __slots__ = ()

    def execute(self, sql: LiteralString, /, *_params: Any) -> None:
        """Refuse: there is no database to run a statement on."""
        raise _no_sql(sql)

    async def query(
        self, _document_type: type[_T], where: LiteralString, /, *_params: Any
    ) -> list[_T]:
        """Refuse: there is no database to judge the condition."""
        raise _no_sql(where)

    async def stream_query(
        self, _document_type: type[_T], where: LiteralString, /, *_params: Any
    ) -> AsyncGenerator[_T]:
        """Refuse: there is no database to judge the condition."""
        raise _no_sql(where)
        yield  # what makes it a generator, as the method it stands for

    async def _load_rows(self, kind: DocumentType, identities: list[DocumentId]) -> Sequence[Row]:
        await self._view().round_trip()
        for identity in identities:
            check_key(identity)
        view, rows = self._view(), documents_of(kind)
        found = ((each, view.get(rows, (self._tenant, each))) for each in identities)
        return [(each, stored.data, stored.version) for each, stored in found if stored is not None]

    async def _find_rows(self, kind: DocumentType, equal_to: Mapping[str, Any]) -> Sequence[Row]:
        encode, decode = self._engine.documents.value, json.loads
        wanted = {name: decode(encode(value)) for name, value in equal_to.items()}
        await self._view().round_trip()
        found: list[Row] = []
        for (tenant, identity), stored in self._view().scan(documents_of(kind)):
            if tenant == self._tenant and _fits(decode(stored.data), wanted):
                found.append((identity, stored.data, stored.version))
        return sorted(found, key=lambda row: row[0])

    def _view(self) -> View:
        return view_of(self._lend)


def _fits(data: Any, wanted: Mapping[str, Any]) -> bool:
    fields = cast("dict[str, Any]", data) if isinstance(data, dict) else {}
    return all(
        (value is None or name in fields) and same_value(fields.get(name), value)
        for name, value in wanted.items()
    )


def _no_sql(sql: str) -> NotInMemoryError:
    return NotInMemoryError(f"there is no database here to execute {sql!r}: use a real store")


class MemoryUnit(MemoryDocuments, ProjectionUnit):
    """The session that a projection is handed."""

    __slots__ = ()

    @property
    def history(self) -> MemoryHistory:
        """The tenant's events as they are kept."""
        return MemoryHistory(self._engine, self._tenant, self._view())

    def take_over(self, written: Written) -> None:
        """Queue what was gathered, each document by itself."""
        self._queue, self.relied = written.queue(), written.relied

    async def _load_texts(
        self,
        shelf: Shelf,
        keys: Sequence[PlainKey],
        identities: Mapping[PlainKey, DocumentId],
    ) -> Mapping[PlainKey, str]:
        rows = await self._load_rows(shelf.kind, [identities[key] for key in keys])
        return {plain_key(identity): text for identity, text, _ in rows}

    async def _hold(self, kind: DocumentType, identities: list[DocumentId]) -> None:
        transaction = cast("Transaction", self._view())
        for identity in sorted(identities, key=lambda each: cast("Any", each)):
            await transaction.lock(documents_of(kind), (self._tenant, identity))

    async def create_table(self, table: Table, /) -> None:
        """Refuse a flat table that this store can't keep as it is described."""
        self._engine.flat_tables.check(table)
