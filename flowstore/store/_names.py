"""Names in the database: what may be one, and how each is derived."""

import hashlib
import re
from collections.abc import Iterable
from typing import Any, Final

from flowstore.errors import (
    InvalidEventError,
    InvalidTenantError,
    RegistrationError,
    SchemaError,
)
from flowstore.events import LONGEST_NAME

__all__ = [
    "DEFAULT_TENANT",
    "check_event_text",
    "check_index_field",
    "check_schema_name",
    "derived_name",
    "document_table_name",
    "is_storable",
    "refuse_shared_names",
    "stored_tenant",
    "told_tenant",
]

DEFAULT_TENANT: Final = "*DEFAULT*"
"""The tenant column's value where no tenant was named."""

_word_boundary = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def _problem_with(name: Any) -> str | None:
    """Say why PostgreSQL wouldn't keep a name as it is, or None."""
    if not isinstance(name, str):
        return f"is a {type(name).__name__}, no text"
    size = len(name.encode(errors="surrogatepass"))
    if not name:
        return "is empty"
    if "\0" in name or not name.isprintable():
        return "holds unprintable characters"
    if size > LONGEST_NAME:
        return f"has {size} bytes, and PostgreSQL would cut it off at {LONGEST_NAME}"
    return None


def check_schema_name(name: str) -> None:
    """Refuse a schema name that PostgreSQL would refuse, or change.

    Raises:
        SchemaError: it is no text, empty, longer than 63 bytes, unprintable, or PostgreSQL's own.
    """
    problem = _problem_with(name)
    if problem is None and name.startswith("pg_"):
        problem = "begins with 'pg_', which PostgreSQL keeps for itself"
    if problem is None and name == "information_schema":
        problem = "is that of PostgreSQL's own catalogue"
    if problem is not None:
        raise SchemaError(f"the schema name {name!r} {problem}: choose another")


def document_table_name(document_name: Any) -> str:
    """Derive the table that documents of a name are kept in: `ActiveProject`: `doc_active_project`.

    Raises:
        RegistrationError: it is no text or blank, or the table's name would be longer than 63
            bytes, or unprintable.
    """
    if not isinstance(document_name, str) or not document_name.strip():
        raise RegistrationError(f"{document_name!r} can't be a document type's name: give it text")
    table = "doc_" + _word_boundary.sub("_", document_name).lower()
    problem = _problem_with(table)
    if problem is not None:
        raise RegistrationError(
            f"documents named {document_name!r} would be kept in table {table!r}, whose name"
            f" {problem}: register the type with a shorter name="
        )
    return table


def derived_name(table: str, *parts: str) -> str:
    """Name what belongs to a table: `doc_note` and `pkey` give `doc_note_pkey`.

    PostgreSQL would cut off a name of more than 63 bytes, and two could become one: such a name
    is the last part and a digest of the whole.
    """
    name = "_".join((table, *parts))
    if len(name.encode()) <= LONGEST_NAME:
        return name
    return f"{parts[-1]}_{hashlib.sha256(name.encode()).hexdigest()[:40]}"


def check_index_field(document: str, field: Any) -> None:
    """Refuse a field that no index can be named after.

    Raises:
        RegistrationError: it is no text, empty or unprintable.
    """
    if not isinstance(field, str) or not field or not field.isprintable():
        raise RegistrationError(
            f"{document} can't have an index on {field!r}: name a field, as text that is printable"
        )


def refuse_shared_names(named: Iterable[tuple[str, str]]) -> None:
    """Refuse two relations of one name: tables and indexes of a schema share one set of names.

    Args:
        named: names, each with what would have it.

    Raises:
        RegistrationError: a name comes twice.
    """
    seen: dict[str, str] = {}
    for name, what in named:
        if name in seen:
            raise RegistrationError(
                f"{seen[name]} and {what} would both be called {name!r} in the database: give one"
                " of them another name"
            )
        seen[name] = what


def stored_tenant(tenant_id: str | None) -> str:
    """Give the tenant column's value for a tenant, or for none.

    Raises:
        InvalidTenantError: it can't be stored, or stands for no tenant already.
    """
    if tenant_id is None:
        return DEFAULT_TENANT
    problem = _problem_with_tenant(tenant_id)
    if problem is not None:
        raise InvalidTenantError(f"{tenant_id!r} can't be a tenant: it {problem}")
    return tenant_id


def _problem_with_tenant(tenant_id: Any) -> str | None:
    if not isinstance(tenant_id, str):
        return f"is a {type(tenant_id).__name__}, and a tenant is known by text"
    if tenant_id == DEFAULT_TENANT:
        return "stands for what belongs to no tenant: leave tenant_id out"
    if not tenant_id.strip():
        return "is blank"
    if not is_storable(tenant_id):
        return "holds NUL, or half of a surrogate pair, which PostgreSQL can't keep"
    if len(tenant_id.encode()) > LONGEST_NAME:
        return f"has {len(tenant_id.encode())} bytes, and names have {LONGEST_NAME} at most"
    return None


def told_tenant(stored: str) -> str | None:
    """Give the tenant that a tenant column's value stands for, or None for none."""
    return None if stored == DEFAULT_TENANT else stored


def is_storable(text: str) -> bool:
    """Tell whether PostgreSQL's text can hold it: no NUL, and no half of a surrogate pair."""
    return "\0" not in text and not any("\ud800" <= letter <= "\udfff" for letter in text)


def check_event_text(text: Any, what: str) -> None:
    """Refuse what can't be kept beside an event: anything but text that is storable, or None.

    Args:
        text: the value.
        what: which one it is, for the message.

    Raises:
        InvalidEventError: it is no text, or holds what PostgreSQL can't keep.
    """
    if text is None or (type(text) is str and text.isascii() and "\0" not in text):
        return
    if not isinstance(text, str):
        raise InvalidEventError(f"{what} is {text!r}, a {type(text).__name__}: it takes text")
    if not is_storable(text):
        raise InvalidEventError(
            f"{what} is {text!r}: it holds NUL, or half of a surrogate pair, which PostgreSQL"
            " can't keep"
        )
