"""Reading real repositories, whatever the user has configured."""

import os
import shutil

import pytest
import trio

from flowstore.cli._git import find_repository, organization_of, stream_log
from flowstore.cli._gitlog import LogParser
from flowstore.cli._problems import InputError


async def commits_of(path):
    parser = LogParser()
    commits = []

    async def receive(piece):
        commits.extend(parser.feed(piece))

    await stream_log(path, receive)
    return commits + parser.close()


def totals_of_plain_git(repo):
    """Add up what plain `git log --numstat` prints, as awk would."""
    rows = [line.split("\t") for line in repo.git("log", "--numstat", "--format=").splitlines()]
    counted = [row for row in rows if row[0].isdigit()]
    return sum(int(row[0]) for row in counted), sum(int(row[1]) for row in counted)


def fill(repo):
    """Commit what is awkward: a rename, a binary, a merge, odd names, texts and encodings."""
    lines = b"".join(b"line %d\n" % number for number in range(50))
    repo.commit("Initial commit", {"a.py": lines, "logo.png": b"\x00\x01\x02"})
    repo.commit("Rename it", {"a.py": None, "b.py": lines + b"one more\n"})
    repo.commit("Copy it", {"c.py": lines})
    repo.git("checkout", "--quiet", "-b", "side", "HEAD~1")
    repo.commit("Aside\n\nWith a body.\ncommit 1234\nauthor Nobody\n", {"d e\tf\n.py": b"1\n2\n"})
    repo.git("checkout", "--quiet", "main")
    repo.git("merge", "--quiet", "--no-ff", "-m", "Merge branch 'side'", "side")
    repo.commit(
        "Gr\xfc\xdfe, fixes #12".encode("latin-1"),
        {"b.py": lines},
        settings=("-c", "i18n.commitEncoding=latin-1"),
    )
    repo.commit(
        b"Broken \xff\xfe bytes\n",
        {"b.py": b"gone\n"},
        author="J\u00f6rg <j@example.org>",
        settings=("-c", "i18n.commitEncoding=nonsense"),
    )
    repo.commit("Nothing", {})
    repo.commit("One\nparagraph\nover lines", {"e.py": b"x"})
    # Git's own algorithm and the patient one count these differently.
    repo.commit("Shuffle", {"docs/f.py": b"e\ne\nf\na\nd\nf\ne\nb\n"})
    repo.commit("Shuffle", {"docs/f.py": b"e\ne\nb\nd\na\nd\nc\ne\n"})
    # More renames at once than the hostile limit allows to look for.
    texts = {f"m{n}": b"".join(b"%d %d\n" % (n, line) for line in range(20)) for n in range(4)}
    repo.commit("Many", {f"{name}.txt": text for name, text in texts.items()})
    moved = {f"moved/was_{name}.py": text + b"more\n" for name, text in texts.items()}
    repo.commit("Many", {**dict.fromkeys((f"{name}.txt" for name in texts), None), **moved})


async def test_totals_agree_with_plain_git_log(make_repo):
    repo = make_repo()
    fill(repo)
    commits = await commits_of(repo.path)
    found = (sum(each.additions for each in commits), sum(each.deletions for each in commits))
    assert found == totals_of_plain_git(repo)
    assert len(commits) == int(repo.git("rev-list", "--count", "--no-merges", "HEAD")) == 12


async def test_texts_come_through_in_any_encoding(make_repo):
    repo = make_repo()
    fill(repo)
    commits = await commits_of(repo.path)
    assert [commit.subject for commit in commits if commit.subject != "Aside"][:7] == [
        "Initial commit",
        "Rename it",
        "Copy it",
        "Gr\xfc\xdfe, fixes #12",
        "Broken \ufffd\ufffd bytes",
        "Nothing",
        "One paragraph over lines",
    ]
    assert {commit.author for commit in commits} == {"Ada", "J\xf6rg"}


HOSTILE = """
[color]
    ui = always
[log]
    showSignature = true
    showRoot = false
    date = relative
    follow = true
    diffMerges = first-parent
[diff]
    algorithm = patience
    renames = copies
    renameLimit = 1
    noprefix = true
    external = /bin/false
    ignoreSubmodules = all
    relative = true
    orderFile = /dev/null
[core]
    attributesFile = {attributes}
    bigFileThreshold = 1
    quotePath = false
    pager = /bin/false
[i18n]
    logOutputEncoding = latin-1
[format]
    pretty = oneline
[notes]
    displayRef = *
"""


async def test_the_users_configuration_changes_nothing(make_repo, git_home, monkeypatch):
    repo = make_repo()
    fill(repo)
    repo.git("notes", "add", "-m", "a note", "HEAD")
    before = await commits_of(repo.path)
    attributes = git_home.with_name("attributes")
    attributes.write_text("*.py binary\n")
    git_home.write_text(git_home.read_text() + HOSTILE.format(attributes=attributes))
    monkeypatch.setenv("GIT_EXTERNAL_DIFF", "/bin/false")
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    monkeypatch.setenv("LANG", "de_DE.UTF-8")
    assert await commits_of(repo.path) == before
    assert await commits_of(repo.path / ".git") == before
    assert await commits_of(repo.path / "docs") == before


async def test_a_repository_is_described(make_repo):
    repo = make_repo("here")
    fill(repo)
    repo.git("remote", "add", "origin", "git@example.org:octo/there.git")
    found = await find_repository(repo.path)
    assert (found.name, found.organization) == ("there", "octo")
    assert (found.head, found.commits) == (repo.git("rev-parse", "HEAD"), 12)
    assert not found.shallow


async def test_a_folder_within_a_repository_stands_for_all_of_it(make_repo):
    repo = make_repo()
    repo.commit("Initial commit", {"top.py": b"1\n", "docs/index.md": b"1\n2\n"})
    found = await find_repository(repo.path / "docs")
    assert found.name == "project"
    assert [commit.additions for commit in await commits_of(repo.path / "docs")] == [3]


async def test_without_a_remote_the_first_authors_domain_is_the_organization(make_repo):
    repo = make_repo()
    repo.commit("Initial commit", {}, author="Ada <ada@lovelace.example>")
    repo.commit("More", {}, author="Bob <bob@elsewhere.example>")
    assert (await find_repository(repo.path)).organization == "lovelace.example"


async def test_without_remote_and_domain_the_organization_is_local(make_repo):
    repo = make_repo()
    repo.commit("Initial commit", {}, author="root <root@localhost>")
    assert (await find_repository(repo.path)).organization == "local"


async def test_a_bare_clone_reads_as_its_origin(make_repo, tmp_path):
    repo = make_repo()
    fill(repo)
    bare = tmp_path / "mirror.git"
    repo.git("clone", "--quiet", "--bare", str(repo.path), str(bare))
    found = await find_repository(bare)
    assert (found.name, found.commits) == ("project", 12)
    assert await commits_of(bare) == await commits_of(repo.path)


async def test_a_shallow_clone_is_told_apart(make_repo, tmp_path):
    repo = make_repo()
    fill(repo)
    repo.git("clone", "--quiet", "--depth=2", f"file://{repo.path}", str(tmp_path / "shallow"))
    found = await find_repository(tmp_path / "shallow")
    assert found.shallow
    assert found.commits == len(await commits_of(tmp_path / "shallow")) == 2


async def test_a_repository_without_commits_is_an_error(make_repo):
    with pytest.raises(InputError, match="project is a repository without commits"):
        await find_repository(make_repo().path)


async def test_a_folder_that_is_no_repository_is_an_error(tmp_path, git_home):
    with pytest.raises(InputError, match="is not a git repository: name one, or use --events N"):
        await find_repository(tmp_path)


async def test_a_damaged_repository_is_an_error_that_repeats_gits_reason(make_repo):
    repo = make_repo()
    repo.commit("Initial commit", {"a.py": b"1\n"})
    tree = repo.git("rev-parse", "HEAD^{tree}")
    (repo.path / ".git" / "objects" / tree[:2] / tree[2:]).unlink()
    with pytest.raises(InputError, match=f"can't read the history of .*{tree}"):
        await commits_of(repo.path)


async def test_a_missing_git_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="git is not installed, or not on the PATH"):
        await find_repository(tmp_path)


def give_away(folder):
    for path in [folder, *folder.rglob("*")]:
        os.chown(path, 65534, 65534)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
async def test_another_users_repository_is_an_error_with_the_way_out(make_repo, git_home):
    repo = make_repo()
    repo.commit("Initial commit", {"a.py": b"1\n"})
    git_home.write_text("")
    give_away(repo.path)
    with pytest.raises(InputError, match=r"another user owns it.*--add safe.directory '/"):
        await find_repository(repo.path)


async def test_git_is_ended_when_its_reader_is_cancelled(make_repo, tmp_path, monkeypatch):
    repo = make_repo()
    repo.commit("Initial commit", {"a.py": b"1\n"})
    noted = tmp_path / "pid"
    slow = tmp_path / "bin" / "git"
    slow.parent.mkdir()
    slow.write_text(f'#!/bin/sh\necho $$ > {noted}\n{shutil.which("git")} "$@"\nexec sleep 600\n')
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", str(slow.parent), prepend=os.pathsep)

    async def receive(_):
        os.kill(int(noted.read_text()), 0)
        scope.cancel()
        await trio.lowlevel.checkpoint()

    with trio.CancelScope() as scope:
        await stream_log(repo.path, receive)
    assert scope.cancelled_caught
    with pytest.raises(ProcessLookupError):
        os.kill(int(noted.read_text()), 0)


@pytest.mark.parametrize(
    ("remote", "told"),
    [
        ("https://github.com/octo/there.git", ("octo", "there")),
        ("https://me:secret@github.com/octo/there", ("octo", "there")),
        ("https://gitlab.com/group/sub/there.git/", ("group/sub", "there")),
        ("ssh://git@host:2222/octo/there.git", ("octo", "there")),
        ("git@github.com:octo/there.git", ("octo", "there")),
        ("github.com:/octo/there", ("octo", "there")),
        ("host:there.git", ("", "there")),
        ("https://example.org/there", ("", "there")),
        ("file:///srv/git/there.git", ("", "there")),
        ("/srv/git/there.git", ("", "there")),
        ("../there", ("", "there")),
        ("./odd:name", ("", "odd:name")),
        ("", ("", "")),
    ],
)
def test_a_remotes_address_tells_organization_and_name(remote, told):
    assert organization_of(remote) == told
