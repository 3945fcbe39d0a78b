"""Opening a connection to PostgreSQL: which addresses to try, and trying them."""

import ipaddress
import random
import socket
from collections.abc import Sequence
from typing import Final

import psycopg
import trio
from psycopg import pq
from psycopg._conninfo_utils import get_param, split_attempts
from psycopg.abc import ConnDict
from psycopg.conninfo import make_conninfo, timeout_from_conninfo
from psycopg.pq.abc import PGconn

from flowstore.postgres._waiting import poll_until_done

DEFAULT_PORT: Final = "5432"
OLDEST_LIBPQ: Final = 170000
"""The first libpq that cancels a statement without blocking.

An older one can only cancel with a blocking call that keeps the GIL: behind a network that swallows
packets the whole process would stand still, also from a thread.
"""

TIME_LIMITS: Final = {
    "connect_timeout": "4",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "15000",
}
"""Parameters of libpq where nobody gives them: a network that is gone is found out in seconds.

Without them a connection attempt waits for minutes, and a connection that nothing is sent on for hours.
Who tries again does so in short steps, hence the seconds to connect.
"""


def with_time_limits(params: ConnDict) -> ConnDict:
    """Add how long to wait for a network that is silent, where nothing says so."""
    if get_param(params, "service") is not None:  # it may give them, and only libpq reads it
        return params
    given = {name for name in TIME_LIMITS if get_param(params, name) is not None}
    return {**{name: TIME_LIMITS[name] for name in TIME_LIMITS if name not in given}, **params}


def with_name(params: ConnDict, application_name: str) -> ConnDict:
    """Put our name before the one that `params` give the server's views to show, if any."""
    given = str(params.get("application_name") or "")
    if given.startswith(application_name):
        return params
    name = f"{application_name}: {given}" if given else application_name
    return {**params, "application_name": name}


async def open_pgconn(params: ConnDict) -> PGconn:
    """Connect to the first address of `params` that answers.

    Hosts and their addresses are tried in order, each for `connect_timeout` seconds (from `params`,
    its environment variable or psycopg's default of 130, at least 2). Cancelled, nothing stays open.

    Raises:
        psycopg.NotSupportedError: psycopg runs on a libpq that can't cancel without blocking.
        psycopg.ConnectionTimeout: the last address did not answer in time.
        psycopg.OperationalError: no address could be connected to.
    """
    check_libpq(pq.version())
    timeout = timeout_from_conninfo(params)
    failures: list[tuple[psycopg.Error, str]] = []
    for attempt in await connection_attempts(params):
        try:
            return await _try(make_conninfo("", **attempt), timeout)
        except psycopg.Error as error:
            failures.append((error, _describe(attempt)))
    raise _all_failed(failures)


def check_libpq(version: int) -> None:
    """Refuse a libpq that is too old.

    Raises:
        psycopg.NotSupportedError: the version is below `OLDEST_LIBPQ`.
    """
    if version < OLDEST_LIBPQ:
        raise psycopg.NotSupportedError(
            f"psycopg runs on libpq {version // 10000}, but flowstore needs 17 or later to cancel"
            " statements without blocking: install psycopg[binary], or unset PSYCOPG_IMPL"
        )


async def connection_attempts(params: ConnDict) -> Sequence[ConnDict]:
    """List what to try, in order: one entry an address, host names resolved through trio.

    Raises:
        psycopg.OperationalError: no host name could be resolved.
    """
    prefers_standby = get_param(params, "target_session_attrs") == "prefer-standby"
    if prefers_standby:
        params = {**params, "target_session_attrs": "any"}
    attempts: list[ConnDict] = []
    unresolved: psycopg.OperationalError | None = None
    for attempt in split_attempts(params):
        try:
            attempts += await _resolve(attempt)
        except OSError as error:
            host = get_param(attempt, "host")
            unresolved = psycopg.OperationalError(f"failed to resolve host {host!r}: {error}")
    if unresolved and not attempts:
        raise unresolved
    if get_param(params, "load_balance_hosts") == "random":
        random.shuffle(attempts)
    standbys: list[ConnDict] = [{**a, "target_session_attrs": "standby"} for a in attempts]
    return standbys + attempts if prefers_standby else attempts


async def _resolve(attempt: ConnDict) -> list[ConnDict]:
    host = get_param(attempt, "host")
    if not host or host.startswith(("/", "@")) or get_param(attempt, "hostaddr"):
        return [attempt]  # a Unix socket, or nothing left to look up
    if _is_address(host):
        return [{**attempt, "hostaddr": host}]
    port = get_param(attempt, "port") or DEFAULT_PORT
    found = await trio.socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP
    )
    return [{**attempt, "hostaddr": str(entry[4][0])} for entry in found]


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


async def _try(conninfo: str, timeout: float) -> PGconn:  # noqa: ASYNC109 - turned into psycopg's own error
    with trio.move_on_after(timeout):
        pgconn = pq.PGconn.connect_start(conninfo.encode())
        try:
            await poll_until_done(
                pgconn.connect_poll,
                lambda: pgconn.socket,
                lambda: f"connection failed: {pgconn.get_error_message()}",
            )
            pgconn.nonblocking = 1
        except BaseException:
            pgconn.finish()
            raise
        return pgconn
    raise psycopg.errors.ConnectionTimeout(f"no answer within {timeout} s")


def _describe(attempt: ConnDict) -> str:
    return ", ".join(
        f"{key} {attempt[key]!r}" for key in ("host", "port", "hostaddr") if key in attempt
    )


def _all_failed(failures: Sequence[tuple[psycopg.Error, str]]) -> psycopg.Error:
    last, _ = failures[-1]
    if len(failures) == 1:
        return last
    lines = "".join(f"\n- {place}: {error}" for error, place in failures)
    return type(last)(f"{last}\nnone of {len(failures)} addresses could be connected to:{lines}")
