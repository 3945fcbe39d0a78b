"""LISTEN and NOTIFY."""

import socket
from collections import deque
from contextlib import aclosing

import pytest
import trio
from psycopg import generators, pq

from flowstore.postgres import Connection


@pytest.fixture
async def listener(dsn):
    """A connection that listens, in a database of its own: channels are the database's."""
    async with await Connection.connect(dsn) as conn:
        await conn.execute("listen ch")
        yield conn


@pytest.fixture
async def notify(dsn):
    async with await Connection.connect(dsn) as conn:

        async def send(payload):
            await conn.execute("select pg_notify('ch', %s)", (payload,))

        yield send


async def payloads(conn, **limits):
    async with aclosing(conn.notifies(**limits)) as notifications:
        return [notification.payload async for notification in notifications]


async def test_notifications_wake_a_waiting_task_in_order(listener, notify):
    found = []

    async def listen():
        found.extend(await payloads(listener, stop_after=3))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(listen)
        await trio.testing.wait_all_tasks_blocked()
        for payload in "abc":
            await notify(payload)
    assert found == ["a", "b", "c"]


async def test_without_notifications_the_iteration_ends_after_its_timeout(listener):
    with trio.fail_after(60):
        assert await payloads(listener, timeout=0.01) == []


async def test_a_timeout_of_zero_takes_what_is_there(listener, notify):
    await notify("a")
    await arrived(listener, b"a")
    assert await payloads(listener, timeout=0) == ["a"]
    assert await payloads(listener, timeout=0) == []


async def test_what_came_with_another_statement_is_kept(listener, notify):
    await notify("a")
    await arrived(listener, b"a")
    await listener.execute("select 1")
    assert await payloads(listener, stop_after=1) == ["a"]


async def test_what_an_iteration_left_is_kept_for_the_next(listener, notify):
    for payload in "abc":
        await notify(payload)
    await arrived(listener, b"c")
    assert await payloads(listener, stop_after=1) == ["a"]
    assert await payloads(listener, stop_after=2) == ["b", "c"]


async def test_a_notification_read_with_the_end_of_a_pipeline_is_not_overlooked(
    listener, notify, observer
):
    """libpq holds it, so the socket stays silent: only looking into libpq finds it."""
    pgconn = listener.pgconn
    pgconn.enter_pipeline_mode()
    pgconn.send_query_params(b"select 1", None)
    pgconn.pipeline_sync()
    pgconn.flush()
    idle = "select state = 'idle' from pg_stat_activity where pid = %s and query = 'select 1'"
    await observer.until(idle, listener.info.backend_pid)
    await notify("a")
    await arrived(listener, b"a")
    await listener.wait(generators.pipeline_communicate(pgconn, deque()))
    pgconn.exit_pipeline_mode()
    with trio.fail_after(60):
        assert await payloads(listener, stop_after=1) == ["a"]


async def test_a_cancelled_iteration_leaves_the_connection_listening(listener, notify):
    with trio.CancelScope() as scope:
        scope.cancel()
        await payloads(listener)
    assert listener.info.transaction_status == pq.TransactionStatus.IDLE
    await notify("a")
    assert await payloads(listener, stop_after=1) == ["a"]


async def test_statements_run_while_the_consumer_has_a_notification_in_hand(listener, notify):
    await notify("a")
    async with aclosing(listener.notifies()) as notifications:
        async for notification in notifications:
            row = await (await listener.execute("select %s", (notification.payload,))).fetchone()
            break
    assert row == ("a",)


async def arrived(conn, payload):
    """Wait until the payload's bytes are at the socket, unread."""
    with trio.fail_after(60), socket.socket(fileno=socket.dup(conn.fileno())) as sock:
        while payload + b"\0" not in peeked(sock):
            await trio.lowlevel.checkpoint()


def peeked(sock):
    try:
        return sock.recv(1 << 16, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return b""
