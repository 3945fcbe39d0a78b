"""The session that a projection is handed while its shadow is filled."""

import hashlib
from collections.abc import Callable
from typing import Any, LiteralString, Self

import attrs

from flowstore.errors import FlowstoreError
from flowstore.projections import RowChange, Table
from flowstore.store._document_types import DocumentType
from flowstore.store._projection_unit import ProjectionUnit

__all__ = ["NoShadowError", "Places", "ShadowUnit", "shadow_table"]


class NoShadowError(FlowstoreError):
    """A projection can't be rebuilt beside what it has written.

    Attributes:
        projection: its name.
        reason: what stands against it.
    """

    def __init__(self, projection: str, reason: str) -> None:
        super().__init__(f"{projection!r} can't be rebuilt beside its present view: {reason}")
        self.projection = projection
        self.reason = reason


@attrs.frozen
class Places:
    """Tell where a projection writes.

    Attributes:
        kinds: how its documents are kept.
        tables: its flat tables.
    """

    kinds: tuple[DocumentType, ...]
    tables: tuple[Table, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """List the tables by name."""
        return (*(kind.table for kind in self.kinds), *(table.name for table in self.tables))


@attrs.define(eq=False)
class ShadowUnit(ProjectionUnit):
    """The session that a projection is handed while its shadow is filled."""

    _places: Places = attrs.field(kw_only=True, alias="places", repr=False)
    _refuse: Callable[[str], NoShadowError] = attrs.field(kw_only=True, alias="refuse", repr=False)

    def store(self, *documents: object) -> None:
        """Queue documents to be written to the shadow.

        Raises:
            NoShadowError: a document isn't of a type that the projection produces.
        """
        for document in documents:
            self._check_produced(type(document))
        super().store(*documents)

    def delete(self, document: object) -> None:
        """Queue the deletion of a document in the shadow.

        Raises:
            NoShadowError: it isn't of a type that the projection produces.
        """
        self._check_produced(type(document))
        super().delete(document)

    def delete_by_id(self, document_type: type, document_id: Any, /) -> None:
        """Queue the deletion of a document in the shadow by its id.

        Raises:
            NoShadowError: it isn't of a type that the projection produces.
        """
        self._check_produced(document_type)
        super().delete_by_id(document_type, document_id)

    def execute(self, sql: LiteralString, /, *params: Any) -> None:  # noqa: ARG002 - refused
        """Refuse a statement: it would write to what is being read.

        Raises:
            NoShadowError: always.
        """
        raise self._refuse("it runs SQL of its own, which would write to the present view")

    def change_rows(self, table: Table, /, *changes: RowChange) -> None:
        """Queue changes of the shadow's rows."""
        super().change_rows(self._shadowed(table), *changes)

    def empty_table(self, table: Table, /) -> None:
        """Queue the deletion of all the shadow's rows."""
        super().empty_table(self._shadowed(table))

    async def create_table(self, table: Table, /) -> None:
        """See to it that the shadow is there."""
        await super().create_table(self._shadowed(table))

    def for_tenant(self, tenant_id: str | None) -> Self:
        """Give a session of another tenant that shares this one's unit of work."""
        other = type(self)(
            self._engine,
            self._engine.tenant(tenant_id),
            self._queue,
            lend=self._lend,
            places=self._places,
            refuse=self._refuse,
        )
        other._versions = self._versions  # noqa: SLF001 - of this very class
        other._kept = self._kept  # noqa: SLF001 - as above
        return other

    def _check_produced(self, document_type: type) -> None:
        if all(kind.type is not document_type for kind in self._places.kinds):
            raise self._refuse(
                f"it writes documents of {document_type.__qualname__}, which it doesn't say it"
                " produces"
            )

    def _shadowed(self, table: Table) -> Table:
        if all(own.name != table.name for own in self._places.tables):
            raise self._refuse(f"it writes to flat table {table.name!r}, not its own")
        return attrs.evolve(table, name=shadow_table(table.name))


def shadow_table(table: str) -> str:
    """Name the shadow of a table: the same each time, so that one left over is found again."""
    return "shadow_" + hashlib.sha256(table.encode()).hexdigest()[:40]
