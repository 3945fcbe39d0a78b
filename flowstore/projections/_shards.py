"""Names under which a projection's progress and documents are kept."""

from typing import Any

from flowstore.errors import RegistrationError
from flowstore.events import LONGEST_NAME
from flowstore.projections._protocols import IProjection

__all__ = ["check_name", "check_version", "document_key", "shard_name"]


def shard_name(projection: IProjection) -> str:
    """Name the shard that runs a projection: its name, from version 2 on as in `Trip:v2`.

    So a changed version begins with no progress, and leaves that of the old one alone.
    """
    return projection.name + _suffix(projection)


def document_key(projection: IProjection) -> str | None:
    """Name the place of a projection's documents: their class, from version 2 on as in `Trip:v2`.

    Returns:
        None if it produces no documents.
    """
    produces = projection.produces
    return None if produces is None else produces.__name__ + _suffix(projection)


def check_name(_: Any, __: Any, name: Any) -> None:
    """Refuse a name that can't be kept.

    Raises:
        RegistrationError: it isn't text, is blank, holds what PostgreSQL can't keep, or has more
            than 63 bytes, as for all names.
    """
    if not isinstance(name, str) or not name.strip():
        raise RegistrationError(f"{name!r} can't be a projection's name: give it one of text")
    if "\0" in name or any("\ud800" <= letter <= "\udfff" for letter in name):
        raise RegistrationError(
            f"{name!r} can't be a projection's name: PostgreSQL can't keep its NUL, or its half of"
            " a surrogate pair"
        )
    if len(name.encode()) > LONGEST_NAME:
        raise RegistrationError(
            f"{name!r} can't be a projection's name: it has {len(name.encode())} bytes, and names"
            f" have {LONGEST_NAME} at most; give a shorter name="
        )


def check_version(_: Any, __: Any, version: Any) -> None:
    """Refuse a version that can't be kept.

    Raises:
        RegistrationError: it isn't a whole number from 1.
    """
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise RegistrationError(f"{version!r} can't be a projection's version: count from 1")


def _suffix(projection: IProjection) -> str:
    # The Protocol doesn't ask for a version: what has none is at its first.
    version: int = getattr(projection, "version", 1)
    return "" if version == 1 else f":v{version}"
