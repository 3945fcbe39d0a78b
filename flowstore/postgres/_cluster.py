"""An embedded server's places on disk: its home, its cluster, its socket; and making them."""

import contextlib
import hashlib
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import attrs
import trio
from psycopg.conninfo import make_conninfo

from flowstore.errors import EmbeddedServerError
from flowstore.postgres._supervisor import identity, running

PORT: Final = 5432  # a part of the socket's file name, and nothing else
ROLE: Final = "flowstore"
DATABASE: Final = "postgres"

LONGEST_SOCKET_PATH: Final = 103  # bytes; macOS' sun_path has 104 with the closing zero, Linux' 108
LONG_TERM_SHELTER: Final = Path("/var/lib/flowstore")
SHELTERED: Final = "flowstore-cluster-"

DEFAULTS: Final = {"max_connections": "100", "shared_buffers": "128MB"}
OWN: Final = frozenset({"listen_addresses", "port", "unix_socket_directories", "data_directory"})


@attrs.frozen
class Home:
    """Where an embedded server is at home.

    Attributes:
        path: the directory that was asked for: locks, log, and the cluster or a link to it.
    """

    path: Path

    @property
    def cluster(self) -> Path:
        """The directory that belongs to the server's user, its real place."""
        return Path(os.path.realpath(self.path / "cluster"))

    @property
    def data(self) -> Path:
        """PostgreSQL's own directory."""
        return self.cluster / "data"

    @property
    def log(self) -> Path:
        """What postgres and its supervisor wrote."""
        return self.path / "server.log"

    @property
    def sockets(self) -> Path:
        """The directory of the server's socket: in the cluster, or below /tmp if that is too long."""
        inside = self.cluster / "run"
        if len(os.fsencode(inside / f".s.PGSQL.{PORT}")) <= LONGEST_SOCKET_PATH:
            return inside
        digest = hashlib.sha256(os.fsencode(self.cluster)).hexdigest()
        return Path("/tmp") / f"flowstore-{digest[:16]}"  # noqa: S108 - a stranger's is refused

    @property
    def dsn(self) -> str:
        """How to connect."""
        return make_conninfo("", host=str(self.sockets), port=PORT, user=ROLE, dbname=DATABASE)


def server_user() -> tuple[int, int] | None:
    """Choose the uid and gid to run the server as; None means this process' own.

    Raises:
        EmbeddedServerError: this process is root, and there is nobody else.
    """
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            found = pwd.getpwnam(name)
            return found.pw_uid, found.pw_gid
    raise EmbeddedServerError(
        "PostgreSQL refuses to run as root, and there is no user 'postgres' or 'nobody': make one, or"
        " run as another user"
    )


def make_places(home: Home, user: tuple[int, int] | None) -> None:
    """Make the cluster's and the socket's directories.

    Raises:
        EmbeddedServerError: one of them belongs to somebody else, or has gone.
    """
    link = home.path / "cluster"
    if link.is_symlink() and not link.exists():
        raise EmbeddedServerError(
            f"{link} points to {link.readlink()}, which is gone: remove the link to begin anew"
        )
    if not link.exists() and user is not None and not _can_reach(home.path, user):
        _shelter(home, link, user)
    _private_directory(home.cluster, user)
    _private_directory(home.sockets, user)


def _private_directory(path: Path, user: tuple[int, int] | None) -> None:
    """Make a directory that only the server's user can enter; refuse one that others made."""
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
        if user is not None:
            os.chown(path, *user)
    found = path.lstat()
    owner = os.geteuid() if user is None else user[0]
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != owner:
        raise EmbeddedServerError(
            f"{path} belongs to user {found.st_uid}, but the server would run as user {owner}: name"
            " another data_dir, or run as the user who made this one"
        )
    if stat.S_IMODE(found.st_mode) & 0o077:
        path.chmod(0o700)


def _can_reach(place: Path, user: tuple[int, int]) -> bool:
    """Tell whether a user may search a directory and all above it."""
    uid, gid = user
    for directory in (place, *place.parents):
        found = directory.stat()
        if found.st_uid == uid:
            bit = stat.S_IXUSR
        else:
            bit = stat.S_IXGRP if found.st_gid == gid else stat.S_IXOTH
        if not found.st_mode & bit:
            return False
    return True


def _shelter(home: Home, link: Path, user: tuple[int, int]) -> None:
    """Put the cluster where the server's user can reach it, and leave a link.

    A home is often below /root. Opening up other people's directories is none of our business, so
    the cluster moves: to the temporary directory if its home is there, else to /var/lib.
    """
    temporary = Path(tempfile.gettempdir()).resolve()
    base = temporary if home.path.resolve().is_relative_to(temporary) else LONG_TERM_SHELTER
    if base == temporary:
        _clear_shelters(base)
    else:
        base.mkdir(mode=0o755, exist_ok=True)
    place = Path(tempfile.mkdtemp(prefix=SHELTERED, dir=base))
    os.chown(place, *user)
    link.symlink_to(place)
    (place / "home").write_text(str(home.path))  # last: without it nobody clears the place away


def _clear_shelters(base: Path) -> None:
    """Remove the clusters of temporary homes that are gone: nobody else knows of them."""
    for place in base.glob(SHELTERED + "*"):
        with contextlib.suppress(OSError):
            link = Path((place / "home").read_text()) / "cluster"
            if not link.is_symlink() and running(place / "data") is None:
                shutil.rmtree(place)


async def create_data(home: Home, binaries: Path, user: tuple[int, int] | None) -> None:
    """Run initdb, unless that was done; a cluster left half made is made again.

    Raises:
        EmbeddedServerError: initdb failed.
    """
    if (home.data / "PG_VERSION").exists():
        return
    half = home.cluster / "data-half"
    output = ""
    for locale in ("C.UTF-8", "C"):  # by code point; not every system has the first
        if half.exists():
            shutil.rmtree(half)
        done = await trio.run_process(
            [
                binaries / "initdb", "-D", half, "-U", ROLE, "-A", "trust", "-E", "UTF8",
                "--locale", locale, "--no-sync", "--no-instructions",
            ],
            check=False, capture_stdout=True, stderr=subprocess.STDOUT, **identity(user),
        )  # fmt: skip
        if done.returncode == 0:
            half.rename(home.data)
            return
        output = done.stdout.decode(errors="replace")
    raise EmbeddedServerError(f"initdb could not make {home.data}:\n{output}")


def command_line(
    home: Home, binaries: Path, settings: Mapping[str, str | float | bool]
) -> list[str]:
    """Spell out how to start the server.

    Raises:
        EmbeddedServerError: a setting is one that isn't the caller's to make.
    """
    if taken := sorted(OWN & settings.keys()):
        raise EmbeddedServerError(
            f"settings {taken} are the embedded server's own: leave them out; data_dir= says where"
        )
    options = DEFAULTS | {name: _as_text(value) for name, value in settings.items()}
    options["listen_addresses"] = ""
    options["port"] = str(PORT)
    options["unix_socket_directories"] = f'"{home.sockets}"'
    flags = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
    return [str(binaries / "postgres"), "-D", str(home.data), *flags]


def _as_text(value: str | float | bool) -> str:  # noqa: FBT001 - a setting's value
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value)
