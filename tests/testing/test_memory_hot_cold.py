"""Daemons of stores in one memory: one runs a shard, the others stand by, as on PostgreSQL."""

from contextlib import AsyncExitStack, asynccontextmanager
from uuid import uuid4

import attrs
import pytest
import trio

from flowstore.daemon import DaemonSettings
from flowstore.errors import DatabaseUnavailableError
from flowstore.projections import AsyncOptions
from flowstore.store import StoreOptions
from flowstore.store.memory import MemoryDatabase
from flowstore.testing import MemoryStore, RecordingProjection

HOT_COLD = DaemonSettings(mode="hot_cold", lease_time=2.0)


@attrs.frozen
class Counted:
    by: int = 1


class World:
    """Two stores on one database, as two processes on one server."""

    def __init__(self):
        self.database = MemoryDatabase()
        self.stores, self.recordings = [], []
        for _ in range(2):
            recording = RecordingProjection(async_options=AsyncOptions(page_size=2))
            options = StoreOptions()
            options.events.add_types(Counted)
            options.projections.add(recording)
            self.recordings.append(recording)
            self.stores.append(MemoryStore(options, database=self.database))
        self.shard = options.projections.asynchronous()[0].shard

    async def append(self, count=1):
        async with self.stores[0].session() as session:
            session.events.append(uuid4(), *[Counted()] * count)
            await session.save_changes()

    @asynccontextmanager
    async def pair(self):
        async with AsyncExitStack() as stack:
            daemons = [
                await stack.enter_async_context(store.build_projection_daemon(HOT_COLD))
                for store in self.stores
            ]
            for daemon in daemons:
                await daemon.start_all()
            yield daemons

    def applied(self):
        return [recording.sequences for recording in self.recordings]

    def connection(self):
        """The connection of whoever has the lease."""
        return self.database.leases[self.shard].connection


@pytest.fixture
def world():
    return World()


def states(daemons):
    return [daemon.statuses()[0].state for daemon in daemons]


async def until(condition):
    with trio.fail_after(10):
        while not condition():  # noqa: ASYNC110 - virtual time
            await trio.sleep(0.01)


async def test_one_of_two_runs_the_shard_and_the_other_says_so(world, autojump_clock):
    async with world.pair() as (hot, cold):
        await world.append(3)
        await hot.wait_for_non_stale_results(10)
        assert states([hot, cold]) == ["running", "starting"]
        assert cold.statuses()[0].reason.startswith("another process runs it: pid ")
    assert world.applied() == [[1, 2, 3], []]


async def test_who_stops_is_followed(world, autojump_clock):
    async with world.pair() as (hot, cold):
        await world.append(2)
        await cold.wait_for_non_stale_results(10)
        await hot.stop_all()
        await until(lambda: states([cold]) == ["running"])
        await world.append(1)
        await cold.wait_for_non_stale_results(10)
    assert world.applied() == [[1, 2], [3]]


async def test_a_connection_that_is_lost_is_a_lease_that_is_lost(world, autojump_clock):
    async with world.pair() as daemons:
        lost = world.connection()
        lost.terminate()
        await until(lambda: world.connection() is not lost and "running" in states(daemons))
        await world.append(3)
        await daemons[0].wait_for_non_stale_results(10)
    assert sorted(world.applied()[0] + world.applied()[1]) == [1, 2, 3]


async def test_who_is_silent_for_longer_than_a_lease_is_ended_and_followed(world, autojump_clock):
    async with world.stores[0].leases() as silent:
        assert (await silent.take(world.shard, 2.0)).taken
        async with world.stores[1].build_projection_daemon(HOT_COLD) as daemon:
            begin = trio.current_time()
            await daemon.start_all()
            await until(lambda: states([daemon]) == ["running"])
            assert 2.0 <= trio.current_time() - begin < 4.0
        for ask in (
            silent.take(world.shard, 2.0),
            silent.leave(world.shard),
            silent.renew({world.shard: 1}),
        ):
            with pytest.raises(DatabaseUnavailableError):
                await ask


async def test_who_says_that_it_is_alive_keeps_the_lease(world, autojump_clock):
    async with world.stores[0].leases() as owner, world.stores[1].leases() as other:
        await owner.take(world.shard, 2.0)
        for _ in range(4):
            await trio.sleep(1.5)
            assert await owner.renew({world.shard: 0}) == []
            taking = await other.take(world.shard, 2.0)
            assert (taking.taken, taking.ended) == (False, False)
        await owner.leave(world.shard)
        assert (await other.take(world.shard, 2.0)).taken
        await owner.leave(world.shard)  # which isn't its own any more
        assert world.database.leases[world.shard].connection is not None
        assert not (await owner.take(world.shard, 2.0)).taken


async def test_who_renews_is_told_of_a_claim_that_came_after_its_own(world, autojump_clock):
    [registration] = world.stores[0].options.projections.asynchronous()
    async with world.stores[0].leases() as owner:
        await owner.take(world.shard, 2.0)
        mine = await world.stores[0].claim(registration.projection)
        assert await owner.renew({world.shard: mine.epoch}) == []
        await world.stores[1].claim(registration.projection)
        assert await owner.renew({world.shard: mine.epoch}) == [world.shard]
        assert await owner.renew({world.shard: 0}) == []


async def test_a_commit_that_hangs_is_ended_by_who_takes_over(world, autojump_clock):
    hangs = trio.Event()

    async def pause(step):
        if step == "before commit" and any(
            each.commits for each in world.database.open_transactions()
        ):
            hangs.set()
            await trio.sleep(1_000)
        await trio.lowlevel.checkpoint()

    [registration] = world.stores[1].options.projections.asynchronous()
    projection, stuck = registration.projection, MemoryStore(database=world.database, pause=pause)
    claim = await stuck.claim(projection)

    async def commit():
        unit = stuck.projection_session()
        with pytest.raises(DatabaseUnavailableError):
            await stuck.commit_batch(unit, shard=world.shard, floor=0, ceiling=0, claim=claim)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(commit)
        await hangs.wait()
        assert await world.stores[1].end_commits(projection) == 1
        with trio.fail_after(10):
            claimed = await world.stores[1].claim(projection)
    assert (claimed.epoch, claimed.started) == (2, False)
    assert await world.stores[1].end_commits(projection) == 0
