"""What is done to a schema as a whole, from code or the command line, without opening a store."""

from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from typing import Final

from flowstore.errors import SchemaError
from flowstore.postgres import Connection, translate_errors, watched_connection
from flowstore.store._migrations import pending_migrations
from flowstore.store._options import StoreOptions
from flowstore.store._schema import LOCK, lock_schema, read_applied, read_facts
from flowstore.store._schema_plan import (
    NOTHING,
    SchemaFound,
    SchemaTarget,
    Step,
    plan_schema,
    target_of,
)
from flowstore.store._schema_privileges import explained, grants_for
from flowstore.store._schema_shape import SCRATCH, differences, read_expected, read_shape
from flowstore.store._sql import SchemaSql
from flowstore.store._tables import read_id_columns, read_indexes

__all__ = ["apply_schema", "assert_schema", "dump_schema", "patch_schema", "schema_grants"]

_HEADER: Final = "-- flowstore, schema {}: {}.\n"
_SETTINGS: Final = """\
begin;
-- As this text was written, whatever the client's own settings are.
set local client_encoding to 'UTF8';
set local standard_conforming_strings to on;
-- Whoever else brings the schema up waits.
"""


async def apply_schema(dsn: str, options: StoreOptions) -> tuple[str, ...]:
    """Bring a schema up: its migrations, document tables, their indexes, and flat tables.

    In one transaction, under an advisory lock: several processes may do this at once. What the
    options say of `auto_create` is for opening a store, and doesn't matter here.

    Args:
        dsn: where the database is.
        options: what the store is opened with, its document types and projections registered.

    Returns:
        What was done, step by step; empty where nothing was lacking.

    Raises:
        SchemaError: the schema can't be brought there: a newer version made it, say.
        RegistrationError: a document type or flat table can't be kept.
        InsufficientPrivilegeError: the role may not create what is missing.
        DatabaseError: PostgreSQL refused, or can't be reached.
    """
    target = target_of(options)
    async with _connected(dsn, target) as connection, connection.transaction():
        await lock_schema(connection, target.sql)
        steps = plan_schema(target, await _read_found(connection, target))
        for step in steps:
            await connection.execute(step.script)
        await read_facts(connection, target.sql)
    return tuple(step.title for step in steps)


async def assert_schema(dsn: str, options: StoreOptions) -> None:
    """Refuse a schema that isn't what a store with these options needs.

    It is compared with one that the same scripts make in the connection's temporary schema, which
    is rolled back: the role needs TEMPORARY on the database, as everybody has by default. What is
    in the schema beside is no difference.

    Args:
        dsn: where the database is.
        options: what the store is opened with, its document types and projections registered.

    Raises:
        SchemaError: the message names everything that is missing or different, a line each.
        RegistrationError: a document type or flat table can't be kept.
        DatabaseError: PostgreSQL refused, or can't be reached.
    """
    target = target_of(options)
    async with _connected(dsn, target) as connection:
        found = [line async for line in _differences(connection, target)]
    if found:
        lines = "".join(f"\n  {line}" for line in found)
        raise SchemaError(f"schema {target.sql.schema!r} is not what this store needs:{lines}")


async def patch_schema(dsn: str, options: StoreOptions) -> str:
    """Write the SQL that `apply_schema` would run, for somebody else to run.

    Args:
        dsn: where the database is; nothing is changed there.
        options: what the store is opened with, its document types and projections registered.

    Returns:
        One transaction, for psql or any other client, with the rows of the table of migrations;
        only a comment where nothing is lacking.

    Raises:
        SchemaError: the schema can't be brought there.
        RegistrationError: a document type or flat table can't be kept.
        DatabaseError: PostgreSQL refused, or can't be reached.
    """
    target = target_of(options)
    async with _connected(dsn, target) as connection:
        found = await _read_found(connection, target)
    steps = plan_schema(target, found)
    if not steps:
        return _HEADER.format(_told(target), "nothing is lacking")
    return _written(target, "what it lacks", steps)


def dump_schema(options: StoreOptions) -> str:
    """Write the SQL of the whole schema, from nothing. The same options give the same text.

    Args:
        options: what the store is opened with, its document types and projections registered.

    Returns:
        One transaction, for psql or any other client, with the rows of the table of migrations.

    Raises:
        SchemaError: this installation lacks a migration.
        RegistrationError: a document type or flat table can't be kept.
    """
    target = target_of(options)
    return _written(target, "all of it", plan_schema(target, NOTHING))


def schema_grants(options: StoreOptions, role: str) -> str:
    """Write the grants that a role needs to run a store that somebody else owns.

    Args:
        options: what the store is opened with, its document types and projections registered.
        role: who is to run it.

    Returns:
        One statement a line, to be run by the owner.

    Raises:
        SchemaError: the role's name can't be one, or this installation lacks a migration.
        RegistrationError: a document type or flat table can't be kept.
    """
    if not role or "\0" in role or len(role.encode(errors="replace")) > _LONGEST_ROLE:
        raise SchemaError(f"{role!r} can't be a role's name: give one of up to 63 bytes")
    target = target_of(options)
    grants = grants_for(target.sql.schema, target.objects(), role)
    return "".join(f"{grant};\n" for grant in grants)


_LONGEST_ROLE: Final = 63


@asynccontextmanager
async def _connected(dsn: str, target: SchemaTarget) -> AsyncGenerator[Connection]:
    with translate_errors():
        async with explained(dsn, target.sql), watched_connection(dsn) as connection:
            yield connection


async def _read_found(connection: Connection, target: SchemaTarget) -> SchemaFound:
    """Ask what there is.

    Raises:
        SchemaError: it was made for other options, or a name belongs to something else.
    """
    sql = target.sql
    has_schema, has_bookkeeping, applied = await read_applied(connection, sql)
    # Before anything else is asked, so that a schema that nobody here knows is refused as such.
    pending_migrations(sql.schema, target.migrations, applied)
    if applied:
        await read_facts(connection, sql)
    names = [table.name for table in target.tables]
    return SchemaFound(
        has_schema=has_schema,
        has_bookkeeping=has_bookkeeping,
        applied=applied,
        id_columns=await read_id_columns(connection, sql, target.documents),
        indexes=await read_indexes(connection, sql, target.documents),
        flat=await target.flat.read(connection, names),
    )


async def _differences(connection: Connection, target: SchemaTarget) -> AsyncGenerator[str]:
    sql = target.sql
    has_schema, _, applied = await read_applied(connection, sql)
    if not has_schema:
        yield "the schema doesn't exist"
        return
    try:
        pending = pending_migrations(sql.schema, target.migrations, applied)
    except SchemaError as error:
        yield str(error)
        pending = ()
    for migration in pending:
        yield f"migration {migration.title} is missing"
    expected = await read_expected(connection, target)
    for line in differences(expected, await read_shape(connection, sql, SchemaSql(SCRATCH))):
        yield line


def _told(target: SchemaTarget) -> str:
    """Name the schema in a comment, which a line break would end; no schema's name has one."""
    return f"{target.sql.schema!r}, streams known by {target.sql.stream_identity}"


def _written(target: SchemaTarget, what: str, steps: Iterable[Step]) -> str:
    lock = target.sql.script(LOCK).decode()
    opening = f"{_HEADER.format(_told(target), what)}{_SETTINGS}{lock};\n"
    done = "".join(f"\n-- {step.title}\n{step.script.decode().strip()};\n" for step in steps)
    return f"{opening}{done}\ncommit;\n"
