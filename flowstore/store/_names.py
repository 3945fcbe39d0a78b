"""Names in the database: what may be one, and how each is derived."""

import re
from typing import Final

from flowstore.errors import RegistrationError, SchemaError

__all__ = [
    "DEFAULT_TENANT",
    "LONGEST_NAME",
    "check_schema_name",
    "document_table_name",
    "stored_tenant",
    "told_tenant",
]

LONGEST_NAME: Final = 63
"""Bytes PostgreSQL keeps of a name (NAMEDATALEN - 1); it cuts the rest off without an error."""

DEFAULT_TENANT: Final = "*DEFAULT*"
"""The tenant column's value where no tenant was named."""

_word_boundary = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def _problem_with(name: str) -> str | None:
    """Say why PostgreSQL wouldn't keep a name as it is, or None."""
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
        SchemaError: it is empty, longer than 63 bytes, unprintable, or PostgreSQL's own.
    """
    problem = _problem_with(name)
    if problem is None and name.startswith("pg_"):
        problem = "begins with 'pg_', which PostgreSQL keeps for itself"
    if problem is not None:
        raise SchemaError(f"the schema name {name!r} {problem}: choose another")


def document_table_name(document_name: str) -> str:
    """Derive the table that documents of a name are kept in: `ActiveProject`: `doc_active_project`.

    Raises:
        RegistrationError: the table's name would be longer than 63 bytes, or unprintable.
    """
    table = "doc_" + _word_boundary.sub("_", document_name).lower()
    problem = _problem_with(table)
    if problem is not None:
        raise RegistrationError(
            f"documents named {document_name!r} would be kept in table {table!r}, whose name"
            f" {problem}: register the type with a shorter name="
        )
    return table


def stored_tenant(tenant_id: str | None) -> str:
    """Give the tenant column's value for a tenant, or for none."""
    return DEFAULT_TENANT if tenant_id is None else tenant_id


def told_tenant(stored: str) -> str | None:
    """Give the tenant that a tenant column's value stands for, or None for none."""
    return None if stored == DEFAULT_TENANT else stored
