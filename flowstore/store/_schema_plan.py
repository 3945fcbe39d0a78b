"""Deciding what a schema lacks, and in which steps it is brought up: plain, without a database."""

from collections.abc import Collection, Iterator, Mapping
from typing import Final
from uuid import UUID

import attrs
from psycopg import sql as composing

from flowstore.projections import Table
from flowstore.store._document_types import DocumentType
from flowstore.store._fields import stored_documents
from flowstore.store._indexes import index_name, told_index
from flowstore.store._migrations import Migration, packaged_migrations, pending_migrations
from flowstore.store._names import derived_name, refuse_shared_names
from flowstore.store._options import StoreOptions
from flowstore.store._schema import CREATE_MIGRATIONS, CREATE_SCHEMA
from flowstore.store._schema_flat import FlatSchema
from flowstore.store._schema_privileges import SchemaObject, indexed_by, made_by, of_kind
from flowstore.store._sql import SchemaSql
from flowstore.store._tables import index_scripts, key_name, missing_tables, table_script

__all__ = ["NOTHING", "SchemaFound", "SchemaTarget", "Step", "plan_schema", "target_of"]

_REMEMBERED: Final = """
insert into {schema}.migrations (number, name, checksum) values ({number}, {name}, {checksum})"""


@attrs.frozen
class SchemaTarget:
    """Say what a schema is to hold.

    Attributes:
        sql: puts in its names.
        migrations: the scripts of this version, in order.
        documents: the document types that are registered or produced.
        flat: decides what flat tables lack.
        tables: the flat tables of projections.
    """

    sql: SchemaSql
    migrations: tuple[Migration, ...]
    documents: tuple[DocumentType, ...]
    flat: FlatSchema
    tables: tuple[Table, ...]

    def moved_to(self, schema: str) -> "SchemaTarget":
        """Give the same for a schema of another name."""
        sql = SchemaSql(schema, self.sql.stream_identity)
        return attrs.evolve(self, sql=sql, flat=attrs.evolve(self.flat, sql=sql))

    def objects(self) -> tuple[SchemaObject, ...]:
        """List all that it is to hold that rights are granted on."""
        return (
            SchemaObject("TABLE", "migrations"),
            *made_by(migration.text for migration in self.migrations),
            *of_kind("TABLE", (kind.table for kind in self.documents)),
            *of_kind("TABLE", (table.name for table in self.tables)),
        )

    def names(self) -> Iterator[tuple[str, str]]:
        """Yield the name of every table and index, with what has it."""
        texts = [migration.text for migration in self.migrations]
        yield "migrations", "flowstore's own table"
        yield "migrations_pkey", "flowstore's own index"
        for index in indexed_by(texts):
            yield index, "flowstore's own index"
        for made in made_by(texts):
            if made.kind != "FUNCTION":
                yield made.name, f"flowstore's own {made.kind.lower()}"
        for kind in self.documents:
            what = kind.type.__qualname__
            yield kind.table, f"the documents of {what}"
            yield key_name(kind.table), f"the key of {what}"
            for index in kind.indexes:
                yield index_name(kind.table, index), f"the index on {what}'s {told_index(index)}"
        for table in self.tables:
            yield table.name, f"flat table {table.name!r}"
            yield derived_name(table.name, "pkey"), f"the key of flat table {table.name!r}"


@attrs.frozen
class SchemaFound:
    """Hold what there is of a schema.

    Attributes:
        has_schema: whether there is one.
        has_bookkeeping: whether it has the table of migrations.
        applied: checksum by number of the migrations it remembers.
        id_columns: the type of the id by document table.
        indexes: names of those indexes of documents that there are.
        flat: types by column, by flat table.
    """

    has_schema: bool = False
    has_bookkeeping: bool = False
    applied: Mapping[int, str] = attrs.field(factory=dict[int, str])
    id_columns: Mapping[str, str] = attrs.field(factory=dict[str, str])
    indexes: Collection[str] = ()
    flat: Mapping[str, Mapping[str, str]] = attrs.field(factory=dict[str, Mapping[str, str]])


NOTHING: Final = SchemaFound()


@attrs.frozen
class Step:
    """Hold one step.

    Attributes:
        title: what it creates.
        script: the statements, without a semicolon at the end.
    """

    title: str
    script: bytes = attrs.field(repr=False)


def target_of(options: StoreOptions) -> SchemaTarget:
    """Say what the schema of a store with these options is to hold.

    Raises:
        RegistrationError: a document type or flat table can't be kept, or two would share a name.
        SchemaError: this installation lacks a migration.
    """
    sql = SchemaSql(options.schema, options.stream_identity)
    options.projections.check_stream_identity(str if options.stream_identity == "string" else UUID)
    flat = FlatSchema(sql, by_tenant=options.tenancy == "conjoined")
    tables = tuple(dict.fromkeys(options.projections.tables()))
    for table in tables:
        flat.check(table)
    documents = tuple(stored_documents(options))
    target = SchemaTarget(sql, packaged_migrations(), documents, flat, tables)
    refuse_shared_names(target.names())
    return target


def plan_schema(target: SchemaTarget, found: SchemaFound) -> tuple[Step, ...]:
    """Decide what to create, in order.

    Raises:
        SchemaError: what was found can't be brought there.
    """
    # All of it at once, so that what can't be done is refused before anything is.
    return tuple(_steps(target, found))


def _steps(target: SchemaTarget, found: SchemaFound) -> Iterator[Step]:
    sql = target.sql
    pending = pending_migrations(sql.schema, target.migrations, found.applied)
    if not found.has_schema:
        yield Step(f"schema {sql.schema!r}", sql.script(CREATE_SCHEMA))
    if not found.has_bookkeeping:
        yield Step("the table of migrations", sql.script(CREATE_MIGRATIONS))
    for migration in pending:
        yield Step(f"migration {migration.title}", _with_its_row(sql, migration))
    for kind in missing_tables(target.documents, found.id_columns):
        yield Step(f"document table {kind.table!r}", table_script(sql, kind))
    for kind in target.documents:
        for name, script in index_scripts(sql, kind).items():
            if name not in found.indexes:
                yield Step(f"index {name!r}", script)
    for table in target.tables:
        for change in target.flat.missing(table, found.flat.get(table.name)):
            yield Step(change.what, change.script)


def _with_its_row(sql: SchemaSql, migration: Migration) -> bytes:
    row = composing.SQL(_REMEMBERED).format(
        schema=composing.Identifier(sql.schema),
        number=composing.Literal(migration.number),
        name=composing.Literal(migration.name),
        checksum=composing.Literal(migration.checksum),
    )
    return sql.script(migration.text).rstrip() + b"\n" + row.as_bytes()
