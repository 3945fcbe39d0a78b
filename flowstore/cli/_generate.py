"""Makes up a history of many projects, the same one for the same seed."""

from collections.abc import Iterator
from random import Random
from uuid import UUID, uuid5

import attrs

from flowstore.cli._projects import (
    Commit,
    IssueClosed,
    IssueCreated,
    IssueReopened,
    ProjectEvent,
    ProjectStarted,
)

__all__ = ["generate_history"]

_NAMESPACE = UUID("5f0a52c7-6f6f-5a0a-9f53-3d8f4f0b6a11")
_EVENTS_PER_PROJECT = 50
_MOST_PROJECTS = 2_000

_ORGANIZATIONS = ("harbour", "lantern", "meadow", "northwind", "orchard", "quarry", "tidewater")
_THINGS = ("anvil", "beacon", "compass", "delta", "ember", "fathom", "gantry", "hinge", "inlet")
_AUTHORS = tuple(
    f"{first} {last}"
    for first in ("Ada", "Barbara", "Donald", "Edsger", "Frances", "Grace", "Jim", "Leslie")
    for last in ("Alder", "Birch", "Cedar", "Hazel", "Linden", "Maple", "Rowan", "Willow")
)


@attrs.define
class _Project:
    """What the generator remembers of one project, so that its events make sense."""

    stream_id: UUID
    open: list[int] = attrs.Factory(list[int])
    closed: list[int] = attrs.Factory(list[int])
    issues: int = 0


def generate_history(n: int, seed: int) -> Iterator[tuple[UUID, ProjectEvent]]:
    """Yield n events of many projects, mixed, each with the stream it belongs to.

    Every project starts with `ProjectStarted`; an issue is closed only while open and reopened
    only while closed. The same n and seed give the same history on every Python.
    """
    # Random.random alone is promised to stay the same from one Python to the next.
    draw = Random(seed).random  # noqa: S311 - a made-up history keeps no secret
    projects: dict[int, _Project] = {}
    most = max(1, min(n // _EVENTS_PER_PROJECT, _MOST_PROJECTS))
    for _ in range(n):
        # Squared: some projects are busy, most are not.
        index = int(draw() ** 2 * most)
        if index not in projects:
            stream_id = uuid5(_NAMESPACE, f"generated {n} {seed} {index}")
            projects[index] = _Project(stream_id)
            yield stream_id, _started(index)
        else:
            yield projects[index].stream_id, _next_event(projects[index], draw(), draw(), draw())


def _started(index: int) -> ProjectStarted:
    thing = _THINGS[index % len(_THINGS)]
    return ProjectStarted(f"{thing}-{index}", _ORGANIZATIONS[index % len(_ORGANIZATIONS)])


def _next_event(project: _Project, kind: float, first: float, second: float) -> ProjectEvent:
    """Decide what happens next, from three numbers in [0, 1)."""
    if kind < 0.10:
        project.issues += 1
        project.open.append(project.issues)
        return IssueCreated(project.issues, f"Issue {project.issues} of the day")
    if kind < 0.17 and project.open:
        return IssueClosed(_move(project.open, project.closed, first))
    if kind < 0.19 and project.closed:
        return IssueReopened(_move(project.closed, project.open, first))
    author = _AUTHORS[int(first * first * len(_AUTHORS))]
    return Commit(author, additions=int(second * 120), deletions=int(second * first * 100))


def _move(source: list[int], target: list[int], place: float) -> int:
    """Take one number out of a list, add it to the other, and return it."""
    number = source.pop(int(place * len(source)))
    target.append(number)
    return number
