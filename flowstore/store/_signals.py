"""Telling readers that something was appended: in this process at once, in others by NOTIFY.

Only latency hangs on it. Readers poll as well, so that a lost notification costs them one wait.
"""

import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from typing import Final

import attrs
import psycopg
import trio
from psycopg import sql

from flowstore.errors import DatabaseError
from flowstore.postgres import Connection, translate_errors
from flowstore.store._statements import Lend

__all__ = ["Signals"]

logger = logging.getLogger("flowstore.store")

_NOTIFY: Final = b"select pg_notify(%s, '')"

_RETRY_AFTER: Final = 1.0
"""Seconds before a lost connection is tried again; meanwhile readers poll."""


@attrs.define(eq=False)
class Signals:
    """Wake whoever waits for appends.

    Attributes:
        dsn: where the database is, for the connection that listens.
        channel: the schema's channel.
        lend: lends the connection that notifies.
        at_most_every: seconds between notifications. NOTIFY takes a lock that all of a database's
            commits share; one every few milliseconds costs nothing that could be measured.
    """

    dsn: str = attrs.field(repr=False)
    channel: str
    lend: Lend = attrs.field(repr=False)
    at_most_every: float = 0.005
    _appended: trio.Event = attrs.field(factory=trio.Event, init=False, repr=False)
    _unsent: trio.Event = attrs.field(factory=trio.Event, init=False, repr=False)

    def notify(self) -> None:
        """Wake those who wait in this process, and have the other processes told soon."""
        self._wake()
        self._unsent.set()

    async def wait(self, timeout: float) -> None:  # noqa: ASYNC109 - the wait is what is asked for
        """Return when something was appended, or after `timeout` seconds."""
        with trio.move_on_after(timeout):
            await self._appended.wait()

    async def send(self) -> None:
        """Tell other processes, for ever: once for everything that came within a few ms."""
        while True:
            await self._unsent.wait()
            self._unsent = trio.Event()
            try:
                with translate_errors():
                    async with self.lend() as connection:
                        await connection.execute(_NOTIFY, (self.channel,))
            except DatabaseError as error:
                logger.warning("could not notify of appends, readers poll: %s", error)
                await trio.sleep(_RETRY_AFTER)
            await trio.sleep(self.at_most_every)

    @asynccontextmanager
    async def listening(self) -> AsyncGenerator[None]:
        """Also wake waiters in this process for what others append, while the block runs."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self._listen)
            yield
            nursery.cancel_scope.cancel()

    async def _listen(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        started = False
        while True:
            try:
                async with await Connection.connect(self.dsn) as connection:
                    await connection.execute(
                        sql.SQL("listen {}").format(sql.Identifier(self.channel))
                    )
                    # What was appended while nobody listened is news now.
                    self._wake()
                    if not started:
                        task_status.started()
                        started = True
                    await self._relay(connection)
            except psycopg.Error as error:
                logger.warning("can't listen for appends, readers poll: %s", error)
            if not started:
                task_status.started()
                started = True
            await trio.sleep(_RETRY_AFTER)

    async def _relay(self, connection: Connection) -> None:
        async with aclosing(connection.notifies()) as notifications:
            async for _ in notifications:
                self._wake()

    def _wake(self) -> None:
        self._appended.set()
        self._appended = trio.Event()
