"""A psycopg connection that trio drives: the one class that knows psycopg's insides."""

from collections import deque
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from types import TracebackType
from typing import Final, Self, TypeVar

import psycopg
import trio
from psycopg import AsyncCursor, AsyncPipeline, AsyncTransaction, Notify, errors, pq
from psycopg.abc import AdaptContext, ConnParam, PQGen
from psycopg.adapt import AdaptersMap
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq.abc import PGconn
from psycopg.rows import AsyncRowFactory, TupleRow, tuple_row

from flowstore.postgres._backend import Backend
from flowstore.postgres._blocks import SeenThrough, ServerCursor
from flowstore.postgres._connect import open_pgconn, with_name, with_time_limits
from flowstore.postgres._direct import (
    Along,
    DirectStatement,
    RawRow,
    fetch_row,
    fetch_row_with,
    fetch_rows,
)
from flowstore.postgres._interrupt import (
    OutcomeUnknownError,
    interrupt,
    is_seen_through,
    request_cancellation,
    see_through,
    seeing_through,
)
from flowstore.postgres._notifications import notifications
from flowstore.postgres._waiting import Driver, Mutex

T = TypeVar("T")

APPLICATION_NAME: Final = "flowstore"
ACTIVE: Final = pq.TransactionStatus.ACTIVE
IDLE: Final = pq.TransactionStatus.IDLE
NO_PIPELINE: Final = pq.PipelineStatus.OFF


class Connection(psycopg.AsyncConnection[TupleRow]):
    """Talk to PostgreSQL from trio, with psycopg's API.

    What psycopg documents for `AsyncConnection` holds, with these differences:

    * Connections commit each statement by itself unless `autocommit=False` is asked for.
    * Cancelling a task stops its statement on the server and leaves the connection usable, or
      closed if the server doesn't answer within `grace` seconds. In a scope that is cancelled
      already, no statement begins.
    * Cancelled out of `transaction()` means rolled back; a COMMIT that was sent is awaited.
    * Several tasks may share a connection: their statements take turns.

    Async generators (`notifies()`, `stream()`, `rows()`) hold on to the connection until they are
    closed: iterate over them inside `contextlib.aclosing`. It raises psycopg's own errors.

    Attributes:
        grace: seconds that a cancelled task goes on for, to bring the connection back to a known
            state, before the connection is closed.
        backend: the server's process, where somebody has found out which it is.
    """

    grace: float = 5.0
    backend: Backend | None = None

    def __init__(
        self,
        pgconn: PGconn,
        row_factory: AsyncRowFactory[TupleRow] = tuple_row,
    ) -> None:
        super().__init__(pgconn, row_factory)
        self.lock = Mutex()  # type: ignore[assignment] # pyright: ignore[reportAttributeAccessIssue,reportIncompatibleVariableOverride] - psycopg only enters it
        self.server_cursor_factory = ServerCursor
        self._driver = Driver()
        self._pipelines = 0

    # -- opening and closing ---------------------------------------------------------------------

    @classmethod
    async def connect(
        cls,
        conninfo: str = "",
        *,
        autocommit: bool = True,
        prepare_threshold: int | None = 5,
        context: AdaptContext | None = None,
        row_factory: AsyncRowFactory[TupleRow] | None = None,
        cursor_factory: type[AsyncCursor[TupleRow]] | None = None,
        application_name: ConnParam = APPLICATION_NAME,
        **kwargs: ConnParam,
    ) -> Self:
        """Open a connection.

        Args:
            conninfo: a libpq connection string or URL.
            autocommit: commit each statement by itself, outside `transaction()`.
            prepare_threshold: prepare a statement on the server once it has run so often; 0
                prepares at once, None never.
            context: where to take psycopg's adapters from.
            row_factory: what makes rows.
            cursor_factory: the class of cursors.
            application_name: what the server's views show; a name in `conninfo` is put behind it.
            **kwargs: further connection parameters; they override `conninfo`.

        Raises:
            psycopg.ConnectionTimeout: no answer within `connect_timeout` seconds; 4 unless that is
                given.
            psycopg.OperationalError: no server could be connected to.
            psycopg.NotSupportedError: psycopg runs on a libpq older than 17.
        """
        params = with_time_limits(conninfo_to_dict(conninfo, **kwargs))
        self = cls(await open_pgconn(with_name(params, str(application_name))))
        self._autocommit = autocommit
        self.prepare_threshold = prepare_threshold
        if row_factory is not None:
            self.row_factory = row_factory
        if cursor_factory is not None:
            self.cursor_factory = cursor_factory
        if context is not None:
            self._adapters = AdaptersMap(context.adapters)
        return self

    async def close(self) -> None:
        """Close the connection; a task that waits on it gets `psycopg.OperationalError`.

        Isn't a checkpoint. A statement that is under way goes on, on the server.
        """
        self.abandon()

    def abandon(self, why: str | None = None) -> None:
        """Close the connection at once, from synchronous code.

        Args:
            why: what a task that waits on it is told.
        """
        self._closed = True
        if not self.closed:
            self._driver.why_closed = why or self._driver.why_closed
            trio.lowlevel.notify_closing(self.pgconn.socket)
            self.pgconn.finish()

    # -- waiting ---------------------------------------------------------------------------------

    @property
    def silent_since(self) -> float | None:
        """Since when a statement has waited without hearing anything, by `time.monotonic`'s clock.

        None while none does; nobody owes a notification that is waited for.
        """
        is_owed = not self.closed and self.pgconn.transaction_status == ACTIVE
        return self._driver.silent_since if is_owed else None

    async def wait(
        self,
        gen: PQGen[T],
        interval: float = 0.0,  # noqa: ARG002 - psycopg's asyncio version polls with it
        timeout: float | None = None,  # noqa: ASYNC109 - psycopg's signature
    ) -> T:
        """Drive one of psycopg's generators; psycopg's own code calls it, holding the lock."""
        if timeout is not None:
            with trio.move_on_after(timeout):
                return await self._wait(gen)
            raise errors._WaitTimeout("wait timeout expired")  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - psycopg's callers expect it
        return await self._wait(gen)

    async def fetch_row(
        self,
        statement: DirectStatement,
        parameters: Sequence[str | None],
        along: Along | None = None,
    ) -> RawRow:
        """Execute a statement that gives one row, without a cursor; not inside `pipeline()`.

        Args:
            statement: is prepared on the server as cursors' statements are.
            parameters: as text, in order; None is null.
            along: is sent in the same go, and carried out after it whatever becomes of it, as a
                transaction of its own; nobody is told what became of that.

        Returns:
            The row's columns in binary, as the server sent them.

        Raises:
            psycopg.DataError: a parameter holds a NUL.
            psycopg.NotSupportedError: something is to go along with it in a transaction.
        """
        if along is None:
            return await self._fetch(fetch_row(self, statement, parameters))
        if not self.is_alone:
            raise psycopg.NotSupportedError("two statements can't be sent within a transaction")
        return await self._fetch(fetch_row_with(self, statement, parameters, along))

    @property
    def is_alone(self) -> bool:
        """Whether the next statement is a transaction of its own, as none is open."""
        return self.autocommit and self.pgconn.transaction_status == IDLE

    async def fetch_raw(
        self, statement: DirectStatement, parameters: Sequence[str | None]
    ) -> list[RawRow]:
        """Execute a statement that gives any number of rows, as `fetch_row` does one that gives one.

        Raises:
            psycopg.DataError: a parameter holds a NUL.
        """
        return await self._fetch(fetch_rows(self, statement, parameters))

    async def _fetch(self, gen: PQGen[T]) -> T:
        self._check_connection_ok()
        async with self.lock:
            if self.in_pipeline:
                raise psycopg.NotSupportedError("a row can't be fetched in a pipeline: use execute")
            return await self._wait(gen)

    async def _wait(self, gen: PQGen[T]) -> T:
        if is_seen_through():
            try:
                return await self.drive(gen)
            except trio.Cancelled:
                return await see_through(self, gen)
        if self._is_free():
            await trio.lowlevel.checkpoint_if_cancelled()
        try:
            return await self.drive(gen)
        except (trio.Cancelled, KeyboardInterrupt):
            if self.pgconn.transaction_status == ACTIVE:
                await interrupt(self, gen)
            raise

    def _is_free(self) -> bool:
        """Tell whether the next generator begins something, rather than ends a COPY or stream."""
        return self.in_pipeline or self.pgconn.transaction_status != ACTIVE

    async def drive(self, gen: PQGen[T], *, resumed: bool = False) -> T:
        """Run a psycopg generator to its end, without tidying up if cancelled.

        Args:
            gen: what psycopg would have its own connection wait for.
            resumed: whether it was driven before and was left suspended.
        """
        # In a pipeline psycopg goes on to read once the last command was handed to libpq, however
        # much of it the socket has taken.
        flush = self.pgconn.flush if self.in_pipeline else None
        return await self._driver.drive(gen, self.pgconn.socket, resumed=resumed, flush=flush)

    async def cancel_safe(self, *, timeout: float | None = None) -> None:  # noqa: ASYNC109 - psycopg's signature
        """Ask the server to stop the statement under way; does nothing if there is none.

        Shielded: psycopg calls it from `finally` blocks of tasks that are cancelled already.

        Args:
            timeout: seconds to wait for the request to be taken; None means `grace`.

        Raises:
            psycopg.errors.CancellationTimeout: the server didn't take the request in time.
            psycopg.OperationalError: the request could not be sent.
        """
        if not self._should_cancel():
            return
        await request_cancellation(self.pgconn, self.grace if timeout is None else timeout)

    # -- blocks ----------------------------------------------------------------------------------

    @property
    def in_pipeline(self) -> bool:
        """Whether the connection is in pipeline mode."""
        return self._pipeline is not None or self.pgconn.pipeline_status != NO_PIPELINE

    @asynccontextmanager
    async def transaction(
        self,
        savepoint_name: str | None = None,
        force_rollback: bool = False,  # noqa: FBT001, FBT002 - psycopg's signature
    ) -> AsyncGenerator[AsyncTransaction]:
        """Run the block in a transaction, or in a savepoint of the transaction under way.

        Left normally it commits; left by an exception, cancellations too, it rolls back. Cancelled
        before COMMIT was sent means rolled back; afterwards its answer is awaited.

        Args:
            savepoint_name: the savepoint's name; None makes one up.
            force_rollback: roll back however the block ends.

        Raises:
            psycopg.OperationalError: cancelled, and COMMIT wasn't answered within `grace` seconds:
                whether it took effect is unknown.
        """
        async with SeenThrough(self, super().transaction(savepoint_name, force_rollback)) as tx:
            yield tx

    @asynccontextmanager
    async def pipeline(self) -> AsyncGenerator[AsyncPipeline]:
        """Send the statements of the block without waiting for each one's answer.

        Cancelled, statements that haven't been answered are stopped. Don't combine it with
        `transaction()`: that is slower than either, and cancelling it may close the connection.
        """
        with self._whole_pipeline():
            async with SeenThrough(self, super().pipeline()) as pipeline:
                yield pipeline

    @asynccontextmanager
    async def _pipeline_nolock(self) -> AsyncGenerator[AsyncPipeline]:  # executemany() uses it
        with self._whole_pipeline():
            async with SeenThrough(self, super()._pipeline_nolock()) as pipeline:
                yield pipeline

    @contextmanager
    def _whole_pipeline(self) -> Generator[None]:
        # A cancellation inside a transaction inside a pipeline can leave psycopg's count of nested
        # pipelines too high, and with it pipeline mode on. Counted here, the leak shows.
        self._pipelines += 1
        try:
            yield
        finally:
            self._pipelines -= 1
            if not self._pipelines and not self.closed and self.in_pipeline:
                self.abandon()

    async def commit(self) -> None:
        """Commit the transaction under way; once sent it is awaited even if cancelled.

        Raises:
            psycopg.OperationalError: cancelled, and not answered within `grace` seconds: whether
                it took effect is unknown.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        with seeing_through():
            await super().commit()

    async def rollback(self) -> None:
        """Roll the transaction under way back, even if cancelled; at worst, by closing."""
        try:
            with seeing_through(), suppress(OutcomeUnknownError):
                await super().rollback()
        except trio.Cancelled:  # while another task had the connection
            self.abandon()
            raise

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        try:
            await super().__aexit__(exc_type, exc_val, exc_tb)
        finally:
            self.abandon()

    # -- notifications ---------------------------------------------------------------------------

    async def notifies(
        self,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - psycopg's signature
        stop_after: int | None = None,
    ) -> AsyncGenerator[Notify]:
        """Yield the notifications of the channels this connection listens to.

        Args:
            timeout: seconds after which the iteration ends; 0 takes what is there; None never.
            stop_after: how many notifications to yield; the rest is kept for the next call.
        """
        async with aclosing(
            notifications(self, timeout=timeout, stop_after=stop_after)
        ) as iteration:
            async for notification in iteration:
                yield notification

    def take_backlog(self) -> deque[Notify]:
        """Take what was received while nobody iterated over `notifies()`."""
        taken, self._notifies_backlog = self._notifies_backlog, deque()
        return deque() if taken is None else taken

    def keep_backlog(self, notifications_left: deque[Notify]) -> None:
        """Put back what an iteration left, ahead of what came since."""
        since = self._notifies_backlog or ()
        self._notifies_backlog = deque((*notifications_left, *since))
