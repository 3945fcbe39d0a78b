"""The parser of `git log --numstat`: any history, cut anywhere."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowstore.cli._gitlog import CommitFacts, LogParser
from flowstore.cli._problems import InputError

# git prints a subject and a name in one line each; everything else may stand in them.
LINES = st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"])).filter(
    lambda line: not line.endswith("\r")
)
PATHS = st.sampled_from(["a.py", "b/{c => d}/e.py", '"\\303\\244.txt"', "commit me", "subject x"])
COUNTS = st.one_of(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)), st.just(("-", "-")))
FILES = st.lists(st.tuples(COUNTS, PATHS), max_size=4)
SHAS = st.text("0123456789abcdef", min_size=40, max_size=40)
COMMITS = st.lists(st.tuples(SHAS, LINES, st.just("2015-10-11T14:02:00+00:00"), LINES, FILES))


def printed(commits, newline=b"\n"):
    """Print commits as git does."""
    lines = []
    for sha, author, date, subject, files in commits:
        lines += [f"commit {sha}", f"author {author}", f"date {date}", f"subject {subject}"]
        if files:
            lines += ["", *(f"{added}\t{deleted}\t{path}" for (added, deleted), path in files)]
    return b"".join(line.encode() + newline for line in lines)


def expected(commits):
    """Work out independently what the parser must find."""
    return [
        CommitFacts(
            sha,
            author,
            date,
            subject,
            sum(added for (added, _), _ in files if added != "-"),
            sum(deleted for (_, deleted), _ in files if deleted != "-"),
        )
        for sha, author, date, subject, files in commits
    ]


def parsed(pieces):
    parser = LogParser()
    return [commit for piece in pieces for commit in parser.feed(piece)] + parser.close()


@given(commits=COMMITS, cuts=st.lists(st.integers(0, 2000)))
def test_a_log_reads_the_same_wherever_it_is_cut(commits, cuts):
    log = printed(commits)
    places = [0, *sorted(min(cut, len(log)) for cut in cuts), len(log)]
    pieces = [log[begin:end] for begin, end in itertools.pairwise(places)]
    assert parsed(pieces) == expected(commits)


@given(commits=COMMITS)
def test_line_ends_of_windows_change_nothing(commits):
    assert parsed([printed(commits, newline=b"\r\n")]) == expected(commits)


@given(commits=COMMITS.filter(bool))
def test_the_last_line_end_may_be_missing(commits):
    assert parsed([printed(commits).removesuffix(b"\n")]) == expected(commits)


def test_an_empty_log_holds_no_commits():
    assert parsed([]) == []


def test_a_commit_is_given_away_once_the_next_one_begins():
    parser = LogParser()
    first, second = printed([("a" * 40, "x", "d", "s", []), ("b" * 40, "y", "d", "t", [])]).split(
        b"commit " + b"b" * 40
    )
    assert parser.feed(first) == []
    assert [commit.author for commit in parser.feed(b"commit " + b"b" * 40 + second)] == ["x"]
    assert [commit.author for commit in parser.close()] == ["y"]


def test_bytes_that_are_no_utf8_become_the_replacement_character():
    log = b"commit 1\nauthor J\xf6rg\ndate d\nsubject \xff fixes\n"
    assert [(commit.author, commit.subject) for commit in parsed([log])] == [
        ("J\ufffdrg", "\ufffd fixes")
    ]


@pytest.mark.parametrize(
    ("log", "told"),
    [
        (b"hello\n", r"line 1 is 'hello', not 'commit <hash>'"),
        (b"commit 1\ndate d\n", r"line 2 is 'date d', not a line that begins with 'author '"),
        (b"commit 1\ncommit 2\n", r"line 2 is 'commit 2', not a line that begins with 'author '"),
        (b"commit 1\nauthor a\n", r"line 2 is 'the end', not a line that begins with 'date '"),
        (b"1\t2\ta.py\n", r"line 1 is '1\\t2\\ta.py', not 'commit <hash>'"),
        (
            b"commit 1\nauthor a\ndate d\nsubject s\n\n1 file changed\n",
            r"line 6 is '1 file changed', not 'commit <hash>', or a file's counts",
        ),
    ],
)
def test_a_line_out_of_place_is_an_error_that_names_it(log, told):
    with pytest.raises(InputError, match=told):
        parsed([log])
