"""The demo's phases, in the order they run: find, publish, check, rebuild."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

import attrs
import trio

from flowstore import ProjectionDaemon, ShardStatus, Store
from flowstore.cli._board import Bar
from flowstore.cli._check import find_disagreements, table
from flowstore.cli._history import History, find_history
from flowstore.cli._projects import ActiveProject
from flowstore.cli._publish import Published, Publisher
from flowstore.cli._watch import Rate, watched
from flowstore.errors import FlowstoreError

__all__ = [
    "ProjectionStoppedError",
    "RebuildFigures",
    "check",
    "find_histories",
    "publish",
    "rebuild",
    "show_table",
]

# Repositories that are read at once; each has a git process, which is the slower part.
_AT_ONCE = 4


class ProjectionStoppedError(FlowstoreError):
    """The demo's projection failed, so its documents will never be current."""


async def find_histories(paths: Iterable[Path]) -> list[History]:
    """Find every history, and say what is there; one that was named twice is taken once."""
    found: dict[object, History] = {}
    for path in paths:
        history = await find_history(path)
        if history.identity in found:
            print(f"reading    {history.source}: the same history as another, left out")
            continue
        found[history.identity] = history
        print(f"reading    {history.source}: {history.events - 1:,} commits")
        if history.remark:
            print(f"           {history.remark}")
    return list(found.values())


async def publish(store: Store, histories: Sequence[History], published: Published) -> None:
    """Publish all histories while the daemon projects; returns when the documents are current.

    Args:
        store: takes the events.
        histories: are read at once, a few of them.
        published: is kept up to date on the way, also when this is cancelled.
    """
    expected = sum(history.events for history in histories)
    async with store.build_projection_daemon() as daemon:
        await daemon.start_all()
        begin = trio.current_time()
        async with watched(_PublishFigures(daemon, published, expected)):
            await _publish_all(store, histories, published)
            written = trio.current_time()
            await daemon.wait_for_non_stale_results()
        current = trio.current_time()
        await daemon.stop_all()
    if published.found:
        print(f"           {published.found:,} of them were there from an earlier run")
    print(
        f"           appended {_speed(published.appended, written - begin)};"
        f" projected {_speed(published.appended, current - begin)}"
    )


async def check(store: Store, published: Published) -> int:
    """Compare every document with its live fold and its history, and say how that ended.

    Returns:
        How many don't agree.
    """
    disagreements = await find_disagreements(store, published.projects)
    for line in disagreements:
        print(f"DISAGREES  {line}")
    if not disagreements:
        count = len(published.projects)
        what = "1 document, against a live fold of its stream and against the history: they agree"
        if count != 1:
            what = (
                f"{count:,} documents, against live folds of their streams and against the"
                " histories: all agree"
            )
        print(f"checked    {what}")
    return len(disagreements)


async def show_table(store: Store, published: Published) -> None:
    """Print the documents as they stand in the store."""
    async with store.session() as session:
        documents = await session.load_many(ActiveProject, list(published.projects))
    print(f"\n{table(documents)}\n")


async def rebuild(store: Store) -> None:
    """Wipe all documents and fold them again from the first event."""
    begin = trio.current_time()
    async with store.build_projection_daemon() as daemon:
        figures = RebuildFigures(partial(_status, daemon), begin)
        async with watched(figures):
            await daemon.rebuild(ActiveProject)
            figures.is_over = True
        ceiling = _status(daemon).progress
    print(f"           replayed {_speed(ceiling, trio.current_time() - begin)}")


async def _publish_all(store: Store, histories: Sequence[History], published: Published) -> None:
    limit = trio.CapacityLimiter(_AT_ONCE)

    async def publish_one(history: History) -> None:
        async with limit:
            await history.read(Publisher(store, published).receive)

    async with trio.open_nursery() as nursery:
        for history in histories:
            nursery.start_soon(publish_one, history)


@attrs.define
class _PublishFigures:
    """Looks at both ends: what was appended, and how far the projection is behind that."""

    daemon: ProjectionDaemon
    published: Published
    expected: int
    _appending: Rate = attrs.Factory(Rate)
    _applying: Rate = attrs.Factory(Rate)

    def __call__(self) -> list[Bar]:
        status = _status(self.daemon)
        now = trio.current_time()
        published = self.published.events
        # Before the daemon has found the mark for the first time, progress may stand above it.
        ceiling = max(self.published.last_sequence, status.high_water_mark)
        lag = max(0, ceiling - status.progress)
        applied = max(0, published - lag)
        total = max(self.expected, published)
        appending = f"{self._appending.of(self.published.appended, now):,.0f} events/s"
        applying = f"{self._applying.of(status.progress, now):,.0f} events/s, lag {lag:,}"
        return [
            Bar("published", published, total, appending),
            Bar("applied", applied, total, applying),
        ]


@attrs.define
class RebuildFigures:
    """Looks how far the rebuild has come on its way to the mark.

    Until it begins the shard stands where it stood before, which is no rate and no progress. A rebuild
    may be over before anybody has looked twice: then all of it is what its rate is taken of.

    Attributes:
        status: gives the shard's.
        begin: when the rebuild was asked for, in trio's seconds.
        is_over: it has ended.
    """

    status: Callable[[], ShardStatus]
    begin: float
    is_over: bool = False
    _has_begun: bool = attrs.field(default=False, init=False)
    _rate: Rate = attrs.field(factory=Rate, init=False)

    def __call__(self) -> list[Bar]:
        status, now = self.status(), trio.current_time()
        self._has_begun = self._has_begun or self.is_over or status.state == "rebuilding"
        if not self._has_begun:
            return [Bar("rebuilt", 0, status.high_water_mark)]
        rate = self._rate.of(status.progress, now)
        if self.is_over and now > self.begin:
            rate = status.progress / (now - self.begin)
        note = f"{rate:,.0f} events/s" if rate else ""
        return [Bar("rebuilt", status.progress, status.high_water_mark, note)]


def _status(daemon: ProjectionDaemon) -> ShardStatus:
    """Give the status of the demo's one shard.

    Raises:
        ProjectionStoppedError: the shard has failed.
    """
    [status] = daemon.statuses()
    if status.state == "failed":
        raise ProjectionStoppedError(
            f"the projection {status.name} stopped at sequence {status.progress}:"
            f" {status.error or status.reason}"
        )
    return status


def _speed(events: int, seconds: float) -> str:
    """Say how many events took how long."""
    rate = f" ({events / seconds:,.0f} events/s)" if events and seconds > 0 else ""
    return f"{events:,} events in {seconds:.2f} s{rate}"
