"""What happens to a statement, or to a COMMIT, whose task is cancelled.

Two rules, and nothing between them:

* A statement is *interrupted*: the server is told to stop it, and its answer is awaited.
* The end of a block (COMMIT, ROLLBACK, leaving pipeline mode) is *seen through*.

Both are shielded from the cancellation, but only for the connection's `grace`. A connection that
isn't in a known state by then is closed.
"""

import contextlib
import contextvars
import logging
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Final

import psycopg
import trio
from psycopg import generators, pq
from psycopg.abc import PQGen
from psycopg.pq.abc import PGconn

from flowstore.postgres._waiting import poll_until_done

if TYPE_CHECKING:
    from flowstore.postgres._connection import Connection

logger: Final = logging.getLogger("flowstore.postgres")

ACTIVE: Final = pq.TransactionStatus.ACTIVE
COPY_IN: Final = pq.ExecStatus.COPY_IN
COPY_OUT: Final = pq.ExecStatus.COPY_OUT
_AGAIN: Final = 0.25
"""Seconds after which the server is asked again to stop: a generator may have sent its next statement since,
as it prepares one and executes it then."""

# True in a task while it leaves a block. A context variable, because psycopg's own code runs between
# our exit and our wait, and because several tasks may share a connection.
_seeing_through: Final = contextvars.ContextVar("flowstore_seeing_through", default=False)


class OutcomeUnknownError(psycopg.OperationalError):
    """The server didn't answer the end of a block in time: it may have been carried out."""


@contextlib.contextmanager
def seeing_through() -> Generator[None]:
    """Have this task's waits seen through rather than interrupted when they are cancelled."""
    token = _seeing_through.set(True)
    try:
        yield
    finally:
        _seeing_through.reset(token)


def is_seen_through() -> bool:
    """Tell whether this task's waits are seen through."""
    return _seeing_through.get()


def shielded(seconds: float) -> trio.CancelScope:
    """Make a scope that outside cancellations don't reach, open for `seconds`."""
    return trio.CancelScope(shield=True, deadline=trio.current_time() + seconds)


async def request_cancellation(pgconn: PGconn, seconds: float) -> None:
    """Ask the server to stop what a connection's statement does; shielded, and bounded.

    Raises:
        psycopg.errors.CancellationTimeout: the server didn't take the request in time.
        psycopg.OperationalError: the request could not be sent.
    """
    request = pgconn.cancel_conn()
    try:
        with shielded(seconds):
            request.start()
            await poll_until_done(request.poll, lambda: request.socket, request.get_error_message)
            return
    finally:
        request.finish()
    raise psycopg.errors.CancellationTimeout(f"the server took no cancellation within {seconds} s")


async def interrupt(connection: "Connection", generator: PQGen[Any]) -> None:
    """Stop the statement that `generator` drives, on the server too.

    Afterwards the connection is out of the statement, or closed. Takes `grace` seconds at most.
    """
    in_known_state = False
    try:
        with shielded(connection.grace):
            in_known_state = await _stop_statement(connection, generator)
    finally:
        if not in_known_state and not connection.closed:
            logger.warning("statement did not end within %s s: closing", connection.grace)
            connection.abandon()


async def _stop_statement(connection: "Connection", generator: PQGen[Any]) -> bool:
    is_over = False
    while not is_over:
        try:
            await connection.cancel_safe()
        except psycopg.Error as error:
            logger.warning("statement could not be cancelled: %s", error)
            return False
        with trio.move_on_after(_AGAIN) as waiting:
            try:
                await connection.drive(generator, resumed=True)
            except psycopg.Error as error:
                # Usually QueryCanceled; the cancellation on its way to the caller is what counts.
                logger.debug("cancelled statement ended with: %s", error)
        is_over = not waiting.cancelled_caught
    if connection.pgconn.pipeline_status != pq.PipelineStatus.OFF:
        return True  # the exit of the pipeline fetches what is left
    try:
        await _drain(connection)
    except psycopg.Error as error:
        logger.warning("results of a cancelled statement could not be read: %s", error)
    return connection.pgconn.transaction_status != ACTIVE


async def _drain(connection: "Connection") -> None:
    """Read the results that a cancelled `stream()` or COPY has left, and end a COPY."""
    while connection.pgconn.transaction_status == ACTIVE:
        results = await connection.drive(generators.fetch_many(connection.pgconn))
        if not results:
            return
        if results[-1].status in {COPY_IN, COPY_OUT}:
            await _end_copy(connection, results[-1].status)


async def _end_copy(connection: "Connection", direction: int) -> None:
    try:
        if direction == COPY_IN:
            await connection.drive(generators.copy_end(connection.pgconn, b"cancelled"))
            return
        while isinstance(
            await connection.drive(generators.copy_from(connection.pgconn)), memoryview
        ):
            pass
    except psycopg.Error as error:
        logger.debug("cancelled COPY ended with: %s", error)


async def see_through(connection: "Connection", generator: PQGen[Any]) -> Any:
    """Await the end of `generator` although the task is cancelled, for `grace` seconds.

    Raises:
        OutcomeUnknownError: the server didn't answer in time; the connection is closed.
    """
    with shielded(connection.grace):
        return await connection.drive(generator, resumed=True)
    connection.abandon()
    raise OutcomeUnknownError(
        f"cancelled, and no answer within {connection.grace} s: the connection is closed, and"
        " whether a COMMIT on its way took effect is unknown: look for its effects"
    )
