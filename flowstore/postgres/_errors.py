"""psycopg's errors as flowstore's, and connection strings without their passwords."""

from types import TracebackType
from typing import Final

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from flowstore.errors import (
    DatabaseError,
    DatabaseUnavailableError,
    InsufficientPrivilegeError,
)

SECRETS: Final = ("password", "sslpassword", "oauth_client_secret")

# What PostgreSQL answers while it can't serve anybody: connection exceptions (class 08), too many
# connections, and the three ways of shutting down or not being up yet.
UNAVAILABLE: Final = frozenset({"53300", "57P01", "57P02", "57P03"})


class translate_errors:  # noqa: N801 - used as a verb: `with translate_errors():`
    """Turn psycopg's errors inside the block into flowstore's.

    A class, because every statement passes through one, and a generator takes five times as long.

    Raises:
        DatabaseUnavailableError: the server can't be reached, or the connection to it was lost.
        InsufficientPrivilegeError: the role lacks a right; what gives it, if somebody found out,
            stands in the notes of psycopg's error.
        DatabaseError: PostgreSQL, or psycopg, refused the statement.
    """

    __slots__ = ()

    def __enter__(self) -> None:
        """Begin the block."""

    def __exit__(
        self,
        _: type[BaseException] | None,
        error: BaseException | None,
        __: TracebackType | None,
    ) -> None:
        """End the block."""
        if isinstance(error, psycopg.Error):
            raise _translated(error) from error


def _translated(error: psycopg.Error) -> DatabaseError:
    message = str(error).strip() or type(error).__name__
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        notes: list[str] = getattr(error, "__notes__", [])
        grants = [note for note in notes if note.startswith("GRANT ")]
        return InsufficientPrivilegeError(message, sqlstate=error.sqlstate, grants=grants)
    kind = DatabaseUnavailableError if _is_unavailability(error) else DatabaseError
    return kind(message, sqlstate=error.sqlstate)


def _is_unavailability(error: psycopg.Error) -> bool:
    if error.sqlstate is None:
        # No word from the server: psycopg's own errors about the socket are OperationalErrors.
        return isinstance(error, psycopg.OperationalError)
    return error.sqlstate.startswith("08") or error.sqlstate in UNAVAILABLE


def redact(dsn: str) -> str:
    """Give the connection string without its secrets, for reprs and logs.

    A string that libpq can't parse is shown as a placeholder, because nobody can tell where its
    password ends.
    """
    try:
        params = conninfo_to_dict(dsn)
    except psycopg.Error:
        return "<unreadable connection string>"
    return make_conninfo("", **{key: value for key, value in params.items() if key not in SECRETS})
