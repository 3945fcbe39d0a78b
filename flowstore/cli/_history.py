"""The histories that the demo publishes: a repository's, an exported one's, or a made-up one.

A history is read by being handed over in parts, so that whoever publishes holds the reader back.
"""

import gzip
import hashlib
import itertools
import zlib
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TypeAlias
from uuid import UUID, uuid5

import attrs
import trio

from flowstore.cli._generate import generate_history
from flowstore.cli._git import Repository, find_repository, stream_log
from flowstore.cli._gitlog import CommitFacts, LogParser
from flowstore.cli._issues import IssueTracker
from flowstore.cli._problems import InputError
from flowstore.cli._projects import Commit, ProjectEvent, ProjectStarted

__all__ = [
    "History",
    "ProjectReader",
    "find_history",
    "generated_history",
]

# Another way of reading histories needs another namespace: the streams of the old way are then
# other streams, and a run never goes on where an older version stopped.
_NAMESPACE = UUID("b4b7d2c4-3c1e-5b0e-8c7e-8d2f0a1e7c01")
_PART = 500
_PIECE = 64 * 1024

Part: TypeAlias = Sequence[tuple[UUID, ProjectEvent]]
Receive: TypeAlias = Callable[[Part], Awaitable[None]]


@attrs.frozen
class History:
    """A history that can be read from its beginning, as often as wanted.

    Attributes:
        source: where it comes from, as said on the command line.
        identity: tells histories apart that are not the same, and only those.
        events: how many events it has at least; issue events are only found by reading.
        remark: what its reader should know about it, empty where there is nothing.
        read: hands every part, in order, to a function that is awaited.
    """

    source: str
    identity: UUID
    events: int
    remark: str
    read: Callable[[Receive], Awaitable[None]]


class ProjectReader:
    """Turns the commits of one project into its events, in their order.

    First `ProjectStarted`; then, for every commit, `Commit` and what its subject says of issues.
    """

    def __init__(self, name: str, organization: str) -> None:
        self._beginning = [ProjectStarted(name, organization)]
        self._issues = IssueTracker()

    def events(self, commits: Iterable[CommitFacts]) -> Iterator[ProjectEvent]:
        """Yield the events of the next commits."""
        for commit in commits:
            while self._beginning:
                yield self._beginning.pop()
            yield Commit(commit.author, commit.additions, commit.deletions)
            yield from self._issues.events(commit.subject)


async def find_history(path: Path) -> History:
    """Find the history of a repository, or of a file that `git log` was exported to.

    Raises:
        InputError: there is neither at this path.
    """
    if _is_file(path):
        return _exported_history(path)
    return _repository_history(await find_repository(path))


def generated_history(n: int, seed: int) -> History:
    """Describe a made-up history of n events."""

    async def read(receive: Receive) -> None:
        events = generate_history(n, seed)
        while part := list(itertools.islice(events, _PART)):
            await receive(part)

    identity = uuid5(_NAMESPACE, f"generated {n} {seed}")
    return History(f"{n} generated events, seed {seed}", identity, n, "", read)


def _repository_history(repository: Repository) -> History:
    """Describe the history of a repository.

    Its stream is that of this very history: the checked-out commit is part of the identity. After
    a merge `git log` puts older commits between those that were published, and a stream can only
    grow at its end; so a repository that has moved on is published anew, as another stream.
    """
    name = f"{repository.organization}/{repository.name}"
    identity = uuid5(_NAMESPACE, f"{name} {repository.head} {repository.commits}")

    async def read(receive: Receive) -> None:
        feeder = _Feeder(identity, ProjectReader(repository.name, repository.organization), receive)
        await stream_log(repository.path, feeder.feed)
        await feeder.close()

    remark = ""
    if repository.shallow:
        remark = (
            "a shallow clone: its history begins where it was cut off, with a commit that seems to"
            " add every line that was there (git fetch --unshallow brings the rest)"
        )
    return History(str(repository.path), identity, repository.commits + 1, remark, read)


def _exported_history(path: Path) -> History:
    """Describe the history in a file; one named `attrs.gitlog.gz` is of the project `attrs`."""
    name = path.name.partition(".")[0] or path.name
    digest, commits = _survey(path)
    if not commits:
        raise InputError(f"{path} holds no commits")
    identity = uuid5(_NAMESPACE, f"{name} {digest}")
    read = partial(_read_exported, path, identity, name)
    return History(str(path), identity, commits + 1, "", read)


def _survey(path: Path) -> tuple[str, int]:
    """Read a whole file for what tells it from others, and how many commits it holds."""
    digest = hashlib.sha256()
    parser = LogParser()
    commits = 0
    try:
        for piece in _pieces(path):
            digest.update(piece)
            commits += len(parser.feed(piece))
        commits += len(parser.close())
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return digest.hexdigest(), commits


async def _read_exported(path: Path, identity: UUID, name: str, receive: Receive) -> None:
    feeder = _Feeder(identity, ProjectReader(name, "local"), receive)
    for piece in _pieces(path):
        await feeder.feed(piece)
        await trio.lowlevel.checkpoint()
    await feeder.close()


class _Feeder:
    """Takes pieces of a log and hands over parts of a history, none larger than `_PART`."""

    def __init__(self, stream_id: UUID, reader: ProjectReader, receive: Receive) -> None:
        self._stream_id = stream_id
        self._reader = reader
        self._receive = receive
        self._parser = LogParser()

    async def feed(self, piece: bytes) -> None:
        """Take the next piece; returns when its events were received."""
        await self._hand_over(self._parser.feed(piece))

    async def close(self) -> None:
        """Take the end of the log."""
        await self._hand_over(self._parser.close())

    async def _hand_over(self, commits: Sequence[CommitFacts]) -> None:
        events = self._reader.events(commits)
        while part := [(self._stream_id, event) for event in itertools.islice(events, _PART)]:
            await self._receive(part)


def _is_file(path: Path) -> bool:
    if not path.exists():
        raise InputError(f"{path} does not exist: name a git repository or an exported history")
    return path.is_file()


def _pieces(path: Path) -> Iterator[bytes]:
    """Read a file, unpacked where its first bytes say that it is packed."""
    try:
        with path.open("rb") as file:
            packed = file.peek(2)[:2] == b"\x1f\x8b"
            source = gzip.GzipFile(fileobj=file) if packed else file
            while piece := source.read(_PIECE):
                yield piece
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"it can't be read: {error}") from error
