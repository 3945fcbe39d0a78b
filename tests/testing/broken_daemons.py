"""Daemons that are known to be wrong. Every one breaks one thing at its smallest seam.

Each is also a scenario, so that a seed that finds it out is run again, from the checkout's root, by
the command that the failure names:

    flowstore sim --seed 12 --scenario tests.testing.broken_daemons:no_floor_guard
"""

import math
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import attrs
import trio
from pytest import MonkeyPatch  # noqa: PT013  it's run where pytest isn't the runner

from flowstore.blocks import ActionBlock
from flowstore.daemon import _applier, _flow, _lease, _retrying, _spans
from flowstore.daemon._applier import Applier
from flowstore.errors import ProgressConflictError, ShardEditedError
from flowstore.events import EventStream
from flowstore.projections import apply_projection
from flowstore.store import HeldDocuments, Taking
from flowstore.store.memory import PROGRESS, MemoryEventStore, _progress
from flowstore.store.memory._feed import MemoryFeed
from flowstore.store.memory._leases import MemoryLeases
from flowstore.store.memory._progress import MemoryShards
from flowstore.store.memory._sessions import MemoryUnit
from flowstore.testing import Scenario, default_scenario
from flowstore.testing._determinism import Schedule

MUTANTS = []


@attrs.frozen(eq=False)
class Broken:
    """Hold a way to be wrong.

    Attributes:
        name: of the function that does it.
        laws: one of which it breaks.
        breaks: does it, for as long as the patches last.
    """

    name: str
    laws: frozenset[str]
    breaks: Callable[[MonkeyPatch], None]

    def __call__(self) -> Scenario:
        """Be wrong for as long as this process lasts, and give the scenario that shows it."""
        self.breaks(MonkeyPatch())
        return self.scenario()

    def scenario(self) -> Scenario:
        """Give the scenario that shows it."""
        return attrs.evolve(default_scenario(), name=f"tests.testing.broken_daemons:{self.name}")


def broken(*laws):
    def register(breaks):
        mutant = Broken(breaks.__name__, frozenset(laws), breaks)
        MUTANTS.append(mutant)
        return mutant

    return register


@broken("no skip")
def naive_mark(monkeypatch):
    """Reads up to the highest sequence that is visible, whoever is still to commit a lower one."""

    async def high_water(feed, _leading_edge_buffer):
        await feed.database.round_trip()
        return feed.database.highest()

    monkeypatch.setattr(MemoryFeed, "high_water", high_water)


def judging(monkeypatch, *, floor=True, epoch=True, edits=True):
    """Have commits be guarded by less."""

    def check(shard, found, at, claim):
        if floor and found.sequence != at:
            raise ProgressConflictError(shard, expected=at, found=found.sequence)
        if epoch and claim and claim.epoch not in {None, found.epoch}:
            raise ProgressConflictError(shard, expected=at, found=found.sequence)
        if edits and claim and claim.edits != found.edits:
            raise ShardEditedError(shard, found.edits)

    monkeypatch.setattr(_progress, "_check", check)


@broken("one owner")
def no_epoch(monkeypatch):
    """Lets whoever stands at the floor commit, also one that lost the shard long ago."""
    judging(monkeypatch, epoch=False)


@broken("exactly once", "agreement")
def no_floor_guard(monkeypatch):
    """Commits again what a lost reply was about: nothing asks, and no floor refuses it."""

    async def never(_applier, _batch):
        await trio.lowlevel.checkpoint()
        return False

    judging(monkeypatch, floor=False)
    monkeypatch.setattr(Applier, "_is_committed", never)


@broken("exactly once")
def edits_ignored(monkeypatch):
    """Writes over what a retried dead letter has changed since the documents were loaded."""
    judging(monkeypatch, edits=False)


@broken("exactly once")
def progress_afterwards(monkeypatch):
    """Commits documents first, and the progress in a transaction of its own."""
    commit = MemoryShards.commit

    async def commit_twice(shards, unit, **where):
        claim, floor = where["claim"], where["floor"]
        found = shards.standing(where["shard"])
        _progress._check(where["shard"], found, floor, claim)
        async with shards.database.transaction(shards.pause) as transaction:
            writes = _progress.prepare_writes(shards.engine, unit.queued.operations)
            await _progress.write_all(transaction, writes, shards.engine)
        empty = MemoryEventStore.projection_session(_Of(shards))
        await commit(shards, empty, **where)

    monkeypatch.setattr(MemoryShards, "commit", commit_twice)


@attrs.frozen
class _Of:
    """As much of a store as making a unit of work takes."""

    _shards: MemoryShards

    @property
    def _engine(self):
        return self._shards.engine

    @property
    def database(self):
        return self._shards.database


@broken("no skip", "agreement")
def ceiling_beyond(monkeypatch):
    """Says that a full page reaches up to the mark, whatever comes after its last event."""
    fetch_page = MemoryFeed.fetch_page

    async def fetch_too_far(feed, floor, mark, **how):
        page = await fetch_page(feed, floor, mark, **how)
        return attrs.evolve(page, ceiling=max(floor, mark))

    monkeypatch.setattr(MemoryFeed, "fetch_page", fetch_too_far)


@broken("exactly once")
def span_edits_ignored(monkeypatch):
    """Commits documents folded before a dead letter was retried, as if nobody had written to them."""
    commit_once = Applier._commit_once

    async def commit_whatever(applier, batch, unit, letters, claim):
        standing = await applier.store.standing(applier.projection)
        claim = claim and attrs.evolve(claim, edits=standing.edits)
        await commit_once(applier, batch, unit, letters, claim)

    monkeypatch.setattr(Applier, "_commit_once", commit_whatever)


@broken("exactly once")
def held_after_failure(monkeypatch):
    """Goes on with the documents of a span that couldn't be folded, as if they were committed."""
    failed = {}

    def hold(types, max_bytes):
        held = failed.pop(Schedule.group(), None) or HeldDocuments(types, max_bytes)
        while held.pending:
            held.confirm({})
        return held

    def fail(folding, floor, ceiling, error):
        failed[Schedule.group()] = folding.held
        return _spans.SpanFailedError(folding.applier.shard, floor, ceiling, error)

    monkeypatch.setattr(_flow, "HeldDocuments", hold)
    monkeypatch.setattr(_spans.Folding, "_failed", fail)
    monkeypatch.setattr(_spans.Folding, "_forget_if_idle", lambda _: None)


@broken("no skip")
def rest_of_a_span(monkeypatch):
    """Leaves out what comes with an event that can't be folded, and commits what came before."""
    fold_chunk = _spans.Folding._fold_chunk

    async def fold_some(folding, span, chunk):
        with suppress(_spans.SpanFailedError):
            await fold_chunk(folding, span, chunk)
        span.ceiling = chunk.ceiling

    monkeypatch.setattr(_spans.Folding, "_fold_chunk", fold_some)


@broken("exactly once")
def cache_before_commit(monkeypatch):
    """Keeps what a projection stored for its next load, also if the commit fails."""
    caches = {}
    load, store = MemoryUnit.load, MemoryUnit.store

    def cache_of(unit):
        _, cache = caches.setdefault(id(unit._engine), (unit._engine, {}))
        return cache

    async def load_cached(unit, kind, identity, /):
        return cache_of(unit).get((kind, identity)) or await load(unit, kind, identity)

    def store_cached(unit, *documents):
        cache_of(unit).update({(type(each), each.id): each for each in documents})
        store(unit, *documents)

    monkeypatch.setattr(MemoryUnit, "load", load_cached)
    monkeypatch.setattr(MemoryUnit, "store", store_cached)


@broken("order", "exactly once", "no skip")
def first_finisher(monkeypatch):
    """Applies several pages at once, and takes the progress of whichever comes last."""
    judging(monkeypatch, floor=False)
    several = partial(ActionBlock, max_degree_of_parallelism=3)
    monkeypatch.setattr(
        _flow, "ActionBlock", lambda work, **_: several(work, bounded_capacity=3, name="apply")
    )


@broken("order", "exactly once")
def unordered_apply(monkeypatch):
    """Applies a page's events each in a task of its own, in the order that those get their turn."""

    async def apply_at_once(projection, session, streams):
        turn = trio.Lock()

        async def apply_alone(stream, event):
            async with turn:  # else one would write over another's, which is told as a skip
                await apply_projection(projection, session, [EventStream(stream.id, (event,))])

        async with trio.open_nursery() as nursery:
            for stream in streams:
                for event in stream.events:
                    nursery.start_soon(apply_alone, stream, event)

    monkeypatch.setattr(_applier, "apply_projection", apply_at_once)
    monkeypatch.setattr(_spans, "apply_projection", apply_at_once)


@broken("liveness")
def no_polling(monkeypatch):
    """Waits for notifications and never looks by itself."""
    wait = MemoryEventStore.wait_for_appends

    async def wait_for_ever(store, _timeout):
        await wait(store, math.inf)

    monkeypatch.setattr(MemoryEventStore, "wait_for_appends", wait_for_ever)


@broken("no skip")
def passing_is_poison(monkeypatch):
    """Sets events aside for what the database can't do just now."""
    monkeypatch.setattr(_applier, "is_passing", lambda _: False)
    monkeypatch.setattr(_applier, "is_the_stores", lambda _: False)
    monkeypatch.setattr(_retrying, "is_passing", lambda _: False)


@broken("exactly once", "agreement")
def rebuild_keeps_documents(monkeypatch):
    """Takes the progress back for a rebuild, and leaves the documents where they are."""

    async def tear_down(shards, projection, place):
        async with shards.database.transaction(shards.pause) as transaction:
            await transaction.lock(PROGRESS, projection.name)
            await _progress._move(transaction, projection.name, place, -1)

    monkeypatch.setattr(MemoryShards, "tear_down", tear_down)


@broken("liveness")
def leases_given_up(monkeypatch):
    """Never asks for a lease again once the connection that held its leases was lost."""
    run = _lease.Leases.run

    async def run_once(leases):
        monkeypatch.setattr(leases, "_retry_time", math.inf)
        await run(leases)

    monkeypatch.setattr(_lease.Leases, "run", run_once)


@broken("liveness")
def lease_of_the_dead(monkeypatch):
    """Keeps a lease for an owner that is gone."""
    take = MemoryLeases.take

    async def take_from_nobody(leases, shard, lease_time):
        await leases._connection.round_trip()
        held = leases._database.leases.get(shard)
        if held is not None and held.connection.is_over:
            return Taking(taken=False, pid=1, application_name=None, ended=False, progress=0)
        return await take(leases, shard, lease_time)

    monkeypatch.setattr(MemoryLeases, "take", take_from_nobody)
