"""Daemons that are known to be wrong: the simulation finds each of them out, and within few seeds.

A suite that can't fail proves nothing. Every mutant here breaks one thing at its smallest seam.
"""

import math
from functools import partial

import attrs
import pytest
import trio

from flowstore.blocks import ActionBlock
from flowstore.daemon import _applier, _flow, _retrying
from flowstore.daemon._applier import Applier
from flowstore.errors import ProgressConflictError, ShardEditedError
from flowstore.events import EventStream
from flowstore.projections import apply_projection
from flowstore.store.memory import PROGRESS, MemoryEventStore, _progress
from flowstore.store.memory._feed import MemoryFeed
from flowstore.store.memory._progress import MemoryShards
from flowstore.store.memory._sessions import MemoryUnit
from flowstore.testing import SimulationError, default_scenario, simulate

SEEDS = range(200)


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


def no_epoch(monkeypatch):
    """Lets whoever stands at the floor commit, also one that lost the shard long ago."""
    judging(monkeypatch, epoch=False)


def no_floor_guard(monkeypatch):
    """Commits again what a lost reply was about: nothing asks, and no floor refuses it."""

    async def never(_applier, _batch):
        await trio.lowlevel.checkpoint()
        return False

    judging(monkeypatch, floor=False)
    monkeypatch.setattr(Applier, "_is_committed", never)


def edits_ignored(monkeypatch):
    """Writes over what a retried dead letter has changed since the documents were loaded."""
    judging(monkeypatch, edits=False)


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


def ceiling_beyond(monkeypatch):
    """Says that a full page reaches up to the mark, whatever comes after its last event."""
    fetch_page = MemoryFeed.fetch_page

    async def fetch_too_far(feed, floor, mark, **how):
        page = await fetch_page(feed, floor, mark, **how)
        return attrs.evolve(page, ceiling=max(floor, mark))

    monkeypatch.setattr(MemoryFeed, "fetch_page", fetch_too_far)


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


def first_finisher(monkeypatch):
    """Applies several pages at once, and takes the progress of whichever comes last."""
    judging(monkeypatch, floor=False)
    several = partial(ActionBlock, max_degree_of_parallelism=3)
    monkeypatch.setattr(
        _flow, "ActionBlock", lambda work, **_: several(work, bounded_capacity=3, name="apply")
    )


def unordered_apply(monkeypatch):
    """Applies a page's events all at once, each in a task of its own."""

    async def apply_at_once(projection, session, streams):
        async with trio.open_nursery() as nursery:
            for stream in streams:
                for event in stream.events:
                    alone = [EventStream(stream.id, (event,))]
                    nursery.start_soon(apply_projection, projection, session, alone)

    monkeypatch.setattr(_applier, "apply_projection", apply_at_once)


def no_polling(monkeypatch):
    """Waits for notifications and never looks by itself."""
    wait = MemoryEventStore.wait_for_appends

    async def wait_for_ever(store, _timeout):
        await wait(store, math.inf)

    monkeypatch.setattr(MemoryEventStore, "wait_for_appends", wait_for_ever)


def passing_is_poison(monkeypatch):
    """Sets events aside for what the database can't do just now."""
    monkeypatch.setattr(_applier, "is_passing", lambda _: False)
    monkeypatch.setattr(_applier, "is_the_stores", lambda _: False)
    monkeypatch.setattr(_retrying, "is_passing", lambda _: False)


def rebuild_keeps_documents(monkeypatch):
    """Takes the progress back for a rebuild, and leaves the documents where they are."""

    async def tear_down(shards, projection, place):
        async with shards.database.transaction(shards.pause) as transaction:
            await transaction.lock(PROGRESS, projection.name)
            await _progress._move(transaction, projection.name, place, -1)

    monkeypatch.setattr(MemoryShards, "tear_down", tear_down)


MUTANTS = {
    naive_mark: {"no skip"},
    no_epoch: {"one owner"},
    no_floor_guard: {"exactly once"},
    edits_ignored: {"exactly once"},
    progress_afterwards: {"exactly once"},
    ceiling_beyond: {"no skip", "agreement"},
    cache_before_commit: {"exactly once"},
    first_finisher: {"order", "exactly once", "no skip"},
    unordered_apply: {"order", "exactly once"},
    no_polling: {"liveness"},
    passing_is_poison: {"no skip"},
    rebuild_keeps_documents: {"exactly once", "agreement"},
}


@pytest.fixture(scope="module")
def table(request):
    rows = []
    yield rows
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        lines = [f"{mutant:<26}{seeds:>13}  {law}" for mutant, seeds, law in rows]
        told = "\n".join(["mutant                    seeds it took  law", *lines])
        print(f"\n\n{told}")  # noqa: T201  it is for whoever runs the tests


def first_violation():
    """Run seeds until one breaks a law; give how many it took, the law, and the story."""
    scenario = default_scenario()
    for count, seed in enumerate(SEEDS, 1):
        try:
            simulate(scenario, seed=seed)
        except SimulationError as error:
            return count, error.violation.law, str(error)
    return None


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_the_simulation_finds_out(mutant, monkeypatch, table):
    mutant(monkeypatch)
    found = first_violation()
    assert found, f"{len(SEEDS)} seeds, and nobody noticed: {mutant.__doc__}"
    count, law, told = found
    table.append((mutant.__name__, count, law))
    assert law in MUTANTS[mutant], told
