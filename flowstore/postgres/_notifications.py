"""Waiting for NOTIFY on a connection that has listened."""

from collections import deque
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

import trio
from psycopg import Notify, errors, generators
from psycopg.pq.abc import PGconn
from psycopg.waiting import Wait

from flowstore.postgres._waiting import ready_now

if TYPE_CHECKING:
    from flowstore.postgres._connection import Connection


async def notifications(
    connection: "Connection",
    *,
    timeout: float | None,  # noqa: ASYNC109 - psycopg's own parameter: the end of the iteration
    stop_after: int | None,
) -> AsyncGenerator[Notify]:
    """Yield notifications as they come, those that came with earlier statements first.

    What was received and not yielded is kept for the next call. The connection is free for others
    while the consumer has control, and taken while waiting.
    """
    received: deque[Notify] = connection.take_backlog()
    deadline = None if timeout is None else trio.current_time() + timeout
    yielded = 0
    connection.add_notify_handler(received.append)
    try:
        while stop_after is None or yielded < stop_after:
            if not received and not await _receive(connection, received, deadline):
                return
            yield received.popleft()
            yielded += 1
    finally:
        connection.remove_notify_handler(received.append)
        connection.keep_backlog(received)


async def _receive(
    connection: "Connection", received: deque[Notify], deadline: float | None
) -> bool:
    """Wait until something is in `received`; tell whether that was in time."""
    while not received:
        left = None if deadline is None else max(0.0, deadline - trio.current_time())
        async with connection.lock:
            if received:  # came with another task's statement while we waited for the lock
                return True
            pgconn = connection.pgconn
            # libpq may have read a notification together with the end of a pipeline: the socket would
            # stay silent, so what libpq holds is looked through before each wait.
            _hand_over(pgconn)
            if not received and (left != 0.0 or ready_now(pgconn.socket, Wait.R)):
                try:
                    await connection.wait(generators.notifies(pgconn), timeout=left or None)
                except errors._WaitTimeout:  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - what psycopg's wait() promises to raise
                    return False
        if left == 0.0:
            return bool(received)
    return True


def _hand_over(pgconn: PGconn) -> None:
    while notification := pgconn.notifies():
        if pgconn.notify_handler:
            pgconn.notify_handler(notification)
