"""Statements without a cursor: text in, and the bytes of rows out.

A cursor looks at each parameter for how to write it, and at each column for how to read it. A
statement that is executed once a commit knows both: it saves half of what a statement takes in this
process. psycopg's own record of what is prepared is kept, so that both ways share its bounds, and
what makes it forget.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

import attrs
import psycopg
from psycopg import generators, pq
from psycopg._preparing import Prepare
from psycopg.abc import PQGen
from psycopg.errors import error_from_result
from psycopg.pq.abc import PGresult

if TYPE_CHECKING:
    from flowstore.postgres._connection import Connection

__all__ = ["Along", "DirectStatement", "RawRow", "fetch_row", "fetch_row_with", "fetch_rows"]

RawRow: TypeAlias = tuple[bytes | None, ...]

BINARY: Final = pq.Format.BINARY
TUPLES_OK: Final = pq.ExecStatus.TUPLES_OK
FATAL_ERROR: Final = pq.ExecStatus.FATAL_ERROR
SHOULD, NO = Prepare.SHOULD, Prepare.NO


@attrs.frozen
class DirectStatement:
    """Hold a statement as the server takes it.

    Attributes:
        query: with parameters `$1`, `$2` and so on, each cast to its type.
        prepare: whether the server keeps its plan; False has it planned for these parameters, and for
            the tables as they are now. None: once it has run often.
        types: none are told; a part of what psycopg knows a prepared statement by.
    """

    query: bytes
    prepare: bool | None = None
    types: tuple[int, ...] = attrs.field(default=(), init=False)


Along: TypeAlias = tuple[DirectStatement, Sequence[str | None]]
"""A statement with its parameters that is sent along with another one."""


def fetch_row(
    connection: "Connection", statement: DirectStatement, parameters: Sequence[str | None]
) -> PQGen[RawRow]:
    """Execute a statement that gives one row.

    Raises:
        psycopg.InternalError: it gave none, or several.
        psycopg.Error: as `fetch_rows` does.
    """
    rows = yield from fetch_rows(connection, statement, parameters)
    if len(rows) != 1:
        raise psycopg.InternalError("the statement gave no row, or several: ask for one")
    return rows[0]


def fetch_rows(
    connection: "Connection", statement: DirectStatement, parameters: Sequence[str | None]
) -> PQGen[list[RawRow]]:
    """Execute a statement that gives rows, as psycopg's cursors do, in one generator.

    Raises:
        psycopg.DataError: a parameter holds a NUL, which would cut it off.
        psycopg.Error: the server refused the statement, or can't be reached.
    """
    ready = yield from _make_ready(connection, statement, parameters)
    ready.send()
    results = yield from generators.execute(connection.pgconn)
    ready.note(results)
    _check(results, connection)
    rows = _rows(results)
    yield from ready.prepared.maintain_gen(connection)
    return rows


def fetch_row_with(
    connection: "Connection",
    statement: DirectStatement,
    parameters: Sequence[str | None],
    along: Along,
) -> PQGen[RawRow]:
    """Execute a statement that gives one row, and send another one with it, for its effect.

    The server carries out one after the other without waiting in between, each as a transaction of
    its own: the second also where the first is refused. Outside a transaction, and with autocommit.

    Raises:
        psycopg.Error: as `fetch_row` does, for the first. What becomes of the second isn't told.
    """
    pgconn = connection.pgconn
    first = yield from _make_ready(connection, statement, parameters)
    second = yield from _make_ready(connection, *along)
    pgconn.enter_pipeline_mode()
    for each in (first, second):
        each.send()
        pgconn.pipeline_sync()
    results = yield from generators.execute(pgconn)
    yield from generators.fetch_many(pgconn)  # the end of the first
    others = yield from generators.fetch_many(pgconn)
    yield from generators.fetch_many(pgconn)
    # Not where an error has ended it before: the connection is lost then, or closed for being in the mode.
    pgconn.exit_pipeline_mode()
    first.note(results)
    second.note(others)
    _check(results, connection)
    rows = _rows(results)
    yield from first.prepared.maintain_gen(connection)
    if len(rows) != 1:
        raise psycopg.InternalError("the statement gave no row, or several: ask for one")
    return rows[0]


@attrs.define(eq=False)
class _Ready:
    """A statement that is prepared, where it is to be."""

    pgconn: Any
    prepared: Any
    statement: DirectStatement
    values: list[bytes | None]
    how: Prepare
    name: bytes
    key: Any = None

    def send(self) -> None:
        if self.how is NO:
            self.pgconn.send_query_params(self.statement.query, self.values, result_format=BINARY)
        else:
            self.pgconn.send_query_prepared(self.name, self.values, result_format=BINARY)
        self.key = self.prepared.maybe_add_to_cache(self.statement, self.how, self.name)

    def note(self, results: Sequence[PGresult]) -> None:
        if self.key is not None:
            self.prepared.validate(self.key, self.how, self.name, results)


def _make_ready(
    connection: "Connection", statement: DirectStatement, parameters: Sequence[str | None]
) -> PQGen[_Ready]:
    pgconn = connection.pgconn
    values = _encoded(parameters, pgconn._encoding)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - as cursors do
    prepared = connection._prepared  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - see above
    yield from connection._start_query()  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - begins a transaction without autocommit
    # It looks at the query and the types.
    how, name = prepared.get(cast("Any", statement), statement.prepare)
    if how is SHOULD:
        pgconn.send_prepare(name, statement.query)
        _check((yield from generators.execute(pgconn)), connection)
    return _Ready(pgconn, prepared, statement, values, how, name)


def _encoded(parameters: Sequence[str | None], encoding: str) -> list[bytes | None]:
    values: list[bytes | None] = []
    for parameter in parameters:
        value = None if parameter is None else parameter.encode(encoding)
        if value and b"\0" in value:
            raise psycopg.DataError("PostgreSQL text can't contain NUL (0x00)")
        values.append(value)
    return values


def _check(results: Sequence[PGresult], connection: "Connection") -> None:
    for result in results:
        if result.status == FATAL_ERROR:
            raise error_from_result(result, encoding=connection.pgconn._encoding)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - as cursors do


def _rows(results: Sequence[PGresult]) -> list[RawRow]:
    if len(results) != 1 or results[0].status != TUPLES_OK:
        raise psycopg.InternalError("the statement gave no row, or several results: ask for rows")
    (result,) = results
    columns = range(result.nfields)
    return [
        tuple([result.get_value(row, column) for column in columns])
        for row in range(result.ntuples)
    ]
