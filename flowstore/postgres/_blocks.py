"""Leaving a transaction or a pipeline so that nothing is left half done."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Generic, TypeVar

import psycopg
import trio
from psycopg import AsyncServerCursor, pq
from psycopg.rows import TupleRow

from flowstore.postgres._interrupt import OutcomeUnknownError, logger, seeing_through

if TYPE_CHECKING:
    from flowstore.postgres._connection import Connection

T = TypeVar("T")
R = TypeVar("R")


class ServerCursor(AsyncServerCursor[TupleRow]):
    """A cursor of the server's, closed there even by a task that is cancelled."""

    async def close(self) -> None:
        """Close the cursor, on the server too."""
        with seeing_through():  # a cursor WITH HOLD would stay for as long as its connection
            await super().close()


class SeenThrough(Generic[T]):
    """See the beginning and the end of a psycopg block through, whatever is cancelled meanwhile.

    Left by a cancellation, or cancelled before its end began, a transaction has been rolled back,
    or its connection closed. A COMMIT on its way is awaited; a cancellation that came during it
    shows at the task's next checkpoint.

    Args:
        connection: the connection the block belongs to.
        block: psycopg's own context manager.
    """

    def __init__(self, connection: "Connection", block: AbstractAsyncContextManager[T]) -> None:
        self._connection = connection
        self._block = block

    async def __aenter__(self) -> T:
        await trio.lowlevel.checkpoint_if_cancelled()
        with seeing_through():  # a BEGIN that isn't waited for would leave its transaction open
            return await self._block.__aenter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        late = await _caught(trio.lowlevel.checkpoint_if_cancelled) if error is None else None
        if late is not None:  # nothing was sent yet: the block ends as if cancelled inside
            kind, error, traceback = type(late), late, late.__traceback__
        if isinstance(error, trio.Cancelled):
            await self._stop_pipeline()
        try:
            swallowed = await self._leave(kind, error, traceback)
        except OutcomeUnknownError:
            if error is None:
                raise
            swallowed = False  # an unanswered ROLLBACK: the closed connection has rolled back
        if late is not None:
            raise late
        return swallowed

    async def _leave(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        try:
            with seeing_through():
                return await self._block.__aexit__(kind, error, traceback)
        except trio.Cancelled:
            # Only while another task had the connection: nothing was sent, so nothing is committed,
            # and the block can't be left in order any more.
            self._connection.abandon()
            raise

    async def _stop_pipeline(self) -> None:
        """Cancel the statements that were sent into a pipeline and haven't been answered."""
        pgconn = self._connection.pgconn
        if pgconn.pipeline_status == pq.PipelineStatus.OFF:
            return
        try:
            await self._connection.cancel_safe()
        except psycopg.Error as error:
            logger.warning("pipeline could not be cancelled, closing: %s", error)
            self._connection.abandon()


async def _caught(checkpoint: Callable[[], Awaitable[None]]) -> trio.Cancelled | None:
    try:
        await checkpoint()
    except trio.Cancelled as cancelled:
        return cancelled
    return None
