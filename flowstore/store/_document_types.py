"""Which classes are documents, and how each is kept."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias, cast, get_type_hints
from uuid import UUID

import attrs

from flowstore.errors import InvalidDocumentError, RegistrationError
from flowstore.store._indexes import ExpressionIndex, GinIndex, Index, check_index
from flowstore.store._names import document_table_name, is_storable

__all__ = ["DocumentId", "DocumentType", "DocumentTypes"]

DocumentId: TypeAlias = UUID | str | int
"""A document's identity: the value of its attribute `id`."""

IdColumn: TypeAlias = Literal["uuid", "text", "bigint"]

_COLUMNS: Final[dict[type, IdColumn]] = {UUID: "uuid", str: "text", int: "bigint"}
_USUAL: Final[dict[IdColumn, type[DocumentId]]] = {"uuid": UUID, "text": str, "bigint": int}


@attrs.frozen
class DocumentType:
    """Hold how documents of one class are kept.

    Attributes:
        type: the class.
        table: the table's name inside the store's schema.
        id_column: the type of the table's id column.
        optimistic_concurrency: whether storing a document that has changed since this session
            loaded it is refused.
        indexes: the table's indexes: names of fields that are looked for, `gin()`, `expression(...)`.
    """

    type: type
    table: str
    id_column: IdColumn
    optimistic_concurrency: bool = False
    indexes: tuple[Index, ...] = ()

    @property
    def usual_identity(self) -> Any:
        """The class that identities have, unless it is one derived from it."""
        return _USUAL[self.id_column]

    def identity_of(self, document: Any) -> DocumentId:
        """Read a document's identity.

        Raises:
            InvalidDocumentError: it is None, or of another type than the class says.
        """
        return self.checked(document.id)

    def checked(self, identity: Any) -> DocumentId:
        """Refuse an identity that the table's column can't hold, or give it back.

        Raises:
            InvalidDocumentError: it is None, or of another type than the class says.
        """
        given = cast("type[Any]", type(identity))
        if _COLUMNS.get(given) != self.id_column != _column_for(given):
            raise InvalidDocumentError(
                f"{identity!r} can't be the id of a {self.type.__name__}: it is of type"
                f" {type(identity).__name__}, and the class' ids are kept as {self.id_column}"
            )
        if isinstance(identity, str) and not is_storable(identity):
            raise InvalidDocumentError(
                f"{identity!r} can't be the id of a {self.type.__name__}: it holds NUL, or half of a"
                " surrogate pair, which PostgreSQL can't keep"
            )
        return identity


@attrs.define
class DocumentTypes:
    """Know the document types of a store; a type not registered gets the defaults at first use."""

    _known: dict[type, DocumentType] = attrs.field(factory=dict[type, DocumentType], init=False)

    def type(
        self,
        type: type,  # noqa: A002 - the public name of the argument is fixed
        *,
        name: str | None = None,
        optimistic_concurrency: bool = False,
        indexes: Sequence[Index] = (),
    ) -> None:
        """Register a class whose instances are documents.

        Args:
            type: a class with an `id` annotated as UUID, str or int.
            name: what the table's name is made of; the class' own name unless given.
            optimistic_concurrency: refuse to store a document that was changed by another since
                this session loaded it.
            indexes: names of fields to index by their values, `gin()` for whole documents, and
                `expression(...)` for SQL expressions. A store that opens refuses a field that the
                class isn't stored with.

        Raises:
            RegistrationError: the class has no such `id`, is registered otherwise already, or
                would share its table with another class; or an index can't be made.
        """
        if isinstance(cast("Any", indexes), (str, GinIndex, ExpressionIndex)):
            raise RegistrationError(
                f"{type.__qualname__}: indexes is {indexes!r} alone: give a list of names, gin()"
                " and expression(...)"
            )
        self._keep(_describe(type, name, optimistic=optimistic_concurrency, indexes=tuple(indexes)))

    def describe(self, cls: "type[Any]") -> DocumentType:
        """Tell how documents of a class are kept, registering it with the defaults if need be.

        Raises:
            RegistrationError: as `type` raises it.
        """
        known = self._known.get(cls)
        return known or self._keep(_describe(cls, None, optimistic=False, indexes=()))

    @classmethod
    def of(cls, kinds: "Iterable[DocumentType]") -> "DocumentTypes":
        """Make a catalogue of types that are described already."""
        catalogue = cls()
        for kind in kinds:
            catalogue._keep(kind)
        return catalogue

    def resolved(self, versions: Mapping["type[Any]", int]) -> "DocumentTypes":
        """Make the catalogue of an open store, which registers further types by itself.

        Args:
            versions: for classes that projections produce, the projection's version; each version
                from 2 on keeps its documents in a table of its own.

        Raises:
            RegistrationError: a class can't be a document, or two would share a table.
        """
        catalogue = DocumentTypes()
        for cls in dict.fromkeys([*self._known, *versions]):
            known = self._known.get(cls) or _describe(cls, None, optimistic=False, indexes=())
            version = versions.get(cls, 1)
            if version > 1:
                table = document_table_name(f"{known.table.removeprefix('doc_')}_v{version}")
                known = attrs.evolve(known, table=table)
            catalogue._keep(known)
        return catalogue

    def moved(self, tables: Mapping["type[Any]", str]) -> "DocumentTypes":
        """Make a catalogue that keeps some types in other tables, and all others as this one.

        Args:
            tables: the names of the other tables by class.
        """
        catalogue = DocumentTypes()
        for known in self:
            catalogue._keep(attrs.evolve(known, table=tables.get(known.type, known.table)))
        return catalogue

    def __iter__(self) -> Iterator[DocumentType]:
        return iter(tuple(self._known.values()))

    def _keep(self, described: DocumentType) -> DocumentType:
        for other in self._known.values():
            if other.table == described.table and other.type is not described.type:
                raise RegistrationError(
                    f"{other.type.__qualname__} and {described.type.__qualname__} would share"
                    f" table {described.table!r}: register one of them with another name="
                )
        known = self._known.setdefault(described.type, described)
        if known != described:
            raise RegistrationError(
                f"document type {described.type.__qualname__} is registered already, otherwise:"
                " register it once"
            )
        return known


def _describe(
    cls: "type[Any]", name: str | None, *, optimistic: bool, indexes: tuple[Index, ...]
) -> DocumentType:
    if not isinstance(cast("Any", cls), type):
        raise RegistrationError(f"{cls!r} can't be a document type: give the documents' class")
    for index in indexes:
        check_index(cls.__qualname__, index)
    table = document_table_name(cls.__name__ if name is None else name)
    return DocumentType(cls, table, _id_column(cls), optimistic, tuple(dict.fromkeys(indexes)))


def _column_for(kind: Any) -> IdColumn | None:
    """Find the column for an id's type; bool is no number here."""
    kind = getattr(kind, "__supertype__", kind)
    if not isinstance(kind, type) or kind is bool:
        return None
    return next((column for base, column in _COLUMNS.items() if issubclass(kind, base)), None)


def _id_column(cls: "type[Any]") -> IdColumn:
    try:
        annotation = get_type_hints(cls).get("id")
    except (NameError, TypeError) as cause:
        raise RegistrationError(
            f"{cls.__qualname__} can't be a document: its annotations can't be resolved: {cause}"
        ) from cause
    if annotation is None:
        raise RegistrationError(
            f"{cls.__qualname__} can't be a document: it has no annotated attribute 'id'"
        )
    column = _column_for(annotation)
    if column is None:
        raise RegistrationError(
            f"{cls.__qualname__} can't be a document: its id is annotated {annotation!r}, and a"
            " document's id is a UUID, a str or an int"
        )
    return column
