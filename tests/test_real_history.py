"""Real histories through store and daemon, against figures counted without any of flowstore.

The histories are exports of `git log --numstat`, one file a project; their counts come from the
words and numbers of the file alone.
"""

import gzip
from pathlib import Path
from uuid import UUID, uuid5

import attrs
import pytest

from flowstore import AsyncOptions, DaemonSettings, StoreOptions, open_store
from flowstore.events import EventStream

DATA = Path(__file__).parents[2] / "shared" / "data"
NAMES = ("cattrs", "curio")
BATCH = 250

pytestmark = pytest.mark.skipif(
    not all((DATA / f"{name}.gitlog.gz").is_file() for name in NAMES),
    reason=f"no exported histories in {DATA}, beside the checkout",
)


@attrs.frozen
class Started:
    name: str


@attrs.frozen
class Committed:
    author: str
    additions: int
    deletions: int


@attrs.frozen
class FixNoted:
    subject: str


@attrs.define
class Project:
    id: UUID
    name: str = ""
    commits: int = 0
    lines: int = 0
    fixes: int = 0
    authors: set[str] = attrs.field(factory=set)
    longest_subject: str = ""
    version: int = 0

    def apply_started(self, started: Started) -> None:
        self.name = started.name

    def apply_commit(self, commit: Committed) -> None:
        self.commits += 1
        self.lines += commit.additions - commit.deletions
        self.authors.add(commit.author)

    def apply_fix(self, fix: FixNoted) -> None:
        self.fixes += 1
        self.longest_subject = max(self.longest_subject, fix.subject, key=len)


@attrs.define
class Author:
    """A document by a key of its own, made by a projection that looks at all streams."""

    id: str
    commits: int = 0
    additions: int = 0


class Authors:
    """Counts by author, over all projects."""

    name = "authors"
    consumes = (Committed,)
    produces = Author
    async_options = AsyncOptions(page_size=333)

    async def apply(self, session, streams: list[EventStream]) -> None:
        commits = [event.data for stream in streams for event in stream.events]
        known = await session.load_many(Author, {commit.author for commit in commits})
        authors = {author.id: author for author in known}
        for commit in commits:
            author = authors.setdefault(commit.author, Author(commit.author))
            author.commits += 1
            author.additions += commit.additions
        session.store(*authors.values())


# -- the same figures, counted from the file --


def lines_of(name):
    return gzip.decompress((DATA / f"{name}.gitlog.gz").read_bytes()).decode().split("\n")


def is_fix(subject):
    return subject.lower().startswith("fix")


def commits_of(name):
    """Yield author, additions, deletions and subject of each commit in a file."""
    author, subject, additions, deletions = None, "", 0, 0
    for line in lines_of(name):
        if line.startswith("commit ") and "\t" not in line:
            if author is not None:
                yield author, additions, deletions, subject
            additions = deletions = 0
        elif line.startswith("author "):
            author = line.removeprefix("author ")
        elif line.startswith("subject "):
            subject = line.removeprefix("subject ")
        elif line.count("\t") >= 2 and line[0].isdigit():
            added, deleted, _ = line.split("\t", 2)
            additions, deletions = additions + int(added), deletions + int(deleted)
    yield author, additions, deletions, subject


def figures(name):
    """Count a project by the columns of its file, not by its commits."""
    lines = lines_of(name)
    counts = [line.split("\t") for line in lines if line.count("\t") >= 2 and line[0].isdigit()]
    subjects = [line[len("subject ") :] for line in lines if line.startswith("subject ")]
    fixes = [subject for subject in subjects if is_fix(subject)]
    return {
        "name": name,
        "commits": len(subjects),
        "lines": sum(int(added) - int(deleted) for added, deleted, *_ in counts),
        "fixes": len(fixes),
        "authors": {line[len("author ") :] for line in lines if line.startswith("author ")},
        "longest": max(map(len, fixes)),
        "version": 1 + len(subjects) + len(fixes),
    }


def by_author():
    counts = {}
    for name in NAMES:
        for author, additions, _, _ in commits_of(name):
            commits, added = counts.get(author, (0, 0))
            counts[author] = (commits + 1, added + additions)
    return counts


# -- through the store --


def identity(name):
    return uuid5(UUID(int=0), name)


async def publish(store, name):
    events = [Started(name)]
    for author, additions, deletions, subject in commits_of(name):
        events.append(Committed(author, additions, deletions))
        if is_fix(subject):
            events.append(FixNoted(subject))
    for at in range(0, len(events), BATCH):
        async with store.session() as session:
            session.events.append(identity(name), *events[at : at + BATCH])
            await session.save_changes()
    return len(events)


async def found(store, name):
    async with store.session() as session:
        project = await session.load(Project, identity(name))
        live = await session.events.aggregate_stream(Project, identity(name))
    assert project == live
    return {
        "name": project.name,
        "commits": project.commits,
        "lines": project.lines,
        "fixes": project.fixes,
        "authors": project.authors,
        "longest": len(project.longest_subject),
        "version": project.version,
    }


async def authors(store):
    documents = await store.session().query(Author, "true")
    return {author.id: (author.commits, author.additions) for author in documents}


async def test_real_histories_fold_to_the_figures_counted_in_plain_python(dsn):
    options = StoreOptions()
    options.projections.aggregate_streams_with(Project, async_options=AsyncOptions(page_size=200))
    options.projections.add(Authors())
    async with open_store(dsn, options) as store:
        async with store.build_projection_daemon(DaemonSettings()) as daemon:
            await daemon.start_all()
            total = sum([await publish(store, name) for name in NAMES])
            await daemon.wait_for_non_stale_results()
            assert [status.progress for status in daemon.statuses()] == [total, total]
        expected = {name: figures(name) for name in NAMES}
        assert {name: await found(store, name) for name in NAMES} == expected
        assert await authors(store) == by_author()

        async with store.build_projection_daemon() as daemon:
            await daemon.rebuild_all()
        assert {name: await found(store, name) for name in NAMES} == expected
        assert await authors(store) == by_author()
        assert await store.dead_letters() == []
