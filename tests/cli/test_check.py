"""What is compared, and how the documents are laid out."""

from uuid import UUID

import attrs
from hypothesis import given
from hypothesis import strategies as st

from flowstore.cli._check import compare, table
from flowstore.cli._generate import generate_history
from flowstore.cli._projects import ActiveProject, Commit, fold

HISTORY = ActiveProject(UUID(int=1), "there", "octo", 120, 3, {"Ada", "Bob"})


def but(**changes):
    return attrs.evolve(HISTORY, **changes)


def test_what_agrees_is_not_mentioned():
    assert compare(HISTORY, but(), but()) == []


def test_a_document_that_is_missing_is_a_disagreement():
    name = f"octo/there ({UUID(int=1)})"
    assert compare(HISTORY, but(), None) == [f"{name}: the document has nothing at all"]


def test_every_difference_is_named_with_both_values():
    [live, document] = compare(
        HISTORY, but(lines_of_code=121, open_issue_count=2), but(project_name="here")
    )
    assert live.endswith(
        "the live fold of the stream has 121 lines of code, the history 120; 2 open issues, the"
        " history 3"
    )
    assert document.endswith("the document has the name octo/here")


def test_other_contributors_are_a_difference_also_where_they_are_as_many():
    assert "other contributors" in compare(HISTORY, but(contributors={"Ada", "Eve"}), but())[0]
    assert "3 contributors" in compare(HISTORY, but(), but(contributors={"A", "B", "C"}))[0]


def test_the_largest_project_comes_first_and_numbers_stand_to_the_right():
    small = ActiveProject(UUID(int=2), "small", "local", 7, 0, set())
    large = ActiveProject(UUID(int=3), "large\nname", "octo", 1_234_567, 12, {"Ada"})
    assert table([small, large]).splitlines() == [
        "project     organization  lines of code  open issues  contributors",
        "----------  ------------  -------------  -----------  ------------",
        "large?name  octo              1,234,567           12             1",
        "small       local                     7            0             0",
    ]


def test_of_many_projects_the_first_are_shown():
    many = [ActiveProject(UUID(int=n), f"p{n}", "o", n) for n in range(25)]
    assert table(many).splitlines()[-1] == "... and 5 more"
    assert "p24" in table(many)


@given(st.integers(0, 300), st.integers())
def test_a_fold_counts_what_its_events_say(n, seed):
    folded = {}
    for stream_id, event in generate_history(n, seed):
        fold(folded.setdefault(stream_id, ActiveProject(stream_id)), event)
    commits = [event for _, event in generate_history(n, seed) if isinstance(event, Commit)]
    lines = sum(commit.additions - commit.deletions for commit in commits)
    assert sum(project.lines_of_code for project in folded.values()) == lines
    authors = set().union(*(project.contributors for project in folded.values()))
    assert authors == {commit.user_name for commit in commits}
