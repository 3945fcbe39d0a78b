"""Statements for one schema: templates with the names put in, ready to be sent."""

import re
from typing import Final, LiteralString, cast

import attrs
from psycopg import sql

from flowstore.postgres import DirectStatement

__all__ = ["SchemaSql", "for_parameters"]

_IDENTITY_TYPES: Final[dict[str, LiteralString]] = {"uuid": "uuid", "string": 'text collate "C"'}
_ARGUMENT_TYPES: Final[dict[str, LiteralString]] = {"uuid": "uuid", "string": "text"}
_ARRAY_TYPES: Final[dict[str, LiteralString]] = {"uuid": "uuid[]", "string": "text[]"}

_EVENT_COLUMNS: Final = (
    "e.sequence, e.id, e.stream_id, e.version, e.type, e.data::text, e.timestamp, e.headers::text,"
    " e.correlation_id, e.causation_id, e.user_name, e.tenant_id"
)
"""What statements select of `{schema}.events e`, in the order that `decode_row` takes it."""
_PLACEHOLDER: Final = re.compile(rb"%([%s])")


@attrs.frozen
class SchemaSql:
    """Put one schema's names into statements.

    Names are quoted by psycopg; function bodies are quoted by a dollar tag that the schema's name
    can't hold, so that any name is safe. Functions name everything in full instead of setting a
    search path, which would cost each call something and let a temporary table stand in for ours.

    Attributes:
        schema: the schema's name, unquoted.
        stream_identity: "uuid" or "string": what streams are known by.
    """

    schema: str
    stream_identity: str = "uuid"
    _ready: dict[str, bytes] = attrs.field(factory=dict[str, bytes], init=False, repr=False)
    _direct: dict[str, DirectStatement] = attrs.field(
        factory=dict[str, DirectStatement], init=False, repr=False
    )

    def statement(self, template: LiteralString, table: str | None = None) -> bytes:
        """Give a statement that is sent with parameters; put together once.

        Known to templates: `{schema}`; `{schema_name}`, `{events_name}` and `{sequence_name}`,
        quoted names as string literals, and `{bare_name}`, the schema's as it is; `{stream_id}`,
        `{stream_arg}` and `{stream_ids}`, types of a column, an argument and an array;
        `{event_columns}`, what makes an event; `{body}`, the quotes of a function's body;
        `{table}`, the named table.
        """
        key = template if table is None else f"{table}\0{template}"
        ready = self._ready.get(key)
        if ready is None:
            ready = self._ready[key] = self.compose(template, table).as_bytes()
        return ready

    def direct(self, template: LiteralString, table: str | None = None) -> DirectStatement:
        """Give the same statement for `Connection.fetch_row`, its parameters numbered."""
        key = template if table is None else f"{table}\0{template}"
        ready = self._direct.get(key)
        if ready is None:
            numbered = _numbered(self.statement(template, table))
            ready = self._direct[key] = DirectStatement(numbered)
        return ready

    def compose(self, template: LiteralString, table: str | None = None) -> sql.Composed:
        """Put the names into a statement that is sent with parameters."""
        names = {name: for_parameters(part) for name, part in self._names(table).items()}
        return sql.SQL(template).format(**names)

    def script(self, template: LiteralString, table: str | None = None) -> bytes:
        """Put the names into statements that are sent without parameters, several at once."""
        return sql.SQL(template).format(**self._names(table)).as_bytes()

    def _names(self, table: str | None) -> dict[str, sql.Composable]:
        names: dict[str, sql.Composable] = {
            "schema": sql.Identifier(self.schema),
            "events_name": self._name_literal("events"),
            "sequence_name": self._name_literal("events_sequence"),
            "schema_name": sql.Literal(sql.Identifier(self.schema).as_string()),
            "bare_name": sql.Literal(self.schema),
            "stream_id": sql.SQL(_IDENTITY_TYPES[self.stream_identity]),
            "stream_arg": sql.SQL(_ARGUMENT_TYPES[self.stream_identity]),
            "stream_ids": sql.SQL(_ARRAY_TYPES[self.stream_identity]),
            "event_columns": sql.SQL(_EVENT_COLUMNS),
            "body": self._dollar_quote(),
        }
        if table is not None:
            names["table"] = sql.Identifier(self.schema, table)
        return names

    def _name_literal(self, name: str) -> sql.Literal:
        return sql.Literal(sql.Identifier(self.schema, name).as_string())

    def _dollar_quote(self) -> sql.Composable:
        number = 0
        while f"$flowstore_{number}$" in self.schema:
            number += 1
        return sql.SQL("$flowstore_{}$").format(sql.Literal(number))


def for_parameters(part: sql.Composable) -> sql.Composable:
    """Keep psycopg from taking a percent sign in a name for a placeholder."""
    # Safe as a literal: only quoted names and our own constants come here.
    return sql.SQL(cast("LiteralString", part.as_string().replace("%", "%%")))


def _numbered(query: bytes) -> bytes:
    """Put `$1`, `$2` and so on for psycopg's placeholders."""
    first, *rest = _PLACEHOLDER.split(query)
    made, count = [first], 0
    for kind, text in zip(rest[::2], rest[1::2], strict=True):
        count += kind == b"s"
        made += [b"$%d" % count if kind == b"s" else b"%", text]
    return b"".join(made)
