"""Telling readers that something was appended: in this process at once, in others by NOTIFY.

Only latency hangs on it. Readers poll as well, so that a lost notification costs them one wait.
"""

import logging
import math
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from typing import Final
from uuid import uuid4

import attrs
import psycopg
import trio
from psycopg import sql

from flowstore.errors import DatabaseError
from flowstore.postgres import Along, Connection, DirectStatement, translate_errors
from flowstore.store._statements import Lend

__all__ = ["Signals", "Spacing"]

logger = logging.getLogger("flowstore.store")

# Without waiting for the disk: a notification that a crash takes back is none that anybody waits for,
# and its flush would stand in the way of the commits that it tells of.
_NOTIFY: Final = DirectStatement(
    b"select set_config('synchronous_commit', 'off', true), pg_notify($1, $2)"
)

_RETRY_AFTER: Final = 1.0
"""Seconds before a lost connection is tried again; meanwhile readers poll."""
_ANSWER: Final = 2.0
"""Seconds in which the connection that listens has to answer."""


_ROOMIEST: Final = 10
"""How many times longer than the shortest one the longest wait between notifications is."""


@attrs.define
class Spacing:
    """Decide how long to wait between two notifications.

    Readers look every few milliseconds while each look brings news, told or not. So while commits
    come twice as densely as that, nobody hears anything new from a notification, and they get
    rarer; the first after a lull goes out at once, and the last always does.

    Attributes:
        shortest: seconds to wait while commits are few; also how often readers look by themselves
            while there is news.
    """

    shortest: float
    _times: int = attrs.field(default=1, init=False)

    def after(self, commits: int) -> float:
        """Give the seconds to wait after a notification.

        Args:
            commits: how many came since the one before it.
        """
        is_dense = commits >= 2 * self._times
        self._times = min(2 * self._times, _ROOMIEST) if is_dense else 1
        return self._times * self.shortest


@attrs.define(eq=False)
class Signals:
    """Wake whoever waits for appends.

    Attributes:
        dsn: where the database is, for the connection that listens.
        channel: the schema's channel.
        lend: lends the connection that notifies.
        at_most_every: seconds between notifications. NOTIFY takes a lock that all of a database's
            commits share, and a connection, and a round trip beside the appends'.
        silence: seconds without a notification after which the connection that listens has to show
            that it lives.
        heard: counts the wake-ups, so that who was busy can tell that there was one.
    """

    dsn: str = attrs.field(repr=False)
    channel: str
    lend: Lend = attrs.field(repr=False)
    at_most_every: float = 0.005
    silence: float = 10.0
    heard: int = attrs.field(default=0, init=False)
    _pace: Spacing = attrs.field(init=False, repr=False)
    _next: float = attrs.field(default=-math.inf, init=False, repr=False)
    _origin: str = attrs.field(factory=lambda: uuid4().hex, init=False, repr=False)
    _appended: trio.Event = attrs.field(factory=trio.Event, init=False, repr=False)
    _unsent: trio.Event = attrs.field(factory=trio.Event, init=False, repr=False)
    _unsent_commits: int = attrs.field(default=0, init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self._pace = Spacing(self.at_most_every)

    def notify(self, *, is_told: bool = False) -> None:
        """Wake those who wait in this process, and have the other processes told soon.

        Args:
            is_told: the others were told already, by what `along` gave.
        """
        self._wake()
        if not is_told:
            self._unsent_commits += 1
            self._unsent.set()

    def along(self) -> Along | None:
        """Give what tells other processes, if it may be sent now, to go along with an append.

        It saves a round trip, and reaches them sooner than the append's answer whoever appends. None
        while commits are so dense that notifications are to be rare: one is sent for all of them then.
        """
        now = trio.current_time()
        if now < self._next or self._unsent.is_set():
            return None
        self._next = now + self._pace.after(1)
        return _NOTIFY, (self.channel, self._origin)

    async def wait(self, timeout: float) -> None:  # noqa: ASYNC109 - the wait is what is asked for
        """Return when something was appended, or after `timeout` seconds."""
        with trio.move_on_after(timeout):
            await self._appended.wait()

    async def send(self) -> None:
        """Tell other processes, for ever: once for everything that came within a few ms."""
        while True:
            await self._unsent.wait()
            await trio.sleep_until(max(self._next, trio.current_time()))
            self._unsent = trio.Event()
            commits, self._unsent_commits = self._unsent_commits, 0
            try:
                with translate_errors():
                    async with self.lend() as connection:
                        await connection.fetch_row(_NOTIFY, (self.channel, self._origin))
            except DatabaseError as error:
                logger.warning("could not notify of appends, readers poll: %s", error)
                await trio.sleep(_RETRY_AFTER)
            self._next = trio.current_time() + self._pace.after(commits)

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
                    connection.grace = _ANSWER
                    listen = sql.SQL("listen {}").format(sql.Identifier(self.channel))
                    await _execute_soon(connection, listen)
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
        while True:
            async with aclosing(connection.notifies(timeout=self.silence)) as notifications:
                async for notification in notifications:
                    # One's own was heard before it was sent; another look would find nothing new.
                    if notification.payload != self._origin:
                        self._wake()
            await _execute_soon(connection, b"")

    def _wake(self) -> None:
        self.heard += 1
        self._appended.set()
        self._appended = trio.Event()


async def _execute_soon(connection: Connection, query: bytes | sql.Composed) -> None:
    """Execute what takes no time; nobody else would find out that there is no answer.

    Raises:
        psycopg.OperationalError: there is none.
    """
    with trio.move_on_after(_ANSWER):
        await connection.execute(query)
        return
    raise psycopg.OperationalError(f"no answer within {_ANSWER} s")
