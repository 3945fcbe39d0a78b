"""Reads issue events from commit subjects; the README says in words what this does."""

import re
from enum import Enum

import attrs

from flowstore.cli._projects import IssueClosed, IssueCreated, IssueReopened

__all__ = ["IssueEvent", "IssueTracker", "Mention", "Verb", "read_mentions"]

IssueEvent = IssueCreated | IssueReopened | IssueClosed


class Verb(Enum):
    """What a subject says of an issue."""

    NAMES = "names"
    CLOSES = "closes"
    REOPENS = "reopens"


@attrs.frozen
class Mention:
    """One issue that a subject names.

    Attributes:
        verb: what it says of the issue.
        number: the issue's number.
    """

    verb: Verb
    number: int


# "#12" or "GH-12". Not within a word or a path (another project's "pallets/flask#12", an address),
# not an entity ("&#39;"), and never with a leading zero (a colour, "#000000").
_NUMBER = r"(?:(?<![\w/&])\#|\bgh-)[1-9]\d{0,6}\b"

# What follows a verb: "Fixes #1", "Fixed issue #1", "Closes: #1, #2 and #3".
_LIST = rf"{_NUMBER}(?:(?:\s*,\s*(?:and\s+|&\s*)?|\s+and\s+|\s*&\s*){_NUMBER})*"

_MENTION = re.compile(
    rf"""
      (?P<pull>    \( {_NUMBER} \) | \b (?:pr|pull|pull[ -]request|merge[ -]request) s? \s* {_NUMBER} )
    | (?P<reopens> \b re-?open (?:s|ed|ing)? :? \s+ (?:(?:issue|bug|ticket)s? \s+)? {_LIST} )
    | (?P<closes>  \b (?: clos (?:e|es|ed|ing) | fix (?:es|ed|ing)? | resolv (?:e|es|ed|ing) )
                   :? \s+ (?:(?:issue|bug|ticket)s? \s+)? {_LIST} )
    | (?P<names>   {_NUMBER} )
    """,
    re.IGNORECASE | re.VERBOSE,
)
_DIGITS = re.compile(rf"{_NUMBER}", re.IGNORECASE)
_REVERT = re.compile(r"revert\b", re.IGNORECASE)


def read_mentions(subject: str) -> list[Mention]:
    """Read which issues a subject names, and what it says of each, from left to right.

    A pull request's own number, as `(#12)` or after "PR", is no issue. A subject that begins with
    "Revert" takes back what it quotes: its closing words reopen.
    """
    reverted = _REVERT.match(subject) is not None
    mentions: list[Mention] = []
    for match in _MENTION.finditer(subject):
        if match.lastgroup == "pull":
            continue
        verb = Verb(match.lastgroup)
        if reverted and verb is Verb.CLOSES:
            verb = Verb.REOPENS
        mentions += [
            Mention(verb, int(number[number.index("-") + 1 :] if "-" in number else number[1:]))
            for number in _DIGITS.findall(match.group())
        ]
    return mentions


class IssueTracker:
    """Turns what subjects say into events, of which none contradicts an earlier one.

    An issue is created before anything else happens to it, is closed only while open and reopened
    only while closed; what would change nothing is no event.
    """

    def __init__(self) -> None:
        self._is_open: dict[int, bool] = {}

    def events(self, subject: str) -> list[IssueEvent]:
        """Return the events that a subject tells of, in the order it names them."""
        return [
            event for mention in read_mentions(subject) for event in self._follow(mention, subject)
        ]

    def _follow(self, mention: Mention, subject: str) -> list[IssueEvent]:
        number = mention.number
        events: list[IssueEvent] = []
        if number not in self._is_open:
            events.append(IssueCreated(number, subject))
            self._is_open[number] = True
        if mention.verb is Verb.CLOSES and self._is_open[number]:
            events.append(IssueClosed(number))
            self._is_open[number] = False
        elif mention.verb is Verb.REOPENS and not self._is_open[number]:
            events.append(IssueReopened(number))
            self._is_open[number] = True
        return events
