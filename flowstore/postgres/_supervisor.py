"""The embedded server's supervisor: postgres' parent, which outlives its last client by a moment.

Run as a script of its own (`python -I _supervisor.py ORDER`), with nothing but the standard library,
so that it starts in some 20 ms and stays small. It starts postgres, reports "ok" or a sentence, and
then waits for one of two children to end:

    supervisor ──┬── postgres
                 └── waiter: blocks in an exclusive lock on `clients.lock`, of which every client
                     holds a share; it ends when the last client is gone, however that ended

The lock belongs to the open file, which waiter and supervisor share: nobody can join before the
server has stopped. If the supervisor itself is killed, the waiter stops postgres in its stead.
"""

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Final, TypedDict

CLIENTS_LOCK: Final = "clients.lock"
SUPERVISOR_LOCK: Final = "supervisor.lock"

READY_TIMEOUT: Final = 60.0
"""Seconds in which postgres must take connections; recovery after a crash takes a while."""

STOPPING: Final = ((signal.SIGINT, 10.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0))
"""Ways to stop a postmaster, ever less politely, and the seconds each is given."""


class Order(TypedDict):
    """What a client asks a supervisor for.

    Attributes:
        home: the directory of the locks.
        data: PostgreSQL's own directory, its real path.
        command: the server's command line.
        user: uid and gid to run it as; None for the client's own.
        report_to: the descriptor of a pipe for "ok", or for what went wrong.
    """

    home: str
    data: str
    command: list[str]
    user: tuple[int, int] | None
    report_to: int


class Refused(Exception):  # noqa: N818 - a sentence for the client, no bug
    """The server can't be started; the message says why."""


class Identity(TypedDict, total=False):
    """The options of a subprocess that say who it is, and where."""

    cwd: str
    env: dict[str, str]
    user: int
    group: int
    extra_groups: list[int]


def identity(user: tuple[int, int] | None) -> Identity:
    """Give the subprocess options that run a program as `user`, without the client's PG* variables."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PG")}
    options = Identity(cwd="/", env=environment | {"LC_ALL": "C"})
    if user is not None:
        options |= Identity(user=user[0], group=user[1], extra_groups=[])
    return options


# -- looking at a postmaster from outside ------------------------------------------------------------


def pid_file(data: Path) -> list[str]:
    """Read postmaster.pid; nothing if there is none."""
    try:
        return (data / "postmaster.pid").read_text().splitlines()
    except OSError:
        return []


def is_postmaster(pid: int, data: Path) -> bool:
    """Tell whether a process is the live postmaster of `data`: no zombie, no reused number."""
    if Path("/proc/self/cwd").exists():
        try:  # a postmaster works in its data directory; a zombie works nowhere
            return Path(f"/proc/{pid}/cwd").readlink() == data
        except OSError:
            return False
    listed = subprocess.run(  # noqa: S603 - a number
        ["/bin/ps", "-o", "stat=,command=", "-p", str(pid)],
        capture_output=True, text=True, check=False,
    ).stdout  # fmt: skip
    return not listed.lstrip().startswith("Z") and str(data) in listed


def running(data: Path) -> int | None:
    """Give the pid of the postmaster of `data`, if it lives."""
    lines = pid_file(data)
    if not lines or not lines[0].isdigit():
        return None
    return int(lines[0]) if is_postmaster(int(lines[0]), data) else None


def is_ready(data: Path) -> bool:
    """Tell whether the postmaster of `data` lives and takes connections."""
    lines = pid_file(data)
    return len(lines) > 7 and lines[7].strip() == "ready" and running(data) is not None


# -- starting and stopping one -----------------------------------------------------------------------


def clear_leftovers(data: Path) -> None:
    """End a postmaster whose supervisor was killed, and disarm a pid file that lies."""
    if (orphan := running(data)) is not None:
        end(orphan, data)
    if lines := pid_file(data):
        # A zombie, or a stranger who got its number, would pass for a live postmaster. Ours is a
        # number that postgres knows to be no rival, its parent's; the file itself must stay, because
        # by its other lines postgres finds out whether a crashed server's children still live.
        (data / "postmaster.pid").write_text("\n".join([str(os.getpid()), *lines[1:], ""]))


def end(pid: int, data: Path) -> None:
    """Stop a postmaster that isn't our child."""
    for number, seconds in STOPPING:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if not is_postmaster(pid, data):
                return
            time.sleep(0.01)


def start(order: Order) -> subprocess.Popen[bytes]:
    """Start the server; returns once it takes connections.

    Raises:
        Refused: it ended, or took too long.
    """
    data = Path(order["data"])
    clear_leftovers(data)
    try:
        server = subprocess.Popen(  # noqa: S603 - the client's own choice
            order["command"], stdin=subprocess.DEVNULL, **identity(order["user"])
        )
    except OSError as error:
        raise Refused(f"{order['command'][0]} can't be run: {error}") from error
    deadline = time.monotonic() + READY_TIMEOUT
    while server.poll() is None:
        if pid_file(data)[:1] == [str(server.pid)] and is_ready(data):
            return server
        if time.monotonic() > deadline:
            server.kill()
            server.wait()
            raise Refused(f"postgres wasn't ready after {READY_TIMEOUT} s")
        time.sleep(0.005)
    raise Refused(f"postgres ended with {server.returncode}")


def stop(server: subprocess.Popen[bytes]) -> None:
    """Stop our own server, and wait for its end."""
    for number, seconds in STOPPING:
        server.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(seconds)
            return


# -- living ------------------------------------------------------------------------------------------


def fork_waiter(clients: int, supervisors: tuple[int, int], server: int, data: Path) -> int:
    """Have a child wait until the last client is gone; it shares our hold on the lock `clients`."""
    supervisor = os.getpid()
    waiter = os.fork()
    if waiter:
        return waiter
    for descriptor in supervisors:  # they tell whether the supervisor itself lives
        os.close(descriptor)
    fcntl.flock(clients, fcntl.LOCK_EX)
    if os.getppid() != supervisor and is_postmaster(server, data):
        end(server, data)
    os._exit(0)


def report(order: Order, sentence: str) -> None:
    """Tell the client how it went; one that was killed meanwhile is past caring."""
    with contextlib.suppress(BrokenPipeError):
        os.write(order["report_to"], sentence.encode())
    os.close(order["report_to"])


def supervise(order: Order) -> None:
    """Start the server, report, and stop it once its last client is gone."""
    home = Path(order["home"])
    lock = os.open(home / SUPERVISOR_LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        server = start(order)
    except Refused as refusal:
        report(order, str(refusal))
        return
    signal.signal(signal.SIGTERM, lambda _number, _frame: server.send_signal(signal.SIGINT))
    clients = os.open(home / CLIENTS_LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    # First the waiter, then the word: from "ok" on, the server ends whatever is killed.
    waiter = fork_waiter(clients, (lock, order["report_to"]), server.pid, Path(order["data"]))
    report(order, "ok")
    ended, _ = os.wait()
    if ended == waiter:
        stop(server)
    else:  # the server died by itself: the next client starts another
        os.kill(waiter, signal.SIGKILL)


def main() -> None:
    """Leave the client's process tree at once, so that it never has to reap us, and go to work."""
    order: Order = json.loads(sys.argv[1])
    if os.fork():
        os._exit(0)
    supervise(order)


if __name__ == "__main__":
    main()
