"""What commit subjects say of issues."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowstore.cli._issues import IssueTracker, Mention, Verb, read_mentions
from flowstore.cli._projects import IssueClosed, IssueCreated, IssueReopened

NAMES, CLOSES, REOPENS = Verb.NAMES, Verb.CLOSES, Verb.REOPENS


def said(subject):
    return [(mention.verb, mention.number) for mention in read_mentions(subject)]


@pytest.mark.parametrize(
    "subject",
    [
        "close #12", "closes #12", "closed #12", "Closing #12", "fix #12", "Fixes #12", "FIXED #12",
        "fixing #12", "resolve #12", "Resolves #12", "resolved #12", "resolving #12", "Fixes: #12",
        "Fixed issue #12.", "Fix Issue #12 at last", "fixes bug #12", "Closes GH-12", "(fixes #12)",
        "Say hello, fixes #12 (#34)",
    ],
)  # fmt: skip
def test_closing_words_close(subject):
    assert said(subject) == [(CLOSES, 12)]


@pytest.mark.parametrize("subject", ["Reopens #12", "re-open #12", "reopened issue #12"])
def test_reopening_words_reopen(subject):
    assert said(subject) == [(REOPENS, 12)]


@pytest.mark.parametrize(
    "subject",
    [
        "See #12", "Fixed cancellation. Issue #12", "Possible fix for #12", "prefix #12",
        "gh-12: Say hello", "#12: say hello", "[#12] say hello (#34)", "Refixes #12", "suffixes #12",
    ],
)  # fmt: skip
def test_anything_else_only_names(subject):
    assert said(subject) == [(NAMES, 12)]


@pytest.mark.parametrize(
    "subject",
    [
        "Say hello (#12)", "Fix greeting (#12)", "Merge pull request #12 from me/hello",
        "Address review of PR #12", "pallets/flask#12", "flask#12", "see https://x.org/a/#12",
        "Escape &#39;", "Paint it #000000", "Paint it #12ab34", "#12345678", "issue 12", "#", "C# 12",
    ],
)  # fmt: skip
def test_pull_requests_and_what_is_no_number_are_passed_over(subject):
    assert said(subject) == []


def test_a_list_belongs_to_its_verb():
    assert said("Closes #1, #2 and #3, see #4") == [
        (CLOSES, 1),
        (CLOSES, 2),
        (CLOSES, 3),
        (NAMES, 4),
    ]


def test_a_revert_takes_a_closing_back():
    assert said('Revert "Fixes #12"') == [(REOPENS, 12)]


def test_an_issue_lives_from_its_first_mention_on():
    tracker = IssueTracker()
    subjects = [
        "See #7",
        "Work on #7",
        "Fixes #7",
        "Fixes #7",
        "See #7",
        "Reopens #7",
        "Reopens #7",
    ]
    assert [tracker.events(subject) for subject in subjects] == [
        [IssueCreated(7, "See #7")],
        [],
        [IssueClosed(7)],
        [],
        [],
        [IssueReopened(7)],
        [],
    ]


def test_an_unseen_issue_is_created_before_it_is_closed_or_reopened():
    assert IssueTracker().events("Fixes #7") == [IssueCreated(7, "Fixes #7"), IssueClosed(7)]
    assert IssueTracker().events("Reopens #7") == [IssueCreated(7, "Reopens #7")]


def test_the_same_number_twice_in_a_subject_counts_once():
    assert IssueTracker().events("Fixes #7, closes #7") == [
        IssueCreated(7, "Fixes #7, closes #7"),
        IssueClosed(7),
    ]


@given(st.text())
def test_any_subject_can_be_read(subject):
    assert all(isinstance(mention, Mention) for mention in read_mentions(subject))


WORDS = st.sampled_from(["fixes", "closes", "reopens", "see", "Revert", "and", ","])
NUMBERS = st.integers(1, 3).map("#{}".format)


@given(st.lists(st.lists(WORDS | NUMBERS, max_size=5).map(" ".join)))
def test_no_event_contradicts_an_earlier_one(subjects):
    tracker = IssueTracker()
    is_open = {}
    for subject in subjects:
        for event in tracker.events(subject):
            match event:
                case IssueCreated(number, _):
                    assert number not in is_open
                    is_open[number] = True
                case IssueClosed(number):
                    assert is_open[number]
                    is_open[number] = False
                case IssueReopened(number):
                    assert is_open[number] is False
                    is_open[number] = True
