"""Stopping finishes the pages in hand, or rolls them back."""

from uuid import uuid4

import attrs
import pytest
import trio

from flowstore.daemon import DaemonSettings
from flowstore.projections import AsyncOptions

PATIENCE = 60
"""Seconds, on however busy a machine."""


@attrs.frozen
class Counted:
    by: int = 1


async def append(store, count=1):
    async with store.session() as session:
        session.events.append(uuid4(), *[Counted()] * count)
        await session.save_changes()


@attrs.define
class Gate:
    """Stands in a recorder's way."""

    entered: trio.Event = attrs.field(factory=trio.Event)
    opened: trio.Event = attrs.field(factory=trio.Event)

    async def __call__(self, _):
        self.entered.set()
        await self.opened.wait()


@pytest.fixture
def gate(recorder):
    recorder.before = gate = Gate()
    return gate


async def test_a_stop_finishes_the_page_in_hand(store, gate, table):
    await append(store, 3)
    async with store.build_projection_daemon() as daemon:
        await daemon.start_all()
        await gate.entered.wait()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(daemon.stop_all)
            await trio.testing.wait_all_tasks_blocked()
            assert daemon.statuses()[0].state == "running"
            gate.opened.set()
        (status,) = daemon.statuses()
        assert (status.state, status.progress) == ("stopped", 3)
    assert await table.sequences(store) == [1, 2, 3]


async def test_a_page_that_takes_too_long_is_rolled_back(store, recorder, gate, table):
    await append(store, 3)
    settings = DaemonSettings(stop_and_drain_timeout=0.05)
    async with store.build_projection_daemon(settings) as daemon:
        await daemon.start_all()
        await gate.entered.wait()
        with trio.fail_after(PATIENCE):
            await daemon.stop_all()
        (status,) = daemon.statuses()
        assert (status.state, status.progress, status.error) == ("stopped", 0, None)
        assert await table.sequences(store) == []
        recorder.before = None
        await daemon.start_all()
        await daemon.wait_for_non_stale_results()
    assert await table.sequences(store) == [1, 2, 3]


async def test_a_timeout_of_0_rolls_back_at_once(store, gate, table):
    await append(store, 3)
    settings = DaemonSettings(stop_and_drain_timeout=0)
    async with store.build_projection_daemon(settings) as daemon:
        await daemon.start_all()
        await gate.entered.wait()
        with trio.fail_after(PATIENCE):
            await daemon.stop("recorder")
    assert await table.sequences(store) == []


async def test_leaving_the_daemon_waits_no_longer_than_the_timeout(store, gate):
    await append(store, 3)
    settings = DaemonSettings(stop_and_drain_timeout=0.05)
    with trio.fail_after(PATIENCE):
        async with store.build_projection_daemon(settings) as daemon:
            await daemon.start_all()
            await gate.entered.wait()


async def test_cancellation_rolls_the_page_back(store, recorder, gate, table):
    recorder.async_options = AsyncOptions(page_size=2)
    await append(store, 5)
    with trio.CancelScope() as scope:
        async with store.build_projection_daemon() as daemon:
            await daemon.start_all()
            await gate.entered.wait()
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert await table.sequences(store) == []
    assert await store.progress(recorder) == 0
    gate.opened.set()
    async with store.build_projection_daemon() as daemon:
        await daemon.catch_up()
    assert await table.sequences(store) == [1, 2, 3, 4, 5]


async def test_cancellation_in_the_middle_of_a_commit_keeps_all_or_nothing(
    store, recorder, table, schema
):
    """The commit waits for a row of progress that another transaction has locked."""
    await append(store, 1)
    async with store.build_projection_daemon() as daemon:
        await daemon.catch_up()
    await append(store, 2)
    blocked = "select from pg_stat_activity where %s = any (pg_blocking_pids(pid))"

    async def cancel_once_it_waits():
        async with store.connection() as looker:
            while not (await looker.execute(blocked, (holder,))).rowcount:  # noqa: ASYNC110 - only the server knows
                await trio.sleep(0.01)
        nursery.cancel_scope.cancel()

    with trio.fail_after(PATIENCE):
        async with store.connection() as connection, connection.transaction():
            await connection.execute(f"select from {schema}.progress for update")
            holder = connection.info.backend_pid
            async with trio.open_nursery() as nursery:
                nursery.start_soon(cancel_once_it_waits)
                async with store.build_projection_daemon() as daemon:
                    await daemon.start_all()
                    await daemon.wait_for_non_stale_results()
    assert await store.progress(recorder) == 1
    async with store.build_projection_daemon() as daemon:
        await daemon.catch_up()
    assert await table.sequences(store) == [1, 2, 3]


async def test_a_stop_does_not_wait_for_appends(store, recorder):
    async with store.build_projection_daemon() as daemon:
        await daemon.start_all()
        with trio.fail_after(PATIENCE):
            await daemon.stop_all()


async def test_a_shard_that_is_only_starting_is_stopped_at_once(store, recorder, schema):
    """It waits for the table that its progress is in."""
    async with store.build_projection_daemon() as daemon:
        async with (
            store.connection() as connection,
            connection.transaction(),
            trio.open_nursery() as nursery,
        ):
            await connection.execute(f"lock table {schema}.progress in access exclusive mode")
            nursery.start_soon(daemon.start_all)
            await trio.testing.wait_all_tasks_blocked(0.02)
            assert daemon.statuses()[0].state == "starting"
            with trio.fail_after(PATIENCE):
                await daemon.stop_all()
            assert daemon.statuses()[0].state == "stopped"
        await daemon.start_all()
        assert daemon.statuses()[0].state == "running"


async def test_stopping_one_shard_leaves_the_others_running(store, recorder, make_recorder, table):
    store.options.projections.add(make_recorder(name="other"))
    async with store.build_projection_daemon() as daemon:
        await daemon.start_all()
        await daemon.stop("recorder")
        await append(store, 2)
        await daemon.wait_for("other", 2)
    assert await table.sequences(store) == []
    assert await table.sequences(store, "other") == [1, 2]


async def end(store, kind):
    async with store.build_projection_daemon() as daemon:
        await daemon.start_all()
        raise kind


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
async def test_a_programs_end_leaves_the_daemon_in_no_group(store, kind):
    with pytest.raises(kind):
        await end(store, kind)
