"""An embedded PostgreSQL: started by its first client, stopped after its last.

Every client holds a share of the lock `clients.lock`; a supervisor process waits for it to be
exclusive (see `_supervisor`). `start.lock` lets one client at a time look and start. Locks belong to
open files, so they go with their process, however that ends.
"""

import contextlib
import fcntl
import json
import os
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import attrs
import trio

from flowstore.errors import EmbeddedServerError
from flowstore.postgres import _supervisor
from flowstore.postgres._binaries import binaries_for, usable_binaries
from flowstore.postgres._cluster import Home, command_line, create_data, make_places, server_user
from flowstore.postgres._supervisor import CLIENTS_LOCK, SUPERVISOR_LOCK, Order, is_ready

try:
    import platformdirs
except ModuleNotFoundError:  # a part of the extra; only needed where no data_dir is given
    platformdirs = None

START_LOCK: Final = "start.lock"
PERIOD: Final = 0.01
"""Seconds between two looks at a lock or a starting server: there is nothing to wait on in trio."""
START_TIMEOUT: Final = 90.0
"""Seconds for everything from the first lock to the first connection."""
STOP_TIMEOUT: Final = 10.0
"""Seconds that the last client waits for the server to be gone."""
LOG_LIMIT: Final = 1 << 20
"""Bytes of log beyond which the next start begins a new one."""
LOG_TAIL: Final = 3000
"""Bytes of log that an error shows."""

Settings = Mapping[str, str | float | bool]


@asynccontextmanager
async def embedded_postgres(
    data_dir: str | os.PathLike[str] | None = None, *, settings: Settings | None = None
) -> AsyncGenerator[str]:
    """Run a PostgreSQL server for the block, or join the one that runs for `data_dir`.

    It listens on a Unix socket that only its user can reach, and ends with its last client, whether
    that leaves the block, exits or is killed. Its data stay. For demos, development and tests.

    Args:
        data_dir: where it is at home; None means the platform's directory for a user's data.
        settings: PostgreSQL's configuration, such as `{"fsync": False}`; whoever joins a running
            server takes it as it is.

    Yields:
        The server's connection string.

    Raises:
        EmbeddedServerError: there is no PostgreSQL to run, or it can't be started.
    """
    lease = await join(data_dir, settings=settings)
    try:
        yield lease.dsn
    finally:
        await lease.leave()


@attrs.frozen
class Lease:
    """A client's share in an embedded server.

    Attributes:
        home: the server's places.
        descriptor: holds the share for as long as it is open.
    """

    home: Home
    descriptor: int

    @property
    def dsn(self) -> str:
        """The server's connection string."""
        return self.home.dsn

    async def leave(self) -> None:
        """Give the share back; if it was the last, wait until the server is gone.

        Shielded from cancellation, and bounded by `STOP_TIMEOUT`.
        """
        os.close(self.descriptor)
        with trio.CancelScope(shield=True, deadline=trio.current_time() + STOP_TIMEOUT):
            while _is_supervised(self.home) and not _has_clients(self.home):  # noqa: ASYNC110 - it is another process
                await trio.sleep(PERIOD)


async def join(
    data_dir: str | os.PathLike[str] | None = None, *, settings: Settings | None = None
) -> Lease:
    """Take a share in the server of `data_dir`, which is started if need be.

    Raises:
        EmbeddedServerError: there is no PostgreSQL to run, or it can't be started.
    """
    home = _home(data_dir)
    with trio.move_on_after(START_TIMEOUT):
        return await _join(home, settings or {})
    raise EmbeddedServerError(
        f"the embedded PostgreSQL in {home.path} was not ready within {START_TIMEOUT} s"
        + _tail(home.log)
    )


async def _join(home: Home, settings: Settings) -> Lease:
    try:
        home.path.mkdir(parents=True, exist_ok=True)
        starting = await _locked(home.path / START_LOCK, fcntl.LOCK_EX)
        try:
            # Waits while a supervisor stops the server it had.
            share = await _locked(home.path / CLIENTS_LOCK, fcntl.LOCK_SH)
            try:
                await _ensure_running(home, settings)
            except BaseException:
                os.close(share)
                raise
            return Lease(home, share)
        finally:
            os.close(starting)
    except OSError as error:
        raise EmbeddedServerError(
            f"the embedded PostgreSQL can't use {home.path}: {error}: name another data_dir"
        ) from error


def _home(data_dir: str | os.PathLike[str] | None) -> Home:
    if data_dir is not None:
        return Home(Path(data_dir).absolute())
    if platformdirs is None:
        raise EmbeddedServerError(
            "where to keep the data is unknown without platformdirs: install flowstore[embedded], name"
            " a data_dir, or use a server of your own (--dsn on the command line)"
        )
    return Home(platformdirs.user_data_path("flowstore", appauthor=False) / "postgres")


async def _ensure_running(home: Home, settings: Settings) -> None:
    while _is_supervised(home):
        # A client that was killed while starting may have left a supervisor that isn't ready yet.
        if is_ready(home.data):
            return
        await trio.sleep(PERIOD)
    await _start(home, settings)


async def _start(home: Home, settings: Settings) -> None:
    user = server_user()
    make_places(home, user)
    found = await binaries_for(home.data)
    binaries = await usable_binaries(found, home.cluster, user)
    await create_data(home, binaries, user)
    command = command_line(home, binaries, settings)
    report = await _supervised(home, command, user)
    if report != "ok":
        raise EmbeddedServerError(
            f"the embedded PostgreSQL in {home.path} did not start:"
            f" {report or 'its supervisor said nothing'}{_tail(home.log)}"
        )


async def _supervised(home: Home, command: list[str], user: tuple[int, int] | None) -> str:
    """Start a supervisor, and give back what it reports."""
    reading, writing = os.pipe()
    async with trio.lowlevel.FdStream(reading) as reports:
        order = Order(
            home=str(home.path),
            data=str(home.data),
            command=command,
            user=user,
            report_to=writing,
        )
        log = _open_log(home.log)
        try:
            await trio.run_process(
                [sys.executable, "-I", _supervisor.__file__, json.dumps(order)],
                check=False, cwd="/", start_new_session=True, pass_fds=[writing],
                stdout=log, stderr=log,
            )  # fmt: skip
        finally:
            os.close(log)
            os.close(writing)
        return b"".join([part async for part in reports]).decode(errors="replace")


# -- locks and logs ----------------------------------------------------------------------------------


async def _locked(path: Path, kind: int) -> int:
    """Open a file and lock it; the lock goes with the descriptor."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        while not _try_lock(descriptor, kind):  # noqa: ASYNC110 - it is another process
            await trio.sleep(PERIOD)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _try_lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _could_lock(path: Path, kind: int) -> bool:
    """Tell whether a lock could be had, without keeping it."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return True
    with contextlib.closing(os.fdopen(descriptor, "rb+")):
        return _try_lock(descriptor, kind)


def _is_supervised(home: Home) -> bool:
    """Tell whether a supervisor lives."""
    return not _could_lock(home.path / SUPERVISOR_LOCK, fcntl.LOCK_SH)


def _has_clients(home: Home) -> bool:
    """Tell whether somebody has a share: it can be shared, but not be had alone."""
    path = home.path / CLIENTS_LOCK
    return not _could_lock(path, fcntl.LOCK_EX) and _could_lock(path, fcntl.LOCK_SH)


def _open_log(path: Path) -> int:
    begin_anew = path.exists() and path.stat().st_size > LOG_LIMIT
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | (os.O_TRUNC if begin_anew else 0)
    return os.open(path, flags, 0o600)


def _tail(log: Path) -> str:
    try:
        end = log.read_bytes()[-LOG_TAIL:]
    except OSError:
        return ""
    return f"\nThe end of {log}:\n{end.decode(errors='replace')}" if end else ""
