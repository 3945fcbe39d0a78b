"""Reads what `git log --numstat` prints, from bytes alone: nothing here asks git or a disk.

The format is the one that `LOG_FORMAT` asks for. A commit is four lines, each with its own first
word, an empty line where the commit changed files, and a line for every file:

    commit e75908021b3aa27cf205000d6f7d5fcf20f8971a
    author Ada Lovelace
    date 2015-10-11T14:02:00+00:00
    subject Initial commit

    3<tab>0<tab>README.md
    -<tab>-<tab>logo.png
"""

import re
from collections.abc import Iterator

import attrs

from flowstore.cli._problems import InputError

__all__ = ["LOG_FORMAT", "CommitFacts", "LogParser"]

LOG_FORMAT = "commit %H%nauthor %an%ndate %aI%nsubject %s"

# git quotes a path that holds a line break or a tab, so a line is always one file's.
_NUMSTAT = re.compile(r"(\d+|-)\t(\d+|-)\t.")


@attrs.frozen
class CommitFacts:
    """What a history tells of one commit.

    Attributes:
        sha: the commit's hash, in hexadecimal.
        author: the author's name, as committed.
        date: when the author wrote it, ISO 8601.
        subject: the message's first paragraph, in one line.
        additions: lines added over all files; a binary file counts none.
        deletions: lines deleted over all files; a binary file counts none.
    """

    sha: str
    author: str
    date: str
    subject: str
    additions: int = 0
    deletions: int = 0


class LogParser:
    """Turns pieces of a log, cut anywhere, into commits in the order they stand.

    Bytes that aren't UTF-8 (an old commit that lies about its encoding) are read as U+FFFD.

    Raises:
        InputError: from `feed` and `close`, where a line is not of the format; it names the line.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._lines = 0
        self._head: list[str] = []
        self._additions = 0
        self._deletions = 0

    def feed(self, piece: bytes) -> list[CommitFacts]:
        """Take the next piece and return the commits that are complete by now."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        return [commit for line in lines for commit in self._take(line)]

    def close(self) -> list[CommitFacts]:
        """Take the end of the log and return the last commit; none where the log was empty."""
        last = list(self._take(self._rest)) if self._rest else []
        self._rest = b""
        if self._head:
            last.append(self._finish())
        return last

    def _take(self, raw: bytes) -> Iterator[CommitFacts]:
        """Take one line; yields the commit before it where the line begins a new one."""
        self._lines += 1
        line = raw.removesuffix(b"\r").decode("utf-8", errors="replace")
        if 0 < len(self._head) < len(_HEAD):
            self._head.append(self._field(_HEAD[len(self._head)], line))
        elif line.startswith(_HEAD[0]):
            if self._head:
                yield self._finish()
            self._head = [self._field(_HEAD[0], line)]
        elif line:
            self._count(line)

    def _field(self, word: str, line: str) -> str:
        """Cut a head line's first word off."""
        if not line.startswith(word):
            raise self._unexpected(line, f"a line that begins with {word!r}")
        return line.removeprefix(word)

    def _count(self, line: str) -> None:
        """Add one file's counts to the commit at hand."""
        counts = _NUMSTAT.match(line)
        if counts is None or not self._head:
            raise self._unexpected(line, "'commit <hash>', or a file's counts below a commit")
        added, deleted = counts.groups()
        self._additions += 0 if added == "-" else int(added)
        self._deletions += 0 if deleted == "-" else int(deleted)

    def _finish(self) -> CommitFacts:
        """Give the commit at hand away, and be ready for the next."""
        if len(self._head) < len(_HEAD):
            raise self._unexpected("the end", f"a line that begins with {_HEAD[len(self._head)]!r}")
        sha, author, date, subject = self._head
        commit = CommitFacts(sha, author, date, subject, self._additions, self._deletions)
        self._head, self._additions, self._deletions = [], 0, 0
        return commit

    def _unexpected(self, found: str, expected: str) -> InputError:
        shown = found if len(found) <= 60 else found[:57] + "..."
        return InputError(
            f"line {self._lines} is {shown!r}, not {expected}: a history is what"
            f" git log --reverse --numstat --no-merges --format='{LOG_FORMAT}' prints"
        )


_HEAD = ("commit ", "author ", "date ", "subject ")
