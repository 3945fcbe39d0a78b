"""Creating the schema, bringing it up to date, and checking that it is what this store needs."""

from collections.abc import Sequence
from typing import Final, Literal, TypeAlias

import attrs

from flowstore.errors import SchemaError
from flowstore.postgres import Connection
from flowstore.store._migrations import Migration, packaged_migrations, pending_migrations
from flowstore.store._sql import SchemaSql

__all__ = [
    "CREATE_MIGRATIONS",
    "CREATE_SCHEMA",
    "LOCK",
    "AutoCreate",
    "SchemaFacts",
    "lock_schema",
    "prepare_schema",
    "read_applied",
    "read_facts",
]

AutoCreate: TypeAlias = Literal["all", "create_or_update", "create_only", "none"]

# Two-key advisory locks are another space than the one-key locks that appenders publish bounds in.
LOCK: Final = "select pg_advisory_xact_lock(hashtext('flowstore schema'), hashtext({bare_name}))"
# Asks the catalogue's tables, not to_regclass: that answers from a cache that waiting for an
# advisory lock doesn't renew, and would not see what the lock's last holder has created.
_EXISTS: Final = """
select
    exists (select from pg_catalog.pg_namespace n where n.nspname = %s),
    exists (
        select from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
        where n.nspname = %s and c.relname = 'migrations'
    )"""
_APPLIED: Final = "select number, checksum from {schema}.migrations"
CREATE_SCHEMA: Final = "create schema {schema}"
CREATE_MIGRATIONS: Final = """
create table {schema}.migrations (
    number integer primary key,
    name text not null,
    checksum text not null,
    applied timestamptz not null default clock_timestamp()
)"""
_REMEMBER: Final = "insert into {schema}.migrations (number, name, checksum) values (%s, %s, %s)"
_FACTS: Final = """
select
    {events_name}::regclass::oid::bigint,
    (
        select format_type(a.atttypid, null) from pg_catalog.pg_attribute a
        where a.attrelid = {events_name}::regclass and a.attname = 'stream_id'
    ),
    (select s.seqcache from pg_catalog.pg_sequence s where s.seqrelid = {sequence_name}::regclass)
"""


@attrs.frozen
class SchemaFacts:
    """Hold what the database says of an existing schema.

    Attributes:
        events_oid: the events table's oid; distinguishes schemas within a database.
        stream_id_type: the type of its column `stream_id`.
        sequence_cache: how many numbers a session may draw ahead.
    """

    events_oid: int
    stream_id_type: str
    sequence_cache: int

    def check(self, sql: SchemaSql) -> None:
        """Refuse a schema that was made for other options, or changed into an unsafe one.

        Raises:
            SchemaError: streams are known by another type, or the sequence hands out blocks.
        """
        expected = "uuid" if sql.stream_identity == "uuid" else "text"
        if self.stream_id_type != expected:
            raise SchemaError(
                f"schema {sql.schema!r} knows streams by {self.stream_id_type}, and these options"
                f" say stream_identity={sql.stream_identity!r}: open it with the other, or use"
                " another schema"
            )
        if self.sequence_cache != 1:
            raise SchemaError(
                f"the sequence of schema {sql.schema!r} has CACHE {self.sequence_cache}, with"
                " which readers would pass events: alter it back to CACHE 1"
            )


async def prepare_schema(
    connection: Connection, sql: SchemaSql, auto_create: AutoCreate
) -> SchemaFacts:
    """Create what is missing, as far as `auto_create` allows, and check the result.

    Several processes may do this at once: the work is done by one, under an advisory lock.

    Raises:
        SchemaError: something is missing that may not be created, or isn't as expected.
    """
    known = packaged_migrations()
    _, _, applied = await read_applied(connection, sql)
    pending = pending_migrations(sql.schema, known, applied)
    if pending:
        _check_allowed(sql.schema, pending, known, auto_create)
        await _migrate(connection, sql, known)
    return await read_facts(connection, sql)


async def read_facts(connection: Connection, sql: SchemaSql) -> SchemaFacts:
    """Ask what a schema that is there was made for.

    Raises:
        SchemaError: it was made for other options, or changed into an unsafe one.
    """
    cursor = await connection.execute(sql.statement(_FACTS), ())
    row = await cursor.fetchone()
    assert row is not None  # noqa: S101 - a select without a from clause has one row
    facts = SchemaFacts(*row)
    facts.check(sql)
    return facts


async def lock_schema(connection: Connection, sql: SchemaSql) -> None:
    """Wait until no other transaction is changing the schema; held until this one ends."""
    await connection.execute(sql.script(LOCK))


def _check_allowed(
    schema: str, pending: Sequence[Migration], known: Sequence[Migration], auto_create: AutoCreate
) -> None:
    names = ", ".join(each.title for each in pending)
    if auto_create == "none":
        raise SchemaError(
            f"schema {schema!r} lacks {names}, and auto_create='none' creates nothing: apply them"
            " first, see `flowstore db apply`"
        )
    if auto_create == "create_only" and len(pending) < len(known):
        raise SchemaError(
            f"schema {schema!r} lacks {names}, and auto_create='create_only' changes nothing that"
            " exists: open it once with auto_create='create_or_update'"
        )


async def read_applied(connection: Connection, sql: SchemaSql) -> tuple[bool, bool, dict[int, str]]:
    """Tell whether there are a schema and its bookkeeping, and what that remembers."""
    cursor = await connection.execute(_EXISTS, (sql.schema, sql.schema))
    has_schema, has_table = await cursor.fetchone() or (False, False)
    if not has_table:
        return has_schema, False, {}
    cursor = await connection.execute(sql.statement(_APPLIED), ())
    return True, True, dict(await cursor.fetchall())


async def _migrate(connection: Connection, sql: SchemaSql, known: Sequence[Migration]) -> None:
    async with connection.transaction():
        await lock_schema(connection, sql)
        # Read again: whoever held the lock before may have done it all.
        has_schema, has_table, applied = await read_applied(connection, sql)
        pending = pending_migrations(sql.schema, known, applied)
        # `if not exists` would ask for the right to create even where there is nothing to create.
        if not has_schema:
            await connection.execute(sql.script(CREATE_SCHEMA))
        if not has_table:
            await connection.execute(sql.script(CREATE_MIGRATIONS))
        for migration in pending:
            await connection.execute(sql.script(migration.text))
            values = (migration.number, migration.name, migration.checksum)
            await connection.execute(sql.statement(_REMEMBER), values)
