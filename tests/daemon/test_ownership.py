"""Two daemons on one store: the floor lets one of them win, and nothing happens twice."""

from contextlib import aclosing
from uuid import uuid4

import attrs
import pytest
import trio

from flowstore.blocks import run
from flowstore.daemon import event_source, group_by_stream, projection_sink
from flowstore.errors import ProgressConflictError
from flowstore.projections import AsyncOptions


@attrs.frozen
class Counted:
    by: int = 1


async def append(store, count=1):
    async with store.session() as session:
        session.events.append(uuid4(), *[Counted()] * count)
        await session.save_changes()


class Barrier:
    """Lets two through together, once."""

    def __init__(self):
        self.waiting = 0
        self.full = trio.Event()

    async def __call__(self, _):
        self.waiting += 1
        if self.waiting == 2:
            self.full.set()
        await self.full.wait()


async def first_that_fails(*daemons):
    """Wait for a failed shard in any of the daemons."""
    found = []

    async def watch(daemon):
        async with aclosing(daemon.watch()) as statuses:
            async for status in statuses:
                if status.state == "failed":
                    found.append(status)
                    nursery.cancel_scope.cancel()

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            for daemon in daemons:
                nursery.start_soon(watch, daemon)
    return found[0]


async def test_of_two_daemons_the_loser_stops_and_nothing_is_doubled(
    opening, store, make_recorder, table
):
    barrier = Barrier()
    async with opening() as other:
        for each in (store, other):
            each.options.events.add_types(Counted)
            recorder = make_recorder(before=barrier, async_options=AsyncOptions(page_size=2))
            each.options.projections.add(recorder)
        await append(store, 7)
        async with (
            store.build_projection_daemon() as one,
            other.build_projection_daemon() as two,
        ):
            await one.start_all()
            await two.start_all()
            with trio.fail_after(60):
                await barrier.full.wait()
            with trio.fail_after(60):
                await one.wait_for("recorder", 7)
            loser = await first_that_fails(one, two)
            assert isinstance(loser.error, ProgressConflictError)
            assert (loser.error.shard, loser.error.expected) == ("recorder", 0)
            await append(store, 3)
            with trio.fail_after(60):
                await one.wait_for("recorder", 10)
    assert await table.sequences(store) == list(range(1, 11))
    assert await store.dead_letters() == []


async def test_a_loser_that_is_started_again_goes_on_from_the_winners_progress(
    store, recorder, table, until
):
    await append(store, 2)
    async with (
        store.build_projection_daemon() as one,
        store.build_projection_daemon() as two,
    ):
        await one.start_all()
        await one.wait_for("recorder", 2)
        await two.start_all()
        await one.stop_all()
        await append(store, 2)
        await two.wait_for("recorder", 4)
    assert await table.sequences(store) == [1, 2, 3, 4]


async def test_a_rebuild_elsewhere_stops_the_shard_here(store, recorder, table, until):
    await append(store, 3)
    async with (
        store.build_projection_daemon() as here,
        store.build_projection_daemon() as elsewhere,
    ):
        await here.start_all()
        await here.wait_for("recorder", 3)
        await elsewhere.rebuild("recorder")
        await here.rewind("recorder", 3)
        await elsewhere.rewind("recorder", 1)
        await append(store, 1)
        status = await until(here, lambda status: status.state == "failed")
        assert isinstance(status.error, ProgressConflictError)
        assert (status.error.expected, status.error.found) == (3, 1)
    assert await table.sequences(store) == [1, 2, 3]


async def test_a_sink_refuses_batches_that_do_not_continue_its_progress(store, recorder, table):
    await append(store, 3)

    def replay():
        source = event_source(store, follow=False)
        return run(source, group_by_stream(), projection_sink(store, recorder))

    await replay()
    with pytest.raises(ExceptionGroup) as caught:
        await replay()
    (error,) = caught.value.exceptions
    assert isinstance(error, ProgressConflictError)
    assert (error.expected, error.found) == (0, 3)
    assert await table.sequences(store) == [1, 2, 3]


async def test_of_two_daemons_the_earlier_one_stops_when_it_would_commit(
    store, recorder, table, until
):
    async with (
        store.build_projection_daemon() as earlier,
        store.build_projection_daemon() as later,
    ):
        await earlier.start_all()
        await append(store, 2)
        await earlier.wait_for("recorder", 2)
        await later.start_all()
        await append(store, 5)
        status = await until(earlier, lambda status: status.state == "failed")
        assert isinstance(status.error, ProgressConflictError)
        assert "ProgressConflictError" in status.reason
        with trio.fail_after(60):
            await later.wait_for("recorder", 7)
        assert later.statuses()[0].state == "running"
    assert await table.sequences(store) == list(range(1, 8))


async def test_a_rewind_elsewhere_to_the_very_same_place_stops_the_shard_here(
    store, recorder, table, until
):
    await append(store, 3)
    async with (
        store.build_projection_daemon() as here,
        store.build_projection_daemon() as elsewhere,
    ):
        await here.start_all()
        await here.wait_for("recorder", 3)
        await elsewhere.rewind("recorder", 3)
        await append(store, 1)
        status = await until(here, lambda status: status.state == "failed")
        assert isinstance(status.error, ProgressConflictError)
        assert await table.sequences(store) == [1, 2, 3]
        await here.start("recorder")
        with trio.fail_after(60):
            await here.wait_for("recorder", 4)
    assert await table.sequences(store) == [1, 2, 3, 4]


async def test_a_rebuild_elsewhere_that_ends_where_the_shard_stands_stops_it(
    store, recorder, table, until
):
    await append(store, 3)
    async with (
        store.build_projection_daemon() as here,
        store.build_projection_daemon() as elsewhere,
    ):
        await here.start_all()
        await here.wait_for("recorder", 3)
        await elsewhere.rebuild("recorder")
        await append(store, 1)
        status = await until(here, lambda status: status.state == "failed")
        assert isinstance(status.error, ProgressConflictError)
    assert await table.sequences(store) == [1, 2, 3]


async def test_catching_up_to_where_a_shard_stands_leaves_its_owner_alone(store, recorder, table):
    await append(store, 3)
    async with (
        store.build_projection_daemon() as here,
        store.build_projection_daemon() as elsewhere,
    ):
        await here.start_all()
        await here.wait_for("recorder", 3)
        await elsewhere.catch_up()
        await append(store, 1)
        with trio.fail_after(60):
            await here.wait_for("recorder", 4)
        assert here.statuses()[0].state == "running"
    assert await table.sequences(store) == [1, 2, 3, 4]


async def test_what_another_owner_committed_is_not_taken_for_this_ones_commit(
    store, recorder, table, until
):
    """The page fails here, after another owner has brought the shard to the page's end."""

    async def overtake(events):
        claim = await store.claim(recorder)
        unit = store.projection_session()
        await store.commit_batch(unit, shard="recorder", floor=0, ceiling=1, claim=claim)

    recorder.before = overtake
    recorder.fails = bool
    async with store.build_projection_daemon() as daemon:
        await daemon.start_all()
        await append(store, 1)
        status = await until(daemon, lambda status: status.state == "failed")
        assert isinstance(status.error, ProgressConflictError)
    assert await store.dead_letters() == []
