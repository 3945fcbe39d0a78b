"""Noticing that a statement waits for an answer that will never come.

A network that swallows packets tells nobody, and neither does TCP where something in between, a
router that forgot the connection or a proxy that hangs, still takes what is sent. How long a statement
may take is nobody's to say, so no time limit would be right. But the server knows: while its end of
the connection waits for us, and we have been waiting for it, there is nothing to wait for; unless what
we sent is there, and the backend has not been let run since.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from time import monotonic
from typing import Final, LiteralString, TypeAlias

import psycopg
import trio
from psycopg.conninfo import make_conninfo

from flowstore.postgres._backend import Backend
from flowstore.postgres._backends import end_backend
from flowstore.postgres._connection import Connection
from flowstore.postgres._forsaken import Ours, Place, Theirs, is_forsaken, look_at_ours

__all__ = ["Lost", "watch"]

logger: Final = logging.getLogger("flowstore.postgres")

Lost: TypeAlias = Callable[[Connection, str], None]
"""Is told of a connection that is lost, and of how that was found out."""

_SILENCE: Final = 2.0
"""Seconds without a byte after which the server is asked; few statements take so long."""
_PERIOD: Final = 0.5
"""Seconds between two looks: an answer that is on its way has arrived by the second one."""
_LOOK_TIMEOUT: Final = 1.5
"""Seconds that a look may take; one that was begun while the network was out is in vain.

A look goes back and forth several times: where it succeeds, no answer is under way for a `_PERIOD`.
"""
_GRACE: Final = 0.5

_LOOK: Final[LiteralString] = """
select
    pid, backend_start,
    coalesce(wait_event in ('ClientRead', 'ClientWrite'), false),
    case when state like 'idle%%' then extract(epoch from clock_timestamp() - state_change)::float8 end,
    host(client_addr), client_port, host(inet_server_addr()), inet_server_port()
from pg_stat_activity where pid = any(%s)
"""

_Waits: TypeAlias = Mapping[Connection, float]
"""Connections with the moment since when each has waited without hearing anything."""


async def watch(dsn: str, connections: Callable[[], Iterable[Connection]], lost: Lost) -> None:
    """Look for ever for connections whose statement won't be answered.

    Lost is what was silent at two looks one after the other, at both of which the server waited for
    us with nothing left to read, or had no such process any more. Its end is closed too: what it
    holds, others wait for.

    Args:
        dsn: where to connect to for a look.
        connections: gives those to watch; one whose backend isn't known is left alone.
        lost: is told of each that is lost.
    """
    suspects: _Waits = {}
    while True:
        await trio.sleep(_PERIOD)
        # Where one was lost others were: who began to wait later need not wait as long again.
        silent = _silent(connections(), _PERIOD if suspects else _SILENCE)
        found: dict[Connection, float] = {}
        for there in _by_server(silent):
            forsaken = await _look(dsn, there, suspects)
            found |= {each: silent[each] for each in forsaken}
        for connection, since in found.items():
            if suspects.get(connection) == since == connection.silent_since:
                lost(
                    connection,
                    f"no answer for {monotonic() - since:.1f} s, and the server owes none",
                )
        suspects = found


def _silent(connections: Iterable[Connection], seconds: float) -> dict[Connection, float]:
    latest = monotonic() - seconds
    return {
        each: each.silent_since
        for each in connections
        if each.backend is not None
        and each.silent_since is not None
        and each.silent_since <= latest
    }


def _by_server(silent: _Waits) -> Iterable[Sequence[Connection]]:
    """Sort connections by the very server, of all that their connection string may name."""
    servers: dict[tuple[str, ...], list[Connection]] = {}
    for each in silent:
        info = each.info
        servers.setdefault((info.host, info.hostaddr, str(info.port)), []).append(each)
    return servers.values()


async def _look(dsn: str, there: Sequence[Connection], suspects: _Waits) -> Sequence[Connection]:
    """Find those that the server does nothing for; none if it can't be asked.

    Those that were suspects before, and are silent since then, are ended there.
    """
    info = there[0].info
    place = make_conninfo(dsn, host=info.host, hostaddr=info.hostaddr, port=info.port)
    with trio.move_on_after(_LOOK_TIMEOUT):
        try:
            connection = await Connection.connect(place)
            connection.grace = _GRACE
            async with connection:
                found = await _forsaken(connection, there)
                for each in found:
                    if each.backend is not None and each.silent_since == suspects.get(each):
                        await end_backend(connection, each.backend)
                return found
        except psycopg.Error as error:
            logger.debug("could not ask whether statements are still worked on: %s", error)
    return ()


async def _forsaken(connection: Connection, silent: Sequence[Connection]) -> Sequence[Connection]:
    """Find those whose answer won't come, by what this side's kernel and the server know of each."""
    waits: dict[Connection, tuple[float, Ours]] = {}
    for each in silent:
        # It may have heard something, or have been closed, since a look was decided on.
        if each.silent_since is not None and (ours := look_at_ours(each)) is not None:
            waits[each] = monotonic() - each.silent_since, ours
    theirs = await _theirs(connection, [each.backend for each in waits])
    return [
        each
        for each, (silence, ours) in waits.items()
        if is_forsaken(ours, theirs.get(each.backend), silence)
    ]


async def _theirs(
    connection: Connection, backends: Sequence[Backend | None]
) -> Mapping[Backend | None, Theirs]:
    pids = [backend.pid for backend in backends if backend is not None]
    rows = await (await connection.execute(_LOOK, (pids,))).fetchall()
    return {
        Backend(pid, started): Theirs(
            waits_for_us=waits, idle_for=idle_for, here=_place(*here), there=_place(*there)
        )
        for pid, started, waits, idle_for, *ends in rows
        for here, there in [(ends[:2], ends[2:])]
    }


def _place(address: str | None, port: int | None) -> Place | None:
    return None if address is None or port is None else (address, port)
