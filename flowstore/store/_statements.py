"""Statements ready to be sent, and sending several as one transaction."""

import re
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final, LiteralString, TypeAlias

import attrs
import psycopg

from flowstore.errors import DatabaseError
from flowstore.postgres import Connection, translate_errors

__all__ = ["Lend", "Statement", "check_statement", "fetch_rows", "lend_again", "run_as_one"]

Row: TypeAlias = tuple[Any, ...]
_ENDS_TRANSACTIONS: Final = re.compile(
    r"(?:\s|;|--[^\n]*(?:\n|$)|/\*.*?\*/)*"
    r"(?:(?:begin|start|commit|end|abort)\b|prepare\s+transaction\b"
    r"|rollback\b(?!(?:\s+(?:work|transaction))?\s+to\b))",
    re.IGNORECASE | re.DOTALL,
)
"""A statement of its own transaction; a queue's statements are sent one by one, so that it begins so."""
Lend: TypeAlias = Callable[[], AbstractAsyncContextManager[Connection]]
"""Where a connection comes from: the pool, or a transaction that is under way."""


@attrs.frozen
class Statement:
    """Hold a statement with its parameters.

    Attributes:
        query: as it is sent, with psycopg's placeholders if it has parameters.
        parameters: in order; None sends the statement as it is.
        prepare: whether the server keeps its plan; False has it planned for these parameters, and for
            the tables as they are now. None: once it has run often.
    """

    query: LiteralString | bytes
    parameters: Sequence[Any] | None = ()
    prepare: bool | None = None


def check_statement(query: str | bytes) -> None:
    """Refuse a statement that would end the transaction that it is to be a part of.

    What was written before it would be committed, or lost, and what comes after it would be committed
    by itself: a projection's effects without its progress.

    Raises:
        DatabaseError: it begins or ends a transaction.
    """
    text = query.decode(errors="replace") if isinstance(query, bytes) else str(query)
    if _ENDS_TRANSACTIONS.match(text):
        raise DatabaseError(
            f"{text[:80]!r} can't be queued: it would begin or end a transaction, and everything"
            " that is queued is committed as one; leave it out, or use store.connection()",
            sqlstate="2D000",
        )


def lend_again(connection: Connection) -> Lend:
    """Lend a connection that somebody else looks after."""

    @asynccontextmanager
    async def lend() -> AsyncGenerator[Connection]:
        yield connection

    return lend


async def fetch_rows(lend: Lend, statement: Statement) -> list[Row]:
    """Run one statement and give its rows.

    Raises:
        DatabaseError: PostgreSQL refused it, or can't be reached.
    """
    with translate_errors():
        async with lend() as connection:
            cursor = await connection.execute(
                statement.query, statement.parameters, prepare=statement.prepare, binary=True
            )
            return await cursor.fetchall()


async def run_as_one(connection: Connection, statements: Sequence[Statement]) -> list[Row | None]:
    """Run statements all or none, on a connection outside a transaction.

    One statement takes one round trip, any number of them two: the second is the commit.

    Psycopg's errors come out as they are, and leave a transaction that has failed: whoever lent
    the connection rolls it back. Cancelled before the commit is on its way, nothing has
    happened; afterwards its outcome is waited for.

    Returns:
        The first row of each statement, None where it has none.
    """
    if len(statements) == 1:
        (only,) = statements
        # One statement is a transaction of its own.
        cursor = await connection.execute(only.query, only.parameters, binary=True)
        return [await _first_row(cursor)]
    cursors = [connection.cursor(binary=True) for _ in statements]
    pairs = list(zip(cursors, statements, strict=True))
    refusal: psycopg.Error | None = None
    try:
        async with connection.pipeline() as pipeline:
            try:
                await connection.execute("begin")
                for cursor, statement in pairs:
                    await cursor.execute(statement.query, statement.parameters)
                # Waits before COMMIT is sent, so that a cancellation stops what is blocked on the
                # server, and a commit that is on its way is all that is ever seen through.
                await pipeline.sync()
                await connection.execute("commit")
            except psycopg.Error as error:
                # Kept from the pipeline's exit, which would log that everything after it failed.
                refusal = error
    except psycopg.errors.PipelineAborted as aborted:
        raise refusal or aborted from aborted.__cause__
    if refusal is not None:
        raise refusal
    return [await _first_row(cursor) for cursor in cursors]


async def _first_row(cursor: psycopg.AsyncCursor[Row]) -> Row | None:
    # Not by `cursor.description`, which describes every column to tell whether there is one.
    return None if cursor.rownumber is None else await cursor.fetchone()
