"""What a schema is made of, as PostgreSQL's catalogue tells it, so that two can be compared.

What is expected is not written down a second time: the same scripts run into the connection's
temporary schema, which is compared and rolled back.
"""

from collections.abc import Iterator, Mapping
from typing import Final, TypeAlias

from psycopg import sql as composing

from flowstore.postgres import Connection
from flowstore.store._schema_flat import FLAT_MARK
from flowstore.store._schema_plan import SchemaFound, SchemaTarget, plan_schema
from flowstore.store._sql import SchemaSql

__all__ = ["SCRATCH", "Shape", "differences", "read_expected", "read_shape"]

Shape: TypeAlias = Mapping[str, str]
"""How each object is defined, by what it is called: `column events.version`."""

SCRATCH: Final = "pg_temp"
"""PostgreSQL's alias for the connection's temporary schema; to use it takes no right but TEMPORARY."""

_PLACE: Final = """
select n.oid::bigint, n.nspname::text from pg_catalog.pg_namespace n
where n.nspname = %s or (%s = 'pg_temp' and n.oid = pg_my_temp_schema())"""

# The constraints' indexes come with them. Reloptions are a database administrator's to choose, and
# so are defaults of a flat table's columns: rows are complete without them.
_OBJECTS: Final = """
select
    case c.relkind when 'S' then 'sequence ' when 'v' then 'view ' else 'table ' end || c.relname,
    case c.relkind
        when 'S' then (
            select concat_ws(
                ' ', format_type(s.seqtypid, null), 'increment', s.seqincrement, 'min', s.seqmin,
                'max', s.seqmax, 'cache', s.seqcache, case when s.seqcycle then 'cycle' end
            ) from pg_catalog.pg_sequence s where s.seqrelid = c.oid
        )
        when 'v' then pg_get_viewdef(c.oid)
        else concat_ws(
            ' ', 'a table', case when c.relpersistence = 'u' then 'that is unlogged' end,
            case when c.relrowsecurity then 'with row level security' end
        )
    end
from pg_catalog.pg_class c
where c.relnamespace = %(place)s and c.relkind in ('r', 'p', 'v', 'S')
union all
select
    'column ' || c.relname || '.' || a.attname,
    concat_ws(
        ' ', format_type(a.atttypid, a.atttypmod),
        case when a.attcollation <> t.typcollation then 'collate ' || l.collname end,
        case when a.attnotnull then 'not null' end,
        nullif(a.attidentity, ''), nullif(a.attgenerated, ''),
        case when obj_description(c.oid, 'pg_class') is distinct from %(mark)s
            then 'default ' || pg_get_expr(d.adbin, d.adrelid) end
    )
from pg_catalog.pg_class c
join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
join pg_catalog.pg_type t on t.oid = a.atttypid
left join pg_catalog.pg_collation l on l.oid = a.attcollation
left join pg_catalog.pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
where c.relnamespace = %(place)s and c.relkind in ('r', 'p', 'v')
union all
select 'constraint ' || c.relname || '.' || k.conname, pg_get_constraintdef(k.oid)
from pg_catalog.pg_constraint k join pg_catalog.pg_class c on c.oid = k.conrelid
where c.relnamespace = %(place)s and k.contype <> 'n'
union all
select
    'index ' || c.relname,
    concat_ws(' ', pg_get_indexdef(c.oid), case when not i.indisvalid then '(invalid)' end)
from pg_catalog.pg_index i join pg_catalog.pg_class c on c.oid = i.indexrelid
where c.relnamespace = %(place)s
    and not exists (select from pg_catalog.pg_constraint k where k.conindid = c.oid)
union all
select
    'function ' || p.proname || '(' || pg_get_function_identity_arguments(p.oid) || ')',
    pg_get_functiondef(p.oid)
from pg_catalog.pg_proc p where p.pronamespace = %(place)s and p.prokind in ('f', 'p')
union all
select
    'trigger ' || c.relname || '.' || g.tgname,
    concat_ws(
        ' ', pg_get_triggerdef(g.oid), case when g.tgenabled <> 'O' then '(disabled)' end
    )
from pg_catalog.pg_trigger g join pg_catalog.pg_class c on c.oid = g.tgrelid
where c.relnamespace = %(place)s and not g.tgisinternal"""

_TOLD: Final = frozenset({"column", "table", "sequence", "trigger", "index", "constraint"})
"""Kinds whose definitions are short enough to be told."""


async def read_shape(connection: Connection, sql: SchemaSql, beside: SchemaSql) -> Shape:
    """Read what a schema is made of; empty if there is none.

    Taken out of it are the schema's name and that of the schema it is compared `beside`: whatever
    else happens to be called like one of them then still reads alike on both sides.
    """
    cursor = await connection.execute(_PLACE, (sql.schema, sql.schema))
    row = await cursor.fetchone()
    if row is None:
        return {}
    place, name = row
    cursor = await connection.execute(_OBJECTS, {"place": place, "mark": FLAT_MARK})
    # The temporary schema has a name of its own beside the alias.
    names = [*_names(sql, name), *_names(sql, sql.schema), *_names(beside, beside.schema)]
    names.sort(key=lambda pair: -len(pair[0]))
    return {
        _without(names, called): _without(names, defined)
        for called, defined in await cursor.fetchall()
    }


async def read_expected(connection: Connection, target: SchemaTarget) -> Shape:
    """Make everything in the temporary schema, read what came of it, and roll back."""
    scratch = target.moved_to(SCRATCH)
    await connection.execute("begin")
    try:
        for step in plan_schema(scratch, SchemaFound(has_schema=True)):
            await connection.execute(step.script)
        return await read_shape(connection, scratch.sql, target.sql)
    finally:
        await connection.execute("rollback")


def differences(expected: Shape, found: Shape) -> Iterator[str]:
    """Yield a line for each thing that is missing or different; what is there beside is free."""
    for called, definition in expected.items():
        kind = called.split(" ", 1)[0]
        if called not in found:
            if kind != "column" or f"table {called[7:].split('.')[0]}" in found:
                yield f"{called} is missing"
        elif found[called] != definition:
            told = f": it is {found[called]!r}, not {definition!r}" if kind in _TOLD else ""
            yield f"{called} is different{told}"


def _names(sql: SchemaSql, name: str) -> Iterator[tuple[str, str]]:
    """Yield the ways in which a schema's name stands in definitions, and what stands for it."""
    for relation in ("events", "events_sequence"):
        inside = composing.Identifier(sql.schema, relation).as_string()
        yield composing.Literal(inside).as_string(), f"{{{relation}}}"
    identifier = composing.Identifier(sql.schema).as_string()
    yield composing.Literal(identifier).as_string(), "{schema_name}"
    # The server quotes names only where it has to.
    for quoted in (identifier, composing.Identifier(name).as_string(), name):
        doubled = quoted.replace("'", "''")
        yield f"'{doubled}.", "'"
        yield f"{quoted}.", ""


def _without(names: list[tuple[str, str]], definition: str) -> str:
    for written, stands in names:
        definition = definition.replace(written, stands)
    return definition
