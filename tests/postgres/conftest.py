"""A connection under test, a second one that observes it, and ways to disturb the server."""

import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from functools import partial

import pytest
import trio

from flowstore.postgres import Connection

PATIENCE = 60.0


class Observer:
    """Sees another connection's backend from outside."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    async def value(self, query, *params):
        row = await (await self.connection.execute(query, params)).fetchone()
        return row and row[0]

    async def state(self, pid: int) -> str | None:
        return await self.value("select state from pg_stat_activity where pid = %s", pid)

    async def until(self, query, *params) -> None:
        """Ask again and again until the answer is true."""
        with trio.fail_after(PATIENCE):
            while not await self.value(query, *params):
                await trio.lowlevel.checkpoint()

    async def until_active(self, pid: int) -> None:
        await self.until("select state = 'active' from pg_stat_activity where pid = %s", pid)

    async def until_not_active(self, pid: int) -> None:
        query = "select count(*) = 0 from pg_stat_activity where pid = %s and state = 'active'"
        await self.until(query, pid)

    async def until_waiting(self, pid: int, event: str) -> None:
        """Wait until the backend waits for `event`, such as ClientWrite or PgSleep."""
        query = "select wait_event = %s from pg_stat_activity where pid = %s"
        await self.until(query, event, pid)

    async def cancel_when_active(self, pid: int, scope: trio.CancelScope) -> None:
        await self.until_active(pid)
        scope.cancel()


@pytest.fixture
async def conn(pg_dsn: str) -> AsyncIterator[Connection]:
    connection = await Connection.connect(pg_dsn)
    yield connection
    await connection.close()


@pytest.fixture
async def observer(pg_dsn: str) -> AsyncIterator[Observer]:
    connection = await Connection.connect(pg_dsn)
    yield Observer(connection)
    await connection.close()


@pytest.fixture
async def cancelled(conn: Connection, observer: Observer):
    """Run a function, cancel it once its statement runs on the server, give back the scope."""

    async def run(function) -> trio.CancelScope:
        pid = conn.info.backend_pid
        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                with trio.CancelScope() as scope:
                    nursery.start_soon(observer.cancel_when_active, pid, scope)
                    await function()
        assert scope.cancelled_caught
        await observer.until_not_active(pid)
        return scope

    return run


@pytest.fixture
def freeze() -> Iterator[Callable[[int], None]]:
    """Stop a backend where it stands; it goes on after the test."""
    frozen: list[int] = []

    def stop(pid: int) -> None:
        try:
            os.kill(pid, signal.SIGSTOP)
        except (PermissionError, ProcessLookupError) as error:
            pytest.skip(f"the server's processes are out of reach: {error}")
        frozen.append(pid)

    yield stop
    for pid in frozen:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


class Relay:
    """Offers the server's Unix socket over TCP, and can swallow what it is sent."""

    def __init__(self, socket_path: str) -> None:
        self.socket_path = socket_path
        self.port = 0
        self.links: list[list[bool]] = []  # of each whether it is mute
        self.silent = False
        self.accepted = 0

    async def serve(self, task_status=trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as nursery:
            [listener] = await nursery.start(
                partial(trio.serve_tcp, self._handle, 0, host="127.0.0.1")
            )
            self.port = listener.socket.getsockname()[1]
            task_status.started()

    async def _handle(self, client: trio.SocketStream) -> None:
        self.accepted += 1
        if self.silent:
            await trio.sleep_forever()
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            server = await trio.open_unix_socket(self.socket_path)
            mute = [False]
            self.links.append(mute)
            async with server, trio.open_nursery() as nursery:
                nursery.start_soon(self._copy, client, server, mute, nursery.cancel_scope)
                nursery.start_soon(self._copy, server, client, mute, nursery.cancel_scope)

    def mute(self) -> None:
        """Swallow all that the present connections send, either way, for ever."""
        for link in self.links:
            link[0] = True

    async def _copy(self, source, target, mute: list[bool], done: trio.CancelScope) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async for data in source:
                if not mute[0]:
                    await target.send_all(data)
        if not mute[0]:
            done.cancel()


@pytest.fixture
async def relay(conn: Connection, nursery: trio.Nursery) -> Relay:
    info = conn.info
    if not info.host.startswith("/"):
        pytest.skip("the tests' server isn't on a Unix socket")
    relay = Relay(f"{info.host}/.s.PGSQL.{info.port}")
    await nursery.start(relay.serve)
    return relay


@pytest.fixture
def tcp_dsn(conn: Connection, relay: Relay) -> str:
    return f"host=localhost port={relay.port} user={conn.info.user} dbname={conn.info.dbname}"
