"""What a role that owns nothing has to be granted, and saying so where it wasn't."""

import re
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import Any, Final, LiteralString, NoReturn, TypeAlias

import attrs
import psycopg
from psycopg import sql as composing

from flowstore.errors import InsufficientPrivilegeError
from flowstore.postgres import Connection, translate_errors, watched_connection
from flowstore.store._sql import SchemaSql
from flowstore.store._statements import Lend

__all__ = [
    "SchemaObject",
    "explained",
    "explaining",
    "grants_for",
    "indexed_by",
    "made_by",
    "of_kind",
]

_ROWS: Final = ("SELECT", "INSERT", "UPDATE", "DELETE")
_NEEDED: Final[dict[str, tuple[LiteralString, ...]]] = {
    "SCHEMA": ("USAGE",),
    "TABLE": _ROWS,
    "VIEW": ("SELECT",),
    "SEQUENCE": ("SELECT", "USAGE"),
    "FUNCTION": ("EXECUTE",),
}
"""What each kind of object is used with. Nothing at run time needs to own one, or to truncate."""

_REFUSED: Final = (psycopg.errors.InsufficientPrivilege, InsufficientPrivilegeError)
_LESS: Final[dict[str, tuple[LiteralString, ...]]] = {
    "migrations": ("SELECT",),
}
"""Tables that are used with less than others; progress isn't one, as rebuilds forget their own."""
_GRANT: Final[dict[str, LiteralString]] = {
    "DATABASE": "GRANT {privileges} ON DATABASE {name} TO {role}",
    "SCHEMA": "GRANT {privileges} ON SCHEMA {schema} TO {role}",
    "TABLE": "GRANT {privileges} ON TABLE {schema}.{name} TO {role}",
    "VIEW": "GRANT {privileges} ON TABLE {schema}.{name} TO {role}",
    "SEQUENCE": "GRANT {privileges} ON SEQUENCE {schema}.{name} TO {role}",
    "FUNCTION": "GRANT {privileges} ON FUNCTION {schema}.{name} TO {role}",
}
_MADE: Final = re.compile(
    r"^(?P<verb>create|drop) (?:or replace )?(?:unlogged )?(?P<kind>table|view|sequence|function) "
    r"(?:if (?:not )?exists )?\{schema\}\.(?P<name>\w+)",
    re.MULTILINE | re.IGNORECASE,
)
_INDEXED: Final = re.compile(
    r"constraint (\w+) (?:primary key|unique|exclude)|create (?:unique )?index (?:if not exists )?(\w+) on",
    re.IGNORECASE,
)
# Asked of the catalogue by oid: names would need the schema's USAGE, which may be what is missing.
_HELD: Final = """
select 'DATABASE', d.datname::text, array_remove(array[
        case when has_database_privilege(d.oid, 'CREATE') then 'CREATE' end,
        case when has_database_privilege(d.oid, 'TEMPORARY') then 'TEMPORARY' end
    ], null), current_user::text
from pg_catalog.pg_database d where d.datname = current_database()
union all
select 'SCHEMA', n.nspname::text, array_remove(array[
        case when has_schema_privilege(n.oid, 'USAGE') then 'USAGE' end,
        case when has_schema_privilege(n.oid, 'CREATE') then 'CREATE' end
    ], null), current_user::text
from pg_catalog.pg_namespace n where n.nspname = %(schema)s
union all
select
    case c.relkind when 'S' then 'SEQUENCE' when 'v' then 'VIEW' else 'TABLE' end,
    c.relname::text,
    case c.relkind when 'S' then array_remove(array[
        case when has_sequence_privilege(c.oid, 'SELECT') then 'SELECT' end,
        case when has_sequence_privilege(c.oid, 'USAGE') then 'USAGE' end
    ], null) else array_remove(array[
        case when has_table_privilege(c.oid, 'SELECT') then 'SELECT' end,
        case when has_table_privilege(c.oid, 'INSERT') then 'INSERT' end,
        case when has_table_privilege(c.oid, 'UPDATE') then 'UPDATE' end,
        case when has_table_privilege(c.oid, 'DELETE') then 'DELETE' end
    ], null) end,
    current_user::text
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where n.nspname = %(schema)s and c.relkind in ('r', 'p', 'v', 'S')
union all
select 'FUNCTION', p.proname::text, array_remove(array[
        case when has_function_privilege(p.oid, 'EXECUTE') then 'EXECUTE' end
    ], null), current_user::text
from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname = %(schema)s"""

_Held: TypeAlias = tuple[str, str, Sequence[str], str]
"""Kind, name, privileges that are held, and by which role."""


@attrs.frozen
class SchemaObject:
    """Name something that rights are granted on.

    Attributes:
        kind: as GRANT calls it.
        name: its name inside the schema.
    """

    kind: str
    name: str

    @property
    def needed(self) -> tuple[LiteralString, ...]:
        """The rights that an application uses it with."""
        usual = _NEEDED.get(self.kind, ())
        return _LESS.get(self.name, usual) if self.kind == "TABLE" else usual


def made_by(texts: Iterable[str]) -> tuple[SchemaObject, ...]:
    """List what scripts create, and don't drop again, in order."""
    made: dict[SchemaObject, None] = {}
    for match in (match for text in texts for match in _MADE.finditer(text)):
        found = SchemaObject(match["kind"].upper(), match["name"])
        if match["verb"].lower() == "create":
            made[found] = None
        else:
            made.pop(found, None)
    return tuple(made)


def indexed_by(texts: Iterable[str]) -> Iterator[str]:
    """Yield the names of the indexes that scripts create, and of the constraints that have one."""
    for match in (match for text in texts for match in _INDEXED.finditer(text)):
        yield match[1] or match[2]


def of_kind(kind: str, names: Iterable[str]) -> list[SchemaObject]:
    """Name several objects of a kind."""
    return [SchemaObject(kind, name) for name in names]


def grants_for(schema: str, objects: Iterable[SchemaObject], role: str) -> list[str]:
    """Give the statements that let a role use the objects of a schema."""
    everything = (SchemaObject("SCHEMA", schema), *objects)
    return [_grant(schema, each, each.needed, role) for each in everything]


def explaining(lend: Lend, dsn: str, sql: SchemaSql) -> Lend:
    """Lend connections for a block whose errors say which grants are missing."""
    return lambda: _Explained(lend(), dsn, sql)


@attrs.frozen(eq=False)
class _Explained:
    """Lend a connection for a block; every statement of a store passes through here."""

    _loan: AbstractAsyncContextManager[Connection]
    _dsn: str
    _sql: SchemaSql

    async def __aenter__(self) -> Connection:
        return await self._loan.__aenter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        if isinstance(error, _REFUSED):
            # Noted while the connection is still lent, as the block's own error.
            try:
                await _raise_noted(error, self._dsn, self._sql)
            except BaseException as noted:
                if not await self._loan.__aexit__(type(noted), noted, noted.__traceback__):
                    raise
                return True
        return await self._loan.__aexit__(kind, error, traceback)


@asynccontextmanager
async def explained(dsn: str, sql: SchemaSql) -> AsyncGenerator[None]:
    """Note on an error of the block for a missing right which grants would give it."""
    try:
        yield
    except _REFUSED as error:
        await _raise_noted(error, dsn, sql)


async def _raise_noted(error: Exception, dsn: str, sql: SchemaSql) -> NoReturn:
    if isinstance(error, psycopg.Error):
        await _note_grants(error, dsn, sql)
        raise error
    cause = error.__cause__
    if not isinstance(cause, psycopg.Error):
        raise error
    # Translated further in already, where nobody could ask: once more, with the notes.
    await _note_grants(cause, dsn, sql)
    with translate_errors():
        raise cause


async def _note_grants(error: psycopg.Error, dsn: str, sql: SchemaSql) -> None:
    """Ask on a connection of its own: the other's transaction has failed, and the pool may be empty."""
    if getattr(error, "__notes__", None):
        return
    try:
        async with watched_connection(dsn) as connection:
            cursor = await connection.execute(_HELD, {"schema": sql.schema})
            held = await cursor.fetchall()
    except psycopg.Error:
        return  # what is told then is PostgreSQL's own message, which is the one that matters
    for grant in _missing(sql.schema, error.diag.message_primary or "", held):
        error.add_note(grant)


def _missing(schema: str, message: str, held: Sequence[Any]) -> list[str]:
    """Decide which grants would have helped.

    PostgreSQL says which object it was, not what is missing on it: that is what a store needs and
    the role doesn't have. In whatever language the message is, it holds the object's name.
    """
    rows: list[_Held] = [row for row in held if _mentions(message, row[1])]
    longest = max((len(name) for _, name, _, _ in rows), default=0)
    grants: list[str] = []
    for kind, name, has, role in rows:
        target = SchemaObject(kind, name)
        lacking: list[LiteralString] = [each for each in target.needed if each not in has]
        if kind in {"SCHEMA", "DATABASE"} and not lacking:
            # Whoever may use it and is refused wanted to create something in it.
            lacking = ["TEMPORARY" if "temporary" in message else "CREATE"]
            lacking = [each for each in lacking if each not in has]
        if lacking and len(name) == longest:
            grants.append(_grant(schema, target, lacking, role))
    return grants


def _mentions(message: str, name: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", message) is not None


def _grant(
    schema: str, target: SchemaObject, privileges: Iterable[LiteralString], role: str
) -> str:
    statement = composing.SQL(_GRANT[target.kind]).format(
        privileges=composing.SQL(", ").join(map(composing.SQL, privileges)),
        schema=composing.Identifier(schema),
        name=composing.Identifier(target.name),
        role=composing.Identifier(role),
    )
    return statement.as_string()
