"""Listening, and handing each client to a task of its own."""

import errno
from contextlib import AsyncExitStack
from functools import partial

import trio

from flowstore.daemon import ProjectionDaemon
from flowstore.dashboard._answers import Site, is_loopback
from flowstore.dashboard._connection import serve_client
from flowstore.dashboard._page import Board, read_template
from flowstore.errors import FlowstoreError

__all__ = ["DashboardError", "serve_dashboard"]

_MOST_CLIENTS = 64
"""Connections served at once; the next ones wait until one of these is done."""


class DashboardError(FlowstoreError):
    """The dashboard can't listen where it was told to.

    Attributes:
        host: the name or address.
        port: the port.
    """

    def __init__(self, host: str, port: int, reason: str) -> None:
        super().__init__(f"the dashboard can't listen on {host!r}, port {port}: {reason}")
        self.host = host
        self.port = port


async def serve_dashboard(
    daemon: ProjectionDaemon,
    *,
    host: str = "127.0.0.1",
    port: int = 8025,
    task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve a page that shows where a daemon's shards stand, until cancelled.

    `/` is a page for people, which refreshes itself and needs no JavaScript; `/statuses.json` is
    the same for programs. Both only show: nothing can be started or stopped there. Nobody is asked
    who they are, so it listens on the loopback address unless told otherwise, and then answers
    only those who ask for this machine by a name of its own.

    Started by `nursery.start`, it gives the page's address once it listens.

    Args:
        daemon: whose shards are shown; a stopped one too.
        host: name or address to listen on.
        port: where to listen; 0 takes a free one.
        task_status: trio's.

    Raises:
        DashboardError: the port is in use, or can't be listened on.
    """
    site = Site(
        read_template(),
        lambda: Board(daemon.high_water_mark, daemon.statuses()),
        local_only=is_loopback(host),
    )
    limiter = trio.CapacityLimiter(_MOST_CLIENTS)

    async def serve(stream: trio.SocketStream) -> None:
        async with limiter:
            await serve_client(stream, site)

    async with AsyncExitStack() as stack:
        listeners = await _listen(host, port)
        for listener in listeners:
            stack.push_async_callback(listener.aclose)
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(trio.serve_listeners, serve, listeners))
            task_status.started(_address(host, listeners[0]))


async def _listen(host: str, port: int) -> list[trio.SocketListener]:
    try:
        return await trio.open_tcp_listeners(port, host=host)
    except OSError as error:
        raise DashboardError(host, port, _reason(error)) from error


def _reason(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "another program listens there; choose another with port=, or 0 for any free one"
    if error.errno == errno.EACCES:
        return "that takes rights this process lacks; choose a port from 1024"
    return f"{error.strerror or error}; choose a host and port of this machine"


def _address(host: str, listener: trio.SocketListener) -> str:
    port = listener.socket.getsockname()[1]
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}/"
