"""Asks git: the one module of the command line that starts processes.

The history is what plain `git log --numstat` prints under git's own defaults, whatever the user's
configuration says: renames are followed (a moved file counts only the lines that changed), with
git's own similarity and limit, and merges are left out, for which git counts nothing anyway.
"""

import os
import subprocess
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import attrs
import trio

from flowstore.cli._gitlog import LOG_FORMAT
from flowstore.cli._problems import InputError

__all__ = ["Repository", "find_repository", "organization_of", "stream_log"]

# Settings of the user's, the system's or the repository's that change what numstat counts or what
# the format prints; each is set to git's default. Paths are not counted, so their quoting is free.
_DEFAULTS = {
    "core.attributesFile": os.devnull,
    "core.bigFileThreshold": "512m",
    "diff.algorithm": "default",
    "diff.ignoreSubmodules": "untracked",
    "diff.relative": "false",
    "diff.renameLimit": "1000",
    "i18n.logOutputEncoding": "UTF-8",
    "log.diffMerges": "off",
    "log.showRoot": "true",
    "log.showSignature": "false",
}
_LOG = (
    "log",
    "--reverse",
    "--numstat",
    "--no-merges",
    "--no-color",
    "--no-ext-diff",
    "--no-textconv",
    "--no-notes",
    "--find-renames=50%",
    f"--format={LOG_FORMAT}",
)

# These point git elsewhere than the path that it is given; inside a hook they are set. The user's
# GIT_CONFIG_* stay: safe.directory may stand there.
_DROPPED = frozenset(
    {
        "GIT_ALTERNATE_OBJECT_DIRECTORIES",
        "GIT_COMMON_DIR",
        "GIT_DIR",
        "GIT_EXTERNAL_DIFF",
        "GIT_INDEX_FILE",
        "GIT_NAMESPACE",
        "GIT_OBJECT_DIRECTORY",
        "GIT_PREFIX",
        "GIT_WORK_TREE",
    }
)


@attrs.frozen
class Repository:
    """A repository with at least one commit.

    Attributes:
        path: where it was asked for; git finds the rest from there.
        head: the hash of the commit that is checked out.
        name: its name at its remote, else its folder's.
        organization: who keeps it, from its remote's address, else the domain of the address of
            its first commit's author, else "local".
        commits: how many commits there are to read, merges left out.
        shallow: whether the history was cut off when it was cloned.
    """

    path: Path
    head: str
    name: str
    organization: str
    commits: int
    shallow: bool


async def find_repository(path: Path) -> Repository:
    """Find the repository that a folder is, or is part of.

    Raises:
        InputError: it is no repository, or one without commits, or there is no git.
    """
    git_dir, bare, shallow = await _facts(path)
    head = await _answer(path, "rev-parse", "--verify", "--quiet", "HEAD^{commit}")
    if not head:
        raise InputError(
            f"{path} is a repository without commits: commit something, or name another one"
        )
    top = git_dir if bare else Path(await _answer(path, "rev-parse", "--show-toplevel") or git_dir)
    remote = await _answer(path, "config", "--local", "--get", "remote.origin.url")
    organization, name = organization_of(remote)
    return Repository(
        path=path,
        head=head,
        name=name or top.name.removesuffix(".git") or "unnamed",
        organization=organization or await _author_domain(path) or "local",
        commits=int(await _answer(path, "rev-list", "--count", "--no-merges", "HEAD")),
        shallow=shallow,
    )


def organization_of(remote: str) -> tuple[str, str]:
    """Read organisation and name from a remote's address; empty where it doesn't tell them.

    Knows https://host/org/name.git, ssh://git@host:22/org/name and git@host:org/name; a path on
    this machine tells no organisation. What comes before the host (a password) is never kept.
    """
    scheme, separator, rest = remote.partition("://")
    if separator and scheme != "file":
        path = rest.partition("/")[2]
    elif not separator and ":" in remote and "/" not in remote.partition(":")[0]:
        path = remote.partition(":")[2]
    else:
        name = remote.rstrip("/").rpartition("/")[2].removesuffix(".git")
        return "", name
    organization, _, name = path.strip("/").rpartition("/")
    return organization, name.removesuffix(".git")


async def stream_log(path: Path, receive: Callable[[bytes], Awaitable[None]]) -> None:
    """Hand the history over piece by piece, oldest commit first.

    The next piece is read when `receive` has returned, so git is held back by whoever is slower.
    git is ended when this is cancelled or `receive` raises.

    Raises:
        InputError: git is missing, or failed on the way.
    """
    settings = [part for pair in _DEFAULTS.items() for part in ("-c", "=".join(pair))]
    with tempfile.TemporaryFile() as complaints:
        process = await _open([*_git(path), *settings, *_LOG, "HEAD"], complaints.fileno())
        try:
            if process.stdout is not None:
                async for piece in process.stdout:
                    await receive(bytes(piece))
            status = await process.wait()
        finally:
            with trio.CancelScope(shield=True):
                if process.returncode is None:
                    process.kill()
                await process.wait()
                if process.stdout is not None:
                    await process.stdout.aclose()
        if status != 0:
            complaints.seek(0)
            raise _failed(path, complaints.read())


async def _facts(path: Path) -> tuple[Path, bool, bool]:
    """Ask where the repository's own folder is, whether it is bare, and whether it is shallow."""
    done = await _run(
        path, "rev-parse", "--absolute-git-dir", "--is-bare-repository", "--is-shallow-repository"
    )
    if done.returncode != 0:
        raise _failed(path, done.stderr)
    # A path may hold line breaks; the two answers after it don't.
    git_dir, bare, shallow = os.fsdecode(done.stdout).removesuffix("\n").rsplit("\n", 2)
    return Path(git_dir), bare == "true", shallow == "true"


async def _author_domain(path: Path) -> str:
    """Find the domain of the first commit's author's address; empty where it has none."""
    roots = await _answer(path, "rev-list", "--max-parents=0", "--no-merges", "HEAD")
    if not roots:
        return ""
    address = await _answer(path, "show", "--no-patch", "--format=%ae", roots.split()[-1])
    domain = address.rpartition("@")[2].strip().lower()
    return domain if "." in domain and " " not in domain else ""


async def _answer(path: Path, *arguments: str) -> str:
    """Ask git one thing; empty where it has no answer."""
    done = await _run(path, *arguments)
    return os.fsdecode(done.stdout).removesuffix("\n") if done.returncode == 0 else ""


async def _run(path: Path, *arguments: str) -> "subprocess.CompletedProcess[bytes]":
    """Run git to its end, with its output captured."""
    try:
        return await trio.run_process(
            [*_git(path), *arguments],
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            env=_environment(),
        )
    except OSError as error:
        raise _cannot_start(error) from error


async def _open(command: Sequence[str], complaints: int) -> trio.Process:
    """Start git with its output on a pipe and its complaints in a file."""
    try:
        return await trio.lowlevel.open_process(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=complaints,
            env=_environment(),
        )
    except OSError as error:
        raise _cannot_start(error) from error


def _git(path: Path) -> list[str]:
    return ["git", "--no-pager", "-C", str(path)]


def _environment() -> dict[str, str]:
    """Give git the user's environment without what points it elsewhere, and plain English."""
    kept = {name: value for name, value in os.environ.items() if name not in _DROPPED}
    return {**kept, "LC_ALL": "C", "GIT_ATTR_NOSYSTEM": "1", "GIT_OPTIONAL_LOCKS": "0"}


def _cannot_start(error: OSError) -> InputError:
    if isinstance(error, FileNotFoundError):
        return InputError(
            "git is not installed, or not on the PATH: install it, or use --events N for a"
            " generated history"
        )
    return InputError(f"git can't be started: {error}")


def _failed(path: Path, complaints: bytes) -> InputError:
    """Turn git's complaints into one line, with the way out where there is one."""
    lines = complaints.decode("utf-8", errors="replace").splitlines()
    fatal = next((line for line in lines if line.startswith(("fatal:", "error:"))), "")
    said = fatal.partition(":")[2].strip() or "it gave no reason"
    if said.startswith("not a git repository"):
        return InputError(
            f"{path} is not a git repository: name one, or use --events N for a generated history"
        )
    if "dubious ownership" in said:
        return InputError(
            f"git refuses to read {path}, because another user owns it: if you trust it, run"
            f" git config --global --add safe.directory '{path.resolve()}'"
        )
    return InputError(f"git can't read the history of {path}: {said}")
