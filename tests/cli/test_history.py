"""Histories, from their sources to the events that are published."""

import gzip
from collections import Counter
from pathlib import Path
from uuid import UUID

import pytest

from flowstore.cli._history import find_history, generated_history
from flowstore.cli._problems import InputError
from flowstore.cli._projects import (
    ActiveProject,
    Commit,
    IssueClosed,
    IssueCreated,
    ProjectStarted,
    fold,
)

DATA = Path(__file__).parents[3] / "shared" / "data"
real = pytest.mark.skipif(
    not DATA.is_dir(), reason=f"no exported histories in {DATA}, beside the checkout"
)

LOG = b"""\
commit 1
author Ada
date 2015-10-11T14:02:00+00:00
subject Initial commit

3\t1\tREADME.md
-\t-\tlogo.png
commit 2
author Bob
date 2015-10-11T14:02:00+00:00
subject Fixes #12 (#13)
"""
EVENTS = [
    ProjectStarted("there", "local"),
    Commit("Ada", 3, 1),
    Commit("Bob", 0, 0),
    IssueCreated(12, "Fixes #12 (#13)"),
    IssueClosed(12),
]


async def read(history):
    parts = []

    async def receive(part):
        parts.append(list(part))

    await history.read(receive)
    assert all(0 < len(part) <= 500 for part in parts)
    return [pair for part in parts for pair in part]


async def events_of(history):
    pairs = await read(history)
    assert {stream_id for stream_id, _ in pairs} == {history.identity}
    return [event for _, event in pairs]


@pytest.fixture
def exported(tmp_path):
    path = tmp_path / "there.gitlog"
    path.write_bytes(LOG)
    return path


async def test_a_project_starts_then_commits_then_its_issues_follow(exported):
    history = await find_history(exported)
    assert await events_of(history) == EVENTS
    assert history.events == 3


async def test_a_packed_file_is_the_same_history(exported, tmp_path):
    packed = tmp_path / "there.gitlog.gz"
    packed.write_bytes(gzip.compress(LOG))
    plain, unpacked = await find_history(exported), await find_history(packed)
    assert unpacked.identity == plain.identity
    assert await events_of(unpacked) == EVENTS


async def test_a_history_can_be_read_twice(exported):
    history = await find_history(exported)
    assert await events_of(history) == await events_of(history)


async def test_a_longer_history_is_another_stream(exported):
    before = (await find_history(exported)).identity
    exported.write_bytes(LOG + LOG)
    assert (await find_history(exported)).identity != before


async def test_the_same_history_under_another_name_is_another_stream(exported):
    before = (await find_history(exported)).identity
    renamed = exported.rename(exported.with_name("elsewhere.gitlog"))
    assert (await find_history(renamed)).identity != before


async def test_a_long_history_comes_in_parts_and_in_order(exported):
    many = 2345
    exported.write_bytes(
        b"".join(b"commit 1\nauthor %d\ndate d\nsubject s\n" % i for i in range(many))
    )
    events = await events_of(await find_history(exported))
    assert [event.user_name for event in events[1:]] == [str(i) for i in range(many)]


async def test_a_repositorys_history_is_read_from_git(make_repo):
    repo = make_repo("there")
    repo.commit("Initial commit", {"a.py": b"1\n2\n"}, author="Ada <ada@localhost>")
    repo.commit("Fixes #12", {"a.py": b"1\n"}, author="Bob <bob@localhost>")
    history = await find_history(repo.path)
    assert await events_of(history) == [
        ProjectStarted("there", "local"),
        Commit("Ada", 2, 0),
        Commit("Bob", 0, 1),
        IssueCreated(12, "Fixes #12"),
        IssueClosed(12),
    ]
    assert history.events == 3


async def test_a_repository_that_moved_on_is_another_stream(make_repo):
    repo = make_repo()
    repo.commit("Initial commit", {})
    before = await find_history(repo.path)
    assert (await find_history(repo.path)).identity == before.identity
    repo.commit("More", {})
    more = await find_history(repo.path)
    repo.git("commit", "--quiet", "--amend", "--allow-empty", "-m", "Something else")
    amended = await find_history(repo.path)
    assert len({before.identity, more.identity, amended.identity}) == 3


async def test_a_shallow_clone_is_remarked_on_and_is_another_stream(make_repo, tmp_path):
    repo = make_repo()
    repo.commit("Initial commit", {"a.py": b"1\n2\n"})
    repo.commit("More", {"a.py": b"1\n2\n3\n"})
    clone = tmp_path / "elsewhere" / "project"
    repo.git("clone", "--quiet", "--depth=1", f"file://{repo.path}", str(clone))
    whole, shallow = await find_history(repo.path), await find_history(clone)
    assert "shallow" in shallow.remark
    assert whole.remark == ""
    assert shallow.identity != whole.identity


async def test_a_made_up_history_has_as_many_events_as_asked_for():
    history = generated_history(1234, 5)
    pairs = await read(history)
    assert len(pairs) == history.events == 1234
    assert pairs == await read(generated_history(1234, 5))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, r"there.gitlog does not exist: name a git repository or an exported history"),
        (b"", r"there.gitlog holds no commits"),
        (b"#!/bin/sh\n", r"there.gitlog: line 1 is '#!/bin/sh', not 'commit <hash>'"),
        (gzip.compress(LOG)[:-12], r"there.gitlog: it can't be read: "),
        (b"\x1f\x8bnonsense", r"there.gitlog: it can't be read: "),
    ],
)
async def test_a_file_that_holds_no_history_is_an_error(tmp_path, content, told):
    path = tmp_path / "there.gitlog"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=told):
        await find_history(path)


# --- real histories, against figures worked out without any of this code ---


def figures(path):
    """Count lines, authors and issues of an exported history, word by word."""
    lines, authors, issues = 0, set(), {}
    for line in gzip.decompress(path.read_bytes()).decode().split("\n"):
        columns = line.split("\t")
        if len(columns) == 3 and columns[0].isdigit():
            lines += int(columns[0]) - int(columns[1])
        elif line.startswith("author "):
            authors.add(line.removeprefix("author "))
        elif line.startswith("subject "):
            note_issues(line.removeprefix("subject ").split(), issues)
    return lines, authors, sum(issues.values())


def note_issues(words, is_open):
    """Note which issues a subject's words leave open; True is open."""
    said = [word.lower().rstrip(".,:)]").lstrip("[") for word in words]
    for place, word in enumerate(said):
        if word.startswith("#") and word[1:].isdigit():
            before = said[:place]
            if before[-1:] == ["issue"]:
                before.pop()
            closes = before[-1:] in (["fix"], ["fixed"], ["fixes"], ["closes"], ["closed"])
            is_open[word] = is_open.get(word, True) and not closes


@real
@pytest.mark.parametrize("name", ["curio", "cattrs"])
async def test_a_real_history_folds_to_the_figures_counted_by_hand(name):
    path = DATA / f"{name}.gitlog.gz"
    lines, authors, open_issues = figures(path)
    project = ActiveProject(UUID(int=0))
    for event in await events_of(await find_history(path)):
        fold(project, event)
    assert project == ActiveProject(UUID(int=0), name, "local", lines, open_issues, authors)
    assert min(lines, len(authors), open_issues) > 0


@real
async def test_a_real_history_has_a_commit_event_for_every_commit():
    path = DATA / "curio.gitlog.gz"
    kinds = Counter(type(event) for event in await events_of(await find_history(path)))
    assert kinds[Commit] == gzip.decompress(path.read_bytes()).count(b"\ncommit ") + 1
    assert kinds[ProjectStarted] == 1
