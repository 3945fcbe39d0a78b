"""Made-up histories."""

import itertools
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowstore.cli._generate import generate_history
from flowstore.cli._projects import IssueClosed, IssueCreated, IssueReopened, ProjectStarted


@given(n=st.integers(0, 2000), seed=st.integers())
def test_two_runs_of_one_seed_agree(n, seed):
    first = list(generate_history(n, seed))
    assert len(first) == n
    assert first == list(generate_history(n, seed))


def test_another_seed_is_another_history_in_other_streams():
    one, other = (set(generate_history(500, seed)) for seed in (1, 2))
    assert not {stream for stream, _ in one} & {stream for stream, _ in other}


def test_a_history_stays_the_same_from_one_python_to_the_next():
    (stream_id, first), *_, (_, last) = generate_history(1000, 1)
    assert str(stream_id) == "2ec91cc3-4f16-5566-8feb-553655471894"
    assert (first, last) == (
        ProjectStarted(name="anvil-0", organization="harbour"),
        IssueClosed(number=3),
    )


def test_many_projects_are_mixed():
    streams = [stream_id for stream_id, _ in generate_history(20_000, 3)]
    assert len(set(streams)) > 200
    changes = sum(one != other for one, other in itertools.pairwise(streams))
    assert changes > 15_000


@given(seed=st.integers())
def test_every_project_starts_and_no_issue_contradicts_itself(seed):
    issues = {}
    for stream_id, event in generate_history(1500, seed):
        assert (stream_id not in issues) == isinstance(event, ProjectStarted)
        is_open = issues.setdefault(stream_id, {})
        match event:
            case IssueCreated(number, _):
                assert number not in is_open
                is_open[number] = True
            case IssueClosed(number):
                assert is_open[number]
                is_open[number] = False
            case IssueReopened(number):
                assert not is_open[number]
                is_open[number] = True


@pytest.mark.parametrize("n", [1, 49, 5000])
def test_every_kind_of_event_comes_up_in_a_long_history(n):
    kinds = Counter(type(event).__name__ for _, event in generate_history(n, 5))
    assert kinds["ProjectStarted"] >= 1
    if n == 5000:
        assert set(kinds) == {
            "ProjectStarted", "IssueCreated", "IssueClosed", "IssueReopened", "Commit",
        }  # fmt: skip
