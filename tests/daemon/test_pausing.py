"""Pausing, restarting, and stopping in the moment before a replay."""

from uuid import uuid4

import attrs
import pytest
import trio

from flowstore.daemon import DaemonSettings
from flowstore.errors import RebuildError
from flowstore.projections import AsyncOptions


@attrs.frozen
class Counted:
    by: int = 1


async def append(store, count=1):
    async with store.session() as session:
        session.events.append(uuid4(), *[Counted()] * count)
        await session.save_changes()


class Gate:
    def __init__(self):
        self.entered, self.opened = trio.Event(), trio.Event()

    async def __call__(self, _):
        self.entered.set()
        await self.opened.wait()


def state(daemon):
    (status,) = daemon.statuses()
    return status.state


async def test_a_paused_shard_stands_still_until_it_is_started(store, recorder, table):
    async with store.build_projection_daemon() as daemon:
        await daemon.start_all()
        await append(store, 2)
        await daemon.wait_for_non_stale_results(60)
        await daemon.pause("recorder")
        (status,) = daemon.statuses()
        assert (status.state, status.reason, status.error) == ("paused", "it was paused", None)
        await append(store, 2)
        await trio.testing.wait_all_tasks_blocked(0.1)
        assert await table.sequences(store) == [1, 2]
        await daemon.start("recorder")
        assert state(daemon) == "running"
        await daemon.wait_for_non_stale_results(60)
    assert await table.sequences(store) == [1, 2, 3, 4]


@pytest.mark.parametrize("verb", ["start_all", "restart"])
async def test_a_paused_shard_goes_on(store, recorder, table, verb):
    async with store.build_projection_daemon() as daemon:
        await daemon.start_all()
        await daemon.pause("recorder")
        await append(store, 2)
        await (daemon.start_all() if verb == "start_all" else daemon.restart("recorder"))
        await daemon.wait_for_non_stale_results(60)
    assert await table.sequences(store) == [1, 2]


async def test_pausing_finishes_the_page_in_hand(store, recorder, table):
    recorder.before = gate = Gate()
    async with store.build_projection_daemon() as daemon, trio.open_nursery() as nursery:
        await daemon.start_all()
        await append(store, 3)
        await gate.entered.wait()
        nursery.start_soon(daemon.pause, "recorder")
        await trio.testing.wait_all_tasks_blocked()
        assert state(daemon) == "running"
        gate.opened.set()
        with trio.fail_after(60):
            await daemon.pause("recorder")
        assert state(daemon) == "paused"
    assert await table.sequences(store) == [1, 2, 3]


async def test_pausing_rolls_a_page_back_that_takes_too_long(store, recorder, table):
    recorder.before = gate = Gate()
    settings = DaemonSettings(stop_and_drain_timeout=0.05)
    async with store.build_projection_daemon(settings) as daemon:
        await daemon.start_all()
        await append(store, 3)
        await gate.entered.wait()
        with trio.fail_after(60):
            await daemon.pause("recorder")
        assert state(daemon) == "paused"
        assert await table.sequences(store) == []
        gate.opened.set()
        await daemon.start("recorder")
        await daemon.wait_for_non_stale_results(60)
    assert await table.sequences(store) == [1, 2, 3]


async def test_pausing_what_does_not_run_changes_nothing(store, recorder):
    async with store.build_projection_daemon() as daemon:
        await daemon.pause("recorder")
        assert state(daemon) == "stopped"
        await daemon.start_all()
        for _ in range(2):
            await daemon.pause("recorder")
        assert state(daemon) == "paused"
        await daemon.stop_all()
        assert state(daemon) == "stopped"
        await daemon.pause("recorder")
        assert state(daemon) == "stopped"


async def test_a_paused_shard_is_left_paused_by_a_rebuild(store, recorder, table):
    await append(store, 2)
    async with store.build_projection_daemon() as daemon:
        await daemon.start_all()
        await daemon.wait_for_non_stale_results(60)
        await daemon.pause("recorder")
        await daemon.rebuild("recorder")
        assert state(daemon) == "paused"
        await append(store, 1)
        await daemon.start("recorder")
        await daemon.wait_for_non_stale_results(60)
    assert await table.sequences(store) == [1, 2, 3]


async def test_a_restart_begins_another_run(store, recorder, table):
    async with store.build_projection_daemon() as daemon:
        await daemon.restart("recorder")
        assert state(daemon) == "running"
        await append(store, 1)
        await daemon.wait_for_non_stale_results(60)
        first = await store.claim(recorder)  # as another owner would
        await daemon.restart("recorder")
        assert (await store.standing(recorder)).epoch == first.epoch + 1
        await append(store, 1)
        await daemon.wait_for_non_stale_results(60)
    assert await table.sequences(store) == [1, 2]


async def test_a_failed_shard_is_restarted(store, recorder, table, until):
    recorder.async_options = AsyncOptions(on_error="stop")
    recorder.fails = bool
    async with store.build_projection_daemon() as daemon:
        await daemon.start_all()
        await append(store, 1)
        await until(daemon, lambda status: status.state == "failed")
        recorder.fails = lambda event: False
        await daemon.restart("recorder")
        await daemon.wait_for_non_stale_results(60)
        assert daemon.statuses()[0].error is None
    assert await table.sequences(store) == [1]


@pytest.fixture
def stopping_before_the_replay(store, monkeypatch):
    """Have a verb called in the moment between a shard's standing aside and its replay."""

    def have(verb):
        real = type(store).highest_sequence

        async def highest_sequence(self):
            found = await real(self)
            await verb()
            return found

        monkeypatch.setattr(type(store), "highest_sequence", highest_sequence)

    return have


@pytest.mark.parametrize("way", ["stop", "stop_all"])
async def test_a_stop_in_the_moment_before_a_replay_holds(
    store, recorder, table, stopping_before_the_replay, way
):
    await append(store, 3)
    async with store.build_projection_daemon() as daemon:
        await daemon.start_all()
        await daemon.wait_for_non_stale_results(60)

        async def stop():
            await (daemon.stop("recorder") if way == "stop" else daemon.stop_all())

        stopping_before_the_replay(stop)
        with pytest.raises(RebuildError, match="stopped"):
            await daemon.rebuild("recorder")
        assert state(daemon) == "stopped"
    assert await table.sequences(store) == [1, 2, 3]


async def test_a_stop_while_a_shard_is_rewound_holds(store, recorder, monkeypatch):
    await append(store, 3)
    async with store.build_projection_daemon() as daemon:
        await daemon.start_all()
        real = type(store).rewind

        async def rewind(self, *arguments):
            await real(self, *arguments)
            await daemon.stop_all()

        monkeypatch.setattr(type(store), "rewind", rewind)
        await daemon.rewind("recorder", 0)
        assert state(daemon) == "stopped"
