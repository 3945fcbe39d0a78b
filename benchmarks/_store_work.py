"""What the store benchmark works on: a seeded history, cut into commits and writers."""

from collections.abc import Iterable, Iterator, Sequence
from random import Random
from typing import Any
from uuid import UUID, uuid5

import attrs

from flowstore.cli._generate import _next_event, _Project, _started
from flowstore.cli._projects import ActiveProject, ProjectEvent, fold

SEED = 7
NAMESPACE = UUID("0b5a4bd4-3a53-5c28-9d2b-6f3f6dd3a1c5")
PAGE_SIZE = 500

Fact = tuple[UUID, ProjectEvent]


@attrs.frozen
class Sizes:
    """How much the cases handle.

    Attributes:
        events: in the history that is read, caught up and rebuilt.
        streams: that it is spread over.
        appended: events a round, by the key of an append workload.
        imported: events a round.
        latency: appends a round, a hundred a second.
        tail: events a round that ten running shards follow.
        single: events for peers that commit each event by itself.
    """

    events: int
    streams: int
    appended: dict[str, int]
    imported: int
    latency: int
    tail: int
    single: int

    @classmethod
    def of(cls, events: int, streams: int) -> "Sizes":
        """Scale everything to a history of so many events."""

        def part(share: float) -> int:
            return max(200, int(events * share) // 200 * 200)

        appended = {
            "append 1": part(0.005),
            "append 10": part(0.025),
            "append 100": part(0.25),
            "append 1, 8 writers": part(0.01),
            "append 10, 8 writers": part(0.05),
        }
        return cls(
            events,
            min(streams, events),
            appended,
            imported=part(0.25),
            latency=max(20, min(500, events // 400)),
            tail=part(0.05),
            single=part(0.01),
        )


@attrs.frozen
class Append:
    """One of the append workloads.

    Attributes:
        per_commit: events a commit, all of one stream.
        writers: how many append at once, each to streams of its own.
    """

    per_commit: int
    writers: int


APPENDS = {
    "append 1": Append(1, 1),
    "append 10": Append(10, 1),
    "append 100": Append(100, 1),
    "append 1, 8 writers": Append(1, 8),
    "append 10, 8 writers": Append(10, 8),
}


@attrs.frozen
class Batch:
    """What one commit appends.

    Attributes:
        stream_id: the one stream it goes to: what every peer can do.
        version: the stream's version before it.
        events: at least one.
    """

    stream_id: UUID
    version: int
    events: tuple[ProjectEvent, ...]


def history(events: int, streams: int, seed: int | str = SEED, together: int = 1) -> Iterator[Fact]:
    """Yield that many events of exactly that many streams, interleaved; some are far busier.

    The demo's generator chooses the number of streams by itself; what happens in one is its choice
    here too.

    Args:
        events: how many; a multiple of `together`.
        streams: how many, at most a turn each.
        seed: the same one gives the same history.
        together: how many events in a row go to one stream.
    """
    random = Random(seed)
    draw = random.random
    turns = events // together
    order = list(range(streams)) + [int(draw() ** 2 * streams) for _ in range(turns - streams)]
    random.shuffle(order)
    projects: dict[int, _Project] = {}
    for index in order:
        for _ in range(together):
            if index in projects:
                project = projects[index]
                yield project.stream_id, _next_event(project, draw(), draw(), draw())
            else:
                stream_id = uuid5(NAMESPACE, f"{events} {streams} {seed} {index}")
                projects[index] = _Project(stream_id)
                yield stream_id, _started(index)


def commits(key: str, events: int, number: int) -> list[list[Batch]]:
    """Draw the commits of an append workload's round: a list a writer, no stream in two of them."""
    append = APPENDS[key]
    turns = events // append.per_commit
    streams = max(append.writers, turns // 4)
    versions: dict[UUID, int] = {}
    batches: list[Batch] = []
    facts = history(events, min(streams, turns), f"{key} {number}", append.per_commit)
    while part := [fact for _, fact in zip(range(append.per_commit), facts, strict=False)]:
        stream_id = part[0][0]
        version = versions.get(stream_id, 0)
        batches.append(Batch(stream_id, version, tuple(event for _, event in part)))
        versions[stream_id] = version + append.per_commit
    return _share(batches, append.writers)


def _share(batches: Sequence[Batch], writers: int) -> list[list[Batch]]:
    """Give whole streams to writers, as evenly as the busy ones allow; order stays."""
    sizes: dict[UUID, int] = {}
    for batch in batches:
        sizes[batch.stream_id] = sizes.get(batch.stream_id, 0) + 1
    loads = [0] * writers
    owner: dict[UUID, int] = {}
    for stream_id, size in sorted(sizes.items(), key=lambda item: -item[1]):
        owner[stream_id] = loads.index(min(loads))
        loads[owner[stream_id]] += size
    shares: list[list[Batch]] = [[] for _ in range(writers)]
    for batch in batches:
        shares[owner[batch.stream_id]].append(batch)
    return shares


def folded(facts: Iterable[Fact]) -> dict[UUID, ActiveProject]:
    """Fold a history in memory: what every projection's documents are compared with."""
    projects: dict[UUID, ActiveProject] = {}
    for stream_id, event in facts:
        project = projects.get(stream_id)
        if project is None:
            project = projects[stream_id] = ActiveProject(stream_id)
        fold(project, event)
    return projects


def plain(project: ActiveProject) -> dict[str, Any]:
    """Lay a document out as JSON values, as the store writes it."""
    return {
        "id": str(project.id),
        "project_name": project.project_name,
        "organization_name": project.organization_name,
        "lines_of_code": project.lines_of_code,
        "open_issue_count": project.open_issue_count,
        "contributors": sorted(project.contributors),
    }
