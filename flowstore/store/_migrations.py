"""The schema's numbered scripts, and which of them a database still lacks."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Final, LiteralString, cast

import attrs

from flowstore.errors import SchemaError

__all__ = ["Migration", "check_numbering", "packaged_migrations", "pending_migrations"]

_numbered: Final = re.compile(r"(\d{4})_(\w+)\.sql")


@attrs.frozen
class Migration:
    """Hold one script.

    Attributes:
        number: its place, from 1, without gaps.
        name: what it is about.
        text: the template, see `SchemaSql`.
    """

    number: int
    name: str
    text: LiteralString

    @property
    def title(self) -> str:
        """Number and name, as its file has them."""
        return f"{self.number:04}_{self.name}"

    @property
    def checksum(self) -> str:
        """Tell this text from any other."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def packaged_migrations() -> tuple[Migration, ...]:
    """Read the scripts that came with this version, in order.

    Raises:
        SchemaError: the installation lacks one.
    """
    folder = resources.files("flowstore.store") / "sql"
    found: list[Migration] = []
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        match = _numbered.fullmatch(entry.name)
        if match:
            # Literal in spirit: these files are part of the package, like its source.
            text = cast("LiteralString", entry.read_text(encoding="utf-8"))
            found.append(Migration(int(match[1]), match[2], text))
    check_numbering(found)
    return tuple(found)


def check_numbering(known: Sequence[Migration]) -> None:
    """Refuse scripts whose numbers aren't 1, 2, 3 and so on.

    Raises:
        SchemaError: one is missing, or two have one number.
    """
    for expected, migration in enumerate(known, start=1):
        if migration.number != expected:
            raise SchemaError(
                f"this flowstore's migrations aren't numbered without gaps: {migration.title}"
                f" stands where number {expected} has to: install it anew"
            )


def pending_migrations(
    schema: str, known: Sequence[Migration], applied: Mapping[int, str]
) -> tuple[Migration, ...]:
    """Decide which scripts a schema lacks.

    Args:
        schema: the schema's name, for messages.
        known: the scripts of this version, in order.
        applied: checksum by number, as the database remembers them.

    Raises:
        SchemaError: the schema was made by a newer version, or by a script that has changed since,
            or has had a later script applied without an earlier one.
    """
    newest = max(applied, default=0)
    if newest > len(known):
        raise SchemaError(
            f"schema {schema!r} is at migration {newest}, and this flowstore knows {len(known)}:"
            " install the version that made it, or a later one"
        )
    holes = sorted(set(range(1, newest)) - set(applied))
    if holes:
        raise SchemaError(
            f"schema {schema!r} is at migration {newest}, and its table of migrations lacks"
            f" {', '.join(map(str, holes))}: scripts are never applied out of order; put back the"
            " rows that were deleted, or use a fresh schema"
        )
    for migration in known:
        stored = applied.get(migration.number)
        if stored is not None and stored != migration.checksum:
            raise SchemaError(
                f"schema {schema!r} was made by another text of migration {migration.number}"
                f" ({migration.name}): its checksum is {stored[:12]}, not"
                f" {migration.checksum[:12]}; use a released flowstore, or a fresh schema"
            )
    return tuple(migration for migration in known if migration.number not in applied)
