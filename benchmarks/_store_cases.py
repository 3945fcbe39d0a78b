"""How a case of the store benchmark is described, and what all cases are given."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import attrs
import psycopg
from _store_work import Batch, Fact, Sizes, commits, history

from flowstore.cli._projects import ActiveProject

T = TypeVar("T")

Documents = dict[UUID, ActiveProject]


class SkippedError(Exception):
    """A peer can't be measured here; the message says why."""


@attrs.frozen
class Bench:
    """What cases are given.

    Attributes:
        dsn: the run's own database; every case has schemas of its own in it.
        sizes: how much they handle.
        emmett: a folder that Emmett's packages are in, or may be installed to; None: without it.
    """

    dsn: str
    sizes: Sizes
    emmett: Path | None = None
    _once: dict[str, Any] = attrs.field(factory=dict, init=False, repr=False)

    async def once(self, name: str, make: Callable[[], Awaitable[T]]) -> T:
        """Do something for all cases that need it, when the first one asks."""
        if name not in self._once:
            self._once[name] = await make()
        return self._once[name]

    def facts(self, events: int | None = None) -> list[Fact]:
        """Give the history, or its first events."""
        if "facts" not in self._once:
            self._once["facts"] = list(history(self.sizes.events, self.sizes.streams))
        return self._once["facts"][:events]

    def connect(self) -> psycopg.Connection:
        """Open one of psycopg's own synchronous connections; each statement commits by itself."""
        return psycopg.connect(self.dsn, autocommit=True)


@attrs.frozen
class Job:
    """What one opened case does in every round.

    Attributes:
        run: does it once; plain or async; may return a `Measured`.
        count: how many items one run handles.
        prepare: goes before each run, outside the time.
        documents: gives the documents that a projection has made of `count` events; None: makes none.
        facts: gives the history that those are of; None: the first `count` events of the run's.
        table: gets a row for each of `count` events in every run, from no other case; None: gets none.
    """

    run: Callable[[], Any]
    count: int
    prepare: Callable[[], Any] | None = None
    documents: Callable[[], Awaitable[Documents]] | None = None
    facts: Callable[[], Iterable[Fact]] | None = None
    table: str | None = None


@attrs.frozen
class Entry:
    """One case of one workload.

    Attributes:
        workload: what is done, a key of `store.WORKLOADS`.
        name: who does it.
        open: makes what it needs, and clears it away.
        remark: what a reader must know to compare it.
    """

    workload: str
    name: str
    open: Callable[[Bench], AbstractAsyncContextManager[Job]]
    remark: str = ""


class Drawn:
    """Draws an append workload's commits for one case: round by round the same for every case.

    Attributes:
        shares: the commits of the present round, a list a writer.
    """

    def __init__(self, bench: Bench, key: str) -> None:
        self.key = key
        self.count = bench.sizes.appended[key]
        self.shares: Sequence[Sequence[Batch]] = ()
        self._seed = 0

    def draw(self) -> None:
        """Draw the next round's: other streams than in any round before."""
        self._seed += 1
        self.shares = commits(self.key, self.count, self._seed)
