"""A pool of connections."""

import random
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import Final, Self

import attrs
import psycopg
import trio
from psycopg import pq

from flowstore.errors import DatabaseUnavailableError
from flowstore.postgres._beside import beside
from flowstore.postgres._connection import APPLICATION_NAME, Connection
from flowstore.postgres._errors import redact
from flowstore.postgres._interrupt import logger
from flowstore.postgres._pooled import Birth, PoolSettings, Spare, session_of
from flowstore.postgres._waiting import has_input
from flowstore.postgres._watch import watch
from flowstore.postgres._watched import Configure, make_ready

IDLE: Final = pq.TransactionStatus.IDLE
ACTIVE: Final = pq.TransactionStatus.ACTIVE
CHECK_TIMEOUT: Final = 5.0
"""Seconds in which a connection must answer to count as alive."""
SHORTEST_ROUND: Final = 0.01
"""Seconds between two rounds of the housekeeper at least, however short lives are."""


class Pool:
    """Lend connections, at most `max_size` at a time.

    The connection used last is lent first, so that few stay warm and the rest grow idle and close;
    who waits is served in order. A connection comes back clean or not at all: a transaction left
    open is rolled back, and one whose session was changed (by `set_autocommit()`, say) is closed.
    `SET` and `LISTEN` are not undone: use `SET LOCAL`, and listen on a connection of your own.

    Lent connections are watched: one whose statement has waited for two seconds while the server owes
    it nothing, because a network has swallowed the question or the answer, is closed, and whoever
    waits on it gets `psycopg.OperationalError`. How long the server works is nobody's business.

    Open it with `Pool.open`.
    """

    def __init__(
        self,
        dsn: str,
        *,
        max_size: int,
        configure: Configure | None,
        application_name: str,
        settings: PoolSettings,
    ) -> None:
        self._dsn = dsn
        self._configure = configure
        self._application_name = application_name
        self._settings = settings
        self._limit = trio.CapacityLimiter(max_size)
        self._spare: deque[Spare] = deque()  # longest unused first
        self._births: dict[Connection, Birth] = {}  # of every open connection
        self._closed = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {redact(self._dsn)!r} lent={self.lent} spare={self.spare}>"

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        dsn: str,
        *,
        max_size: int = 10,
        min_size: int = 0,
        configure: Configure | None = None,
        application_name: str = APPLICATION_NAME,
        settings: PoolSettings | None = None,
    ) -> AsyncGenerator[Self]:
        """Keep a pool open for the block.

        At the end of the block unused connections are closed; one that is still lent is closed when
        it comes back.

        Args:
            dsn: where to connect to.
            max_size: how many connections may be open.
            min_size: how many are opened at once, and kept though idle.
            configure: is given each new connection before anybody else.
            application_name: what the server's views show.
            settings: times and the like.

        Raises:
            psycopg.OperationalError: the first `min_size` connections could not be opened.
        """
        pool = cls(
            dsn,
            max_size=max_size,
            configure=configure,
            application_name=application_name,
            settings=settings or PoolSettings(),
        )
        async with beside(pool._keep_house, min_size):
            try:
                for _ in range(min_size):
                    connection = await pool._connect()
                    pool._spare.append(Spare(connection, trio.current_time()))
                yield pool
            finally:
                pool._closed = True
                while pool._spare:
                    pool._discard(pool._spare.pop().connection)

    @property
    def lent(self) -> int:
        """How many connections are lent, or about to be."""
        return self._limit.borrowed_tokens

    @property
    def size(self) -> int:
        """How many connections are open."""
        return len(self._births)

    @property
    def spare(self) -> int:
        """How many open connections nobody uses."""
        return len(self._spare)

    def connection(self) -> AbstractAsyncContextManager[Connection]:
        """Lend a connection for the block.

        A task may ask for several, but not for more than `max_size`: it would wait for itself.

        Raises:
            DatabaseUnavailableError: the pool is closed, or every connection stayed lent for
                `acquire_timeout` seconds.
            psycopg.OperationalError: a new connection could not be opened.
        """
        return _Loan(self)

    async def lend(self, borrower: "_Loan") -> Connection:
        """Take a token, and find or open a connection."""
        if self._closed:
            raise DatabaseUnavailableError("the pool is closed: lend connections inside its block")
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            # Who waits is handed a token by whoever lets go of one: nobody is overtaken here.
            self._limit.acquire_on_behalf_of_nowait(borrower)
        except trio.WouldBlock:
            await self._wait_for_token(borrower)
        try:
            return self._take_at_once() or await self._take() or await self._connect()
        except BaseException:
            self._limit.release_on_behalf_of(borrower)
            raise

    async def take_back(self, borrower: "_Loan", connection: Connection) -> None:
        """Take a connection back from its borrower, and the token with it."""
        try:
            await self._give_back(connection)
        finally:
            self._limit.release_on_behalf_of(borrower)

    async def _wait_for_token(self, borrower: "_Loan") -> None:
        with trio.move_on_after(self._settings.acquire_timeout) as scope:
            await self._limit.acquire_on_behalf_of(borrower)
        if scope.cancelled_caught:
            raise DatabaseUnavailableError(
                f"all {self._limit.total_tokens} connections of the pool stayed lent for"
                f" {self._settings.acquire_timeout} s: give them back sooner, or raise max_size"
            )

    async def _connect(self) -> Connection:
        connection = await Connection.connect(
            self._dsn,
            application_name=self._application_name,
            prepare_threshold=self._settings.prepare_threshold,
        )
        try:
            await make_ready(connection, self._configure)
        except BaseException:
            connection.abandon()
            raise
        lifetime = self._settings.max_lifetime * random.uniform(0.95, 1.0)  # noqa: S311 - no secret
        expires = trio.current_time() + lifetime
        self._births[connection] = Birth(expires, session_of(connection))
        return connection

    def _take_at_once(self) -> Connection | None:
        """Take the spare connection that was used last, if it need not be asked whether it is alive."""
        if self._spare and self._seems_alive(self._spare[-1]):
            return self._spare.pop().connection
        return None

    async def _take(self) -> Connection | None:
        """Find a spare connection that is alive; close those that are not."""
        while self._spare:
            spare = self._spare.pop()
            alive = False
            try:
                alive = await self._is_alive(spare)
            finally:  # cancelled meanwhile, nobody has it
                if not alive:
                    self._discard(spare.connection)
            if alive:
                return spare.connection
        return None

    def _seems_alive(self, spare: Spare) -> bool:
        connection, now = spare.connection, trio.current_time()
        # A silent socket is as good as ever. One with something to read may have been told that the
        # server is going down: a restart shows here, without a round trip each time.
        return (
            not connection.closed
            and now < self._births[connection].expires
            and now - spare.since < self._settings.check_after
            and not has_input(connection.pgconn.socket)
        )

    async def _is_alive(self, spare: Spare) -> bool:
        connection = spare.connection
        if connection.closed or trio.current_time() >= self._births[connection].expires:
            return False
        if self._seems_alive(spare):
            return True
        try:
            with trio.move_on_after(CHECK_TIMEOUT):
                await connection.execute("")
                return True
        except psycopg.Error as error:
            logger.info("a pooled connection was lost: %s", error)
        return False

    async def _give_back(self, connection: Connection) -> None:
        try:
            if not connection.closed and connection.pgconn.transaction_status != IDLE:
                await self._tidy(connection)
        finally:
            now = trio.current_time()
            birth = self._births[connection]
            if self._closed or not _is_clean(connection, birth) or now >= birth.expires:
                self._discard(connection)
            else:
                self._spare.append(Spare(connection, now))

    async def _tidy(self, connection: Connection) -> None:
        """Stop what still runs, or roll back what is still open; shielded and bounded by `grace`."""
        try:
            if connection.pgconn.transaction_status == ACTIVE or connection.in_pipeline:
                await connection.cancel_safe()  # it will be closed; that alone stops no statement
            else:
                await connection.rollback()
        except psycopg.Error as error:
            logger.info("a connection came back in use and is closed: %s", error)

    def _discard(self, connection: Connection) -> None:
        del self._births[connection]
        connection.abandon()

    async def _keep_house(self, min_size: int) -> None:
        """See to connections that are old, and to those that wait in vain."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._close_old_ones, min_size)
            nursery.start_soon(watch, self._dsn, lambda: tuple(self._births), self._lose)

    def _lose(self, connection: Connection, why: str) -> None:
        """Close a connection that the network has lost, and those that it may have lost with it."""
        logger.warning("a connection was lost: %s", why)
        connection.abandon(why)
        while self._spare:
            self._discard(self._spare.pop().connection)

    async def _close_old_ones(self, min_size: int) -> None:
        """Close connections that have been unused, or have lived, for long enough."""
        settings = self._settings
        period = max(SHORTEST_ROUND, min(settings.max_idle, settings.max_lifetime) / 4)
        while True:
            await trio.sleep(period)
            self._close_the_old(min_size)

    def _close_the_old(self, min_size: int) -> None:
        oldest = trio.current_time() - self._settings.max_idle
        surplus = len(self._spare) - min_size
        kept: deque[Spare] = deque()
        for spare in self._spare:
            idle = surplus > 0 and spare.since <= oldest
            surplus -= idle
            if idle or trio.current_time() >= self._births[spare.connection].expires:
                self._discard(spare.connection)
            else:
                kept.append(spare)
        self._spare = kept


def _is_clean(connection: Connection, birth: Birth) -> bool:
    return (
        not connection.closed
        and connection.pgconn.transaction_status == IDLE
        and not connection.in_pipeline
        and not connection.lock.locked()
        and session_of(connection) == birth.session
    )


@attrs.define(eq=False)
class _Loan:
    """Lend a connection for a block: it borrows, not the task, which may have several blocks.

    A class, because every statement of a store passes through one, and two nested generators took
    longer than everything else that lending does.
    """

    _pool: Pool
    _connection: Connection | None = attrs.field(default=None, init=False)

    async def __aenter__(self) -> Connection:
        self._connection = await self._pool.lend(self)
        return self._connection

    async def __aexit__(
        self,
        _: type[BaseException] | None,
        __: BaseException | None,
        ___: TracebackType | None,
    ) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await self._pool.take_back(self, connection)
