"""Documents to JSON text, and back."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast
from uuid import UUID

from cattrs import Converter

from flowstore.codec._direct import DirectReading, else_by
from flowstore.codec._direct_writing import DirectWriting
from flowstore.codec._hooks import Hooks
from flowstore.codec._json import EncodingLimits, from_json, to_json
from flowstore.codec._keys import stored_keys
from flowstore.codec._problems import problems
from flowstore.errors import InvalidDocumentError

__all__ = ["DocumentCodec"]

_T = TypeVar("_T")


class DocumentCodec:
    """Translate between documents and JSON text.

    Args:
        converter: what classes mean as JSON; usually the one of the event registry.
        limits: what one document may weigh.
    """

    def __init__(self, converter: Converter, limits: EncodingLimits | None = None) -> None:
        self._limits = limits or EncodingLimits()
        self._converter = converter
        self._hooks = Hooks(converter, InvalidDocumentError)
        self._direct = DirectReading(converter)
        self._direct_writing = DirectWriting(converter, self._limits)
        self._writers: dict[type, Callable[[Any], str | None] | None] = {}
        self._readers: dict[type, Callable[[str | bytes], Any]] = {}
        self._keys: dict[type, Mapping[str, str] | None] = {}

    def encode(self, document: Any) -> str:
        """Write a document as JSON text that the database will take.

        Raises:
            InvalidDocumentError: it can't be stored; the message names the type and the place.
            RegistrationError: an annotation of its type can't be resolved.
        """
        kind = cast("type[Any]", type(document))
        try:
            write = self._writers[kind]
        except KeyError:
            write = self._writers[kind] = self._direct_writing.writer(kind)
        if write is not None and (text := write(document)) is not None:
            return text
        return to_json(
            self._hooks.unstructure(document),
            what=kind.__name__,
            limits=self._limits,
            error=InvalidDocumentError,
        )

    def decode(self, document_type: type[_T], text: str | bytes) -> _T:
        """Read a document of a type.

        Raises:
            InvalidDocumentError: the JSON doesn't fit the type.
            RegistrationError: an annotation of the type can't be resolved.
        """
        reader = self._readers.get(document_type)
        if reader is None:
            reader = self._readers[document_type] = self._make_reader(document_type)
        return reader(text)

    def identity_of(self, document: Any) -> UUID | str | int:
        """Give a document's identity.

        Raises:
            InvalidDocumentError: it has no `id`, or one that isn't a UUID, text or a number.
        """
        identity = getattr(document, "id", None)
        if isinstance(identity, bool) or not isinstance(identity, (UUID, str, int)):
            raise InvalidDocumentError(
                f"{type(document).__name__} has the id {identity!r}: a document's identity is its"
                " field `id`, a UUID, str or int"
            )
        return identity

    def keys_of(self, document_type: type) -> Mapping[str, str] | None:
        """Give the names of a type's fields by their keys in its JSON.

        Returns:
            None where only an application's own hook knows.
        """
        if document_type not in self._keys:
            self._keys[document_type] = stored_keys(self._converter, document_type)
        return self._keys[document_type]

    def _make_reader(self, document_type: type) -> Callable[[str | bytes], Any]:
        structure = self._hooks.structure_hook(document_type)
        what = f"a {document_type.__name__}"

        def read(text: str | bytes) -> Any:
            value = from_json(text, what=what, error=InvalidDocumentError)
            try:
                return structure(value, document_type)
            except Exception as cause:  # a class and its hooks may raise anything
                raise InvalidDocumentError(
                    f"{what} is stored in a shape that doesn't fit the class:"
                    f" {problems(cause)}; rebuild its projection, or give what was"
                    " added a default"
                ) from cause

        direct = self._direct.reader(document_type)
        return read if direct is None else else_by(direct, read)
