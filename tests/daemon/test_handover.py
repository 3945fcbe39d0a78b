"""A daemon takes what its own store has just appended, where nothing can be hidden below it."""

import logging
from contextlib import aclosing
from functools import partial
from uuid import UUID, uuid4

import attrs
import pytest
import trio

from flowstore.daemon import DaemonSettings, Store, open_store
from flowstore.daemon._mark import Detector
from flowstore.daemon._sharing import SharedPages
from flowstore.postgres import Connection
from flowstore.store import open_event_store

STILL = DaemonSettings(fast_polling_time=3600, slow_polling_time=3600)
"""Nobody looks for having waited, while a test lasts."""


@attrs.frozen
class Counted:
    by: int = 1


@attrs.frozen
class Other:
    pass


@attrs.define
class Total:
    id: UUID
    total: int = 0

    def apply(self, counted: Counted) -> None:
        self.total += counted.by


@pytest.fixture
def options(options):
    options.events.add_types(Counted, Other)
    options.projections.aggregate_streams_with(Total)
    return options


class Blind(Store):
    """Looks once, and never again after that."""

    looked = trio.Event()

    async def _only_once(self, look):
        if type(self).looked.is_set():
            await trio.sleep_forever()
        found = await look()
        type(self).looked.set()
        return found

    async def look(self, floor, **how):
        return await self._only_once(partial(super().look, floor, **how))

    async def high_water(self, **how):
        return await self._only_once(partial(super().high_water, **how))


async def append(store, *events, stream_id=None):
    async with store.session() as session:
        action = session.events.append(stream_id or uuid4(), *(events or [Counted()]))
        await session.save_changes()
    return action.events[-1].sequence


@pytest.fixture
async def blind(pg_dsn, options, monkeypatch):
    """A store that is looked at once: when the daemon begins."""
    monkeypatch.setattr(Blind, "looked", trio.Event())
    async with open_event_store(pg_dsn, options, cls=Blind) as opened:
        yield opened


async def begun(daemon):
    """Start all, and wait until the first look is over."""
    await daemon.start_all()
    with trio.fail_after(20):
        await Blind.looked.wait()


async def test_a_single_append_arrives_without_a_look(blind):
    stream_id = uuid4()
    async with blind.build_projection_daemon(STILL) as daemon:
        await begun(daemon)
        for number in range(1, 6):
            assert await append(blind, stream_id=stream_id) == number
            with trio.fail_after(20):
                await daemon.wait_for("Total", number)
        assert daemon.high_water_mark == 5
    async with blind.session() as session:
        assert (await session.load(Total, stream_id)).total == 5


async def test_so_does_one_that_the_projection_passes_over(blind):
    async with blind.build_projection_daemon(STILL) as daemon:
        await begun(daemon)
        await append(blind, Other())
        with trio.fail_after(20):
            await daemon.wait_for("Total", 1)
        await append(blind)
        with trio.fail_after(20):
            await daemon.wait_for("Total", 2)


@pytest.mark.parametrize("outcome", ["commit", "rollback"])
async def test_behind_a_number_that_somebody_else_has_it_waits_for_a_look(pg_dsn, options, outcome):
    """Whether that one is open, committed or rolled back the database alone can tell."""
    insert = "insert into {}.events (stream_id, version, type, data) values (%s, 1, 'counted', '{{\"by\": 5}}')"
    async with (
        open_store(pg_dsn, options) as store,
        await Connection.connect(pg_dsn, autocommit=False) as other,
        store.build_projection_daemon() as daemon,
    ):
        await daemon.start_all()
        await append(store)
        with trio.fail_after(20):
            await daemon.wait_for("Total", 1)
        stranger = uuid4()
        await other.execute(insert.format(f'"{options.schema}"').encode(), (stranger,))
        assert await append(store) == 3
        with trio.move_on_after(0.1):
            await daemon.wait_for("Total", 2)
        assert daemon.high_water_mark == 1
        await getattr(other, outcome)()
        with trio.fail_after(20):
            await daemon.wait_for("Total", 3)
        async with store.session() as session:
            found = await session.load(Total, stranger)
        assert (found and found.total) == (5 if outcome == "commit" else None)


async def test_appends_of_another_store_in_between_arrive_all_and_in_order(
    pg_dsn, options, make_recorder, table
):
    options.projections.add(make_recorder())
    async with (
        open_store(pg_dsn, options) as store,
        open_store(pg_dsn, options) as other,
        store.build_projection_daemon() as daemon,
    ):
        await table.create(store)
        await daemon.start_all()

        async def write(to):
            for _ in range(40):
                await append(to)

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                for to in (store, store, other):
                    nursery.start_soon(write, to)
            await daemon.wait_for("recorder", 120)
        assert await table.sequences(store) == list(range(1, 121))


async def test_with_a_leading_edge_nothing_is_handed_over(store):
    settings = DaemonSettings(leading_edge_buffer=60)
    async with store.build_projection_daemon(settings) as daemon:
        await daemon.start_all()
        assert not store._engine.handovers.are_wanted
        await append(store)
        with trio.move_on_after(0.2):
            await daemon.wait_for("Total", 1)
        assert daemon.high_water_mark == 0


async def test_after_the_daemon_nothing_is_handed_over(store):
    async with store.build_projection_daemon() as daemon:
        await daemon.start_all()
        await append(store)
        with trio.fail_after(20):
            await daemon.wait_for("Total", 1)
        assert store._engine.handovers.are_wanted
    assert not store._engine.handovers.are_wanted


async def test_a_shard_that_begins_takes_nothing_from_before(store):
    """It may have stood before an event that was amended until it was started again."""
    pages = SharedPages(store, 2**20, trio.CapacityLimiter(1))
    (registration,) = store.options.projections.asynchronous()
    with pages.handing():
        await append(store)
        with pages.reading(registration.projection, 0, None):
            assert pages.take_handed(0) == 0
            await append(store)
            await append(store)
            assert pages.take_handed(1) == 3


async def test_whatever_is_wrong_with_what_was_handed_over_a_look_is_asked(store):
    def torn():
        raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid")

    pages = SharedPages(store, 2**20, trio.CapacityLimiter(1))
    with pages.handing():
        store._engine.handovers.put(1, 10, torn)
        assert pages.take_handed(0) == 0
        assert pages.take_handed(0) == 0


async def test_a_detector_by_itself_has_nothing_handed_over(store):
    detector = Detector(store, STILL, logging.getLogger())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(detector.run)
        await append(store)
        with trio.fail_after(20):
            assert await detector.above(0) == 1
        assert not store._engine.handovers.are_wanted
        nursery.cancel_scope.cancel()


async def test_whoever_watches_sees_no_place_twice_and_none_left_out(store):
    async with store.build_projection_daemon() as daemon, aclosing(daemon.watch()) as statuses:
        await daemon.start_all()
        seen = []
        with trio.fail_after(30):
            for number in range(1, 21):
                await append(store)
                async for status in statuses:
                    seen.append(status.progress)
                    if status.progress >= number:
                        break
    assert seen == sorted(seen)
    assert seen[-1] == 20
