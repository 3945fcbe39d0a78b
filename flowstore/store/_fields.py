"""Fields that an application names by text: those that a class is stored with, and no others."""

from collections.abc import Iterable, Mapping

from flowstore.codec import stored_keys
from flowstore.errors import RegistrationError, UnknownFieldError
from flowstore.store._document_types import DocumentType, DocumentTypes
from flowstore.store._options import StoreOptions

__all__ = ["check_found_by", "stored_documents"]


def check_found_by(
    kind: DocumentType, keys: Mapping[str, str] | None, names: Iterable[str]
) -> None:
    """Refuse to look for documents by a field that they aren't stored with.

    Nothing would be found by it, which looks like an answer.

    Args:
        kind: the documents.
        keys: the names of the class' fields by their keys in its JSON; None: nobody knows.
        names: what is looked for.

    Raises:
        UnknownFieldError: a name is no key.
    """
    if keys is None:
        return
    for name in names:
        if name not in keys:
            stored_as = next((key for key, field in keys.items() if field == name), None)
            raise UnknownFieldError(kind.type.__name__, name, sorted(keys), stored_as=stored_as)


def stored_documents(options: StoreOptions) -> DocumentTypes:
    """Make the catalogue of an open store: of what is registered, and what projections produce.

    Raises:
        RegistrationError: a class can't be a document, two would share a table, or an index is of
            a field that its class isn't stored with.
    """
    catalogue = options.documents.resolved(options.projections.produced())
    for kind in catalogue:
        fields = [index for index in kind.indexes if isinstance(index, str)]
        if fields:
            _check_indexed(kind, fields, stored_keys(options.events.converter, kind.type))
    return catalogue


def _check_indexed(
    kind: DocumentType, fields: Iterable[str], keys: Mapping[str, str] | None
) -> None:
    try:
        check_found_by(kind, keys, fields)
    except UnknownFieldError as error:
        raise RegistrationError(
            f"{kind.type.__qualname__} has an index on {error.field!r}, and is stored with no such"
            f" field, only with {', '.join(map(repr, error.known))}: name one of these, or index"
            " anything else by expression(...)"
        ) from error
