"""Shards are started and stopped, together or one by one."""

from uuid import UUID, uuid4

import attrs
import pytest
import trio

from flowstore.errors import DatabaseError, UnknownProjectionError
from flowstore.projections import Lifecycle


@attrs.frozen
class Counted:
    by: int = 1


@attrs.define
class Total:
    id: UUID
    number: int = 0

    def apply(self, counted: Counted) -> None:
        self.number += counted.by


@attrs.define
class Inline:
    id: UUID

    def apply(self, counted: Counted) -> None:
        pass


@pytest.fixture
def options(options):
    options.projections.aggregate_streams_with(Total)
    options.projections.aggregate_streams_with(Inline, lifecycle=Lifecycle.INLINE)
    return options


async def append(store, stream_id, *events):
    async with store.session() as session:
        session.events.append(stream_id, *events)
        await session.save_changes()


def states(daemon):
    return {status.name: status.state for status in daemon.statuses()}


async def test_nothing_runs_before_it_is_started(store, recorder):
    stream_id = uuid4()
    await append(store, stream_id, Counted())
    async with store.build_projection_daemon() as daemon:
        assert states(daemon) == {"Total": "stopped", "recorder": "stopped"}
        assert all("not started" in status.reason for status in daemon.statuses())
    assert await store.session().load(Total, stream_id) is None


async def test_shards_run_once_start_all_returns(store, recorder):
    async with store.build_projection_daemon() as daemon:
        await daemon.start_all()
        assert states(daemon) == {"Total": "running", "recorder": "running"}


async def test_documents_follow_what_is_appended_before_and_after_the_start(store):
    stream_id = uuid4()
    await append(store, stream_id, Counted(1))
    async with store.build_projection_daemon() as daemon:
        await daemon.start_all()
        await append(store, stream_id, Counted(2))
        await daemon.wait_for_non_stale_results()
        assert await store.session().load(Total, stream_id) == Total(stream_id, 3)


@pytest.mark.parametrize("name_or_type", ["Total", Total])
async def test_one_shard_is_started_and_stopped_by_name_or_type(store, recorder, name_or_type):
    async with store.build_projection_daemon() as daemon:
        await daemon.start(name_or_type)
        assert states(daemon) == {"Total": "running", "recorder": "stopped"}
        await daemon.start("recorder")
        await daemon.stop(name_or_type)
        assert states(daemon) == {"Total": "stopped", "recorder": "running"}


async def test_a_projection_is_found_by_its_class_or_itself(store, recorder):
    async with store.build_projection_daemon() as daemon:
        await daemon.start(type(recorder))
        await daemon.stop(recorder)
        assert states(daemon)["recorder"] == "stopped"


async def test_starting_and_stopping_twice_is_no_error(store, recorder):
    async with store.build_projection_daemon() as daemon:
        for _ in range(2):
            await daemon.start_all()
            await daemon.start(Total)
        for _ in range(2):
            await daemon.stop(Total)
            await daemon.stop_all()
        assert set(states(daemon).values()) == {"stopped"}


async def test_starting_from_several_tasks_runs_one_shard(store, recorder, table):
    await append(store, uuid4(), *[Counted()] * 3)
    async with store.build_projection_daemon() as daemon:
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(daemon.start_all)
        await daemon.wait_for_non_stale_results()
        assert states(daemon) == {"Total": "running", "recorder": "running"}
    assert recorder.calls == [[1, 2, 3]]
    assert await table.sequences(store) == [1, 2, 3]


async def test_a_stopped_shard_goes_on_where_it_was(store, recorder, table):
    async with store.build_projection_daemon() as daemon:
        for _ in range(3):
            await daemon.start_all()
            await append(store, uuid4(), Counted(), Counted())
            await daemon.wait_for_non_stale_results()
            await daemon.stop_all()
    assert await table.sequences(store) == [1, 2, 3, 4, 5, 6]


async def test_leaving_the_daemon_stops_what_runs(store, recorder):
    async with store.build_projection_daemon() as daemon:
        await daemon.start_all()
    assert set(states(daemon).values()) == {"stopped"}
    await append(store, uuid4(), Counted())
    async with store.build_projection_daemon() as daemon:
        assert {status.progress for status in daemon.statuses()} == {0}


@pytest.mark.parametrize("verb", ["start", "stop", "rebuild"])
@pytest.mark.parametrize("name", ["Totel", Counted])
async def test_an_unknown_name_is_an_error_that_lists_the_known(store, verb, name):
    async with store.build_projection_daemon() as daemon:
        with pytest.raises(UnknownProjectionError, match="'Total'"):
            await getattr(daemon, verb)(name)
        with pytest.raises(UnknownProjectionError):
            await daemon.wait_for(name, 1)
        with pytest.raises(UnknownProjectionError):
            await daemon.rewind(name, 0)


async def test_an_inline_projection_is_none_of_the_daemons(store):
    async with store.build_projection_daemon() as daemon:
        assert set(states(daemon)) == {"Total"}
        with pytest.raises(UnknownProjectionError, match=r"Inline.*inline.*'Total'"):
            await daemon.start(Inline)


async def test_a_store_without_projections_has_a_daemon_with_nothing_to_do(opening):
    async with opening() as store, store.build_projection_daemon() as daemon:
        await daemon.start_all()
        await daemon.wait_for_non_stale_results()
        await daemon.rebuild_all()
        await daemon.catch_up()
        assert daemon.statuses() == []


async def test_statuses_tell_progress_mark_and_lag(store, until):
    await append(store, uuid4(), *[Counted()] * 3)
    async with store.build_projection_daemon() as daemon:
        await daemon.start_all()
        status = await until(daemon, lambda status: status.progress == 3)
        assert (status.name, status.state, status.error) == ("Total", "running", None)
        assert (status.high_water_mark, status.lag, status.reason) == (3, 0, "")
        assert daemon.high_water_mark == 3


async def test_the_mark_of_an_empty_store_is_0(store):
    async with store.build_projection_daemon() as daemon:
        await daemon.start_all()
        await daemon.wait_for_non_stale_results()
        assert daemon.high_water_mark == 0


async def test_a_shard_that_never_ran_here_tells_the_progress_of_others(store):
    await append(store, uuid4(), Counted())
    async with store.build_projection_daemon() as daemon:
        await daemon.catch_up()
    async with store.build_projection_daemon() as daemon:
        (status,) = daemon.statuses()
        assert (status.state, status.progress) == ("stopped", 1)


async def test_an_error_of_the_body_leaves_as_it_is_and_stops_the_shards(store):
    daemons = []

    async def fail_inside():
        async with store.build_projection_daemon() as daemon:
            daemons.append(daemon)
            await daemon.start_all()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail_inside()
    assert states(*daemons) == {"Total": "stopped"}


async def test_a_daemon_that_can_not_read_progress_fails_with_a_single_error(store, schema):
    async with store.connection() as connection:
        await connection.execute(f"alter table {schema}.progress rename to elsewhere")
    with pytest.raises(DatabaseError, match="progress"):
        async with store.build_projection_daemon():
            pass
