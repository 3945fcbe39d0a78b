"""A shard's pipeline, put together: the one place that says which block follows which."""

import logging
import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Protocol

import attrs
import trio

from flowstore.blocks import ActionBlock, Network, SourceBlock, pipe
from flowstore.daemon._applier import Applier
from flowstore.daemon._mark import Marks
from flowstore.daemon._needs import Target
from flowstore.daemon._pipeline import Fetch, group_by_stream, read_pages
from flowstore.daemon._reasons import InHand
from flowstore.daemon._retrying import Patience
from flowstore.daemon._settings import DaemonSettings
from flowstore.daemon._spans import Folding
from flowstore.events import EventBatch, EventPage
from flowstore.projections import IProjection, only_folds, produced_by, shard_name
from flowstore.store import Claim, HeldDocuments, ProjectionUnit

__all__ = ["Flow", "Leg", "Pages"]


class Pages(Protocol):
    """Fetches pages: for all shards of a daemon, or of a part of the streams."""

    def reading(
        self, projection: IProjection, floor: int, in_hand: InHand
    ) -> AbstractContextManager[Fetch]:
        """Give what fetches a projection's pages, from a floor on, for the block."""
        ...


@attrs.frozen(kw_only=True)
class Leg:
    """Say from where to where a pipeline runs, and how.

    Attributes:
        claim: what the shard's owner was told, and where it stands.
        marks: tells how far it is safe to read.
        ceiling: end there, inclusive; `math.inf`: never.
        rebuilding: leave out what waits for commits, and fail as rebuilds do.
        on_error: what becomes of an event that fails alone.
        careful: apply page by page, also what could be folded and committed together.
        expects_new: take it that there is no document yet where a stream begins, at the tail.
    """

    claim: Claim
    marks: Marks
    ceiling: float = math.inf
    rebuilding: bool = False
    on_error: str
    careful: bool = False
    expects_new: bool = True


@attrs.frozen(eq=False, kw_only=True)
class Flow:
    """Put a shard's pipeline together.

    ```
    mark ─▶ SourceBlock fetch, decode ─┬─▶ StreamBlock group, fold ─▶ ActionBlock commit
                                       └─▶ TransformBlock group ─▶ ActionBlock apply + commit
    ```

    The upper way is for projections that only fold, the lower one for all others, and for the pages
    that fail on the upper one.

    Attributes:
        store: where effects and progress go: a store, or a rebuild's shadow.
        projection: what is applied.
        settings: the daemon's.
        pages: fetches them.
        commits: bounds how many commits there are at the same time.
        in_hand: is told what is being done.
        patience: waits out trouble with the database.
        committed: is told the progress after every commit.
        log: is told of what fails after a commit.
    """

    store: Target
    projection: IProjection
    settings: DaemonSettings
    pages: Pages
    commits: trio.CapacityLimiter
    in_hand: InHand
    patience: Patience
    committed: Callable[[int], None]
    log: logging.Logger
    _unknown: dict[int, ProjectionUnit] = attrs.field(
        factory=dict[int, ProjectionUnit], init=False, repr=False
    )

    def assemble(self, network: Network, leg: Leg) -> SourceBlock[EventPage]:
        """Add the pipeline to a network; gives its source, which ends it when completed."""
        source = self._source(leg)
        if leg.careful or not only_folds(self.projection):
            network.add(pipe(source, group_by_stream(), self._sink(leg)))
        else:
            folding = self._folding(leg)
            commit = ActionBlock(
                self.in_hand.noting(folding.commit), bounded_capacity=1, name="commit"
            )
            network.add(pipe(source, folding.block(), commit))
        return source

    async def settle(self, ceiling: int, *, rebuilding: bool) -> bool:
        """Call what waits for a commit that was given up, and that was carried out nevertheless.

        Tells whether there was an attempt to commit up to that ceiling. After it no attempt made
        before can be carried out any more: it would find another floor.
        """
        unit = self._unknown.get(ceiling)
        self._unknown.clear()
        if unit is not None and not rebuilding:
            try:
                await self.store.call_after_commit(unit)
            except Exception:
                self.log.exception(
                    "shard %r: what waited for a commit failed after it",
                    shard_name(self.projection),
                )
        return unit is not None

    def _folding(self, leg: Leg) -> Folding:
        types = frozenset(produced_by(self.projection))
        return Folding(
            self.store,
            self.projection,
            self._applier(leg),
            HeldDocuments(types, self.settings.held_bytes),
            span_bytes=self.settings.span_bytes,
            gathers=leg.ceiling < math.inf,
            expects_new=leg.expects_new and leg.ceiling == math.inf,
            in_hand=self.in_hand,
        )

    def _source(self, leg: Leg) -> SourceBlock[EventPage]:
        floor = leg.claim.sequence
        reading = self.pages.reading(self.projection, floor, self.in_hand)
        pages = partial(
            read_pages, leg.marks, reading, floor=floor, ceiling=leg.ceiling, patience=self.patience
        )
        ahead = self.settings.pages_ahead
        return SourceBlock(pages, bounded_capacity=ahead, name="fetch, decode")

    def _sink(self, leg: Leg) -> ActionBlock[EventBatch]:
        noted = self.in_hand.noting(self._applier(leg).apply)
        return ActionBlock(noted, bounded_capacity=1, name="apply, commit")

    def _applier(self, leg: Leg) -> Applier:
        return Applier(
            self.store,
            self.projection,
            leg.claim,
            on_error="stop" if leg.on_error == "stop" else "dead_letter",
            rebuilding=leg.rebuilding,
            patience=self.patience,
            commits=self.commits,
            committed=self.committed,
            log=self.log,
            unknown=self._unknown,
        )
