"""Of the daemons that share a store one runs a shard, and the others stand by to take it over."""

from contextlib import AsyncExitStack, asynccontextmanager
from uuid import uuid4

import attrs
import psycopg
import pytest
import trio
from psycopg import sql

from flowstore.daemon import DaemonSettings
from flowstore.postgres import Connection

HOT_COLD = DaemonSettings(mode="hot_cold", lease_time=2.0)
SOON = 60
"""Seconds in which another daemon has taken over, on however busy a machine."""


@attrs.frozen
class Counted:
    by: int = 1


async def append(store, count=1):
    async with store.session() as session:
        session.events.append(uuid4(), *[Counted()] * count)
        await session.save_changes()


def status(daemon, name="recorder"):
    return next(each for each in daemon.statuses() if each.name == name)


@asynccontextmanager
async def pair(store):
    """Two daemons that were started one after the other: a hot one and a cold one."""
    async with AsyncExitStack() as stack:
        hot, cold = [
            await stack.enter_async_context(store.build_projection_daemon(HOT_COLD))
            for _ in range(2)
        ]
        with trio.fail_after(60):
            await hot.start_all()
            await cold.start_all()
        yield hot, cold


async def until_running(daemon, until, seconds=SOON, name="recorder"):
    with trio.fail_after(seconds):
        await until(daemon, lambda each: each.name == name and each.state == "running")


@pytest.fixture
async def end_owner(store, schema):
    """End the backend that holds a shard's lease; gives its pid."""

    ended = set()

    async def end(shard="recorder"):
        query = sql.SQL("select pg_terminate_backend(pid), pid from {} where shard = %s").format(
            sql.Identifier(schema, "shard_owners")
        )
        with trio.fail_after(60):
            async with store.connection() as connection:
                while True:
                    cursor = await connection.execute(query, (shard,))
                    for was_there, pid in await cursor.fetchall():
                        if was_there and pid not in ended:
                            ended.add(pid)
                            return pid
                    await trio.sleep(0.05)  # until somebody has taken the lease again

    return end


async def test_one_of_two_daemons_runs_a_shard_and_the_other_says_so(store, recorder, table):
    async with pair(store) as (hot, cold):
        await append(store, 3)
        with trio.fail_after(60):
            await hot.wait_for("recorder", 3)
        assert status(hot).state == "running"
        assert (status(cold).state, status(cold).error) == ("starting", None)
        assert status(cold).reason.startswith("another process runs it: pid ")
        assert "application 'flowstore daemon" in status(cold).reason
    assert recorder.calls == [[1, 2, 3]]
    assert await table.sequences(store) == [1, 2, 3]


async def test_results_are_waited_for_from_a_cold_daemon(store, recorder):
    async with pair(store) as (_, cold):
        await append(store, 3)
        await cold.wait_for_non_stale_results(timeout=60)
        with trio.fail_after(60):
            await cold.wait_for("recorder", 3)
        assert status(cold).state == "starting"
        assert status(cold).progress == 3


async def test_a_cold_daemon_shows_how_far_the_hot_one_is(store, recorder, until):
    async with pair(store) as (_, cold):
        await append(store, 3)
        await until(cold, lambda each: each.progress == 3)


@pytest.mark.parametrize("way", ["stop", "stop_all"])
async def test_a_shard_that_is_stopped_is_taken_over(store, recorder, table, until, way):
    async with pair(store) as (hot, cold):
        await append(store, 2)
        await cold.wait_for_non_stale_results(timeout=60)
        await (hot.stop("recorder") if way == "stop" else hot.stop_all())
        await until_running(cold, until)
        assert status(hot).state == "stopped"
        await append(store, 2)
        await hot.wait_for_non_stale_results(timeout=60)
    assert await table.sequences(store) == [1, 2, 3, 4]


async def test_a_daemon_that_is_left_is_followed(store, recorder, table, until):
    async with store.build_projection_daemon(HOT_COLD) as cold:
        async with store.build_projection_daemon(HOT_COLD) as hot:
            await hot.start_all()
            await cold.start_all()
            assert status(cold).state == "starting"
        await until_running(cold, until)
        await append(store, 2)
        await cold.wait_for_non_stale_results(timeout=60)
    assert await table.sequences(store) == [1, 2]


async def test_a_cold_shard_is_stopped_at_once(store, recorder, until):
    async with pair(store) as (hot, cold):
        with trio.fail_after(SOON):
            await cold.stop("recorder")
        assert status(cold).state == "stopped"
        await hot.stop_all()
        with trio.fail_after(SOON):
            await cold.start("recorder")
        await until_running(cold, until)


async def test_each_shard_has_an_owner_of_its_own(store, recorder, make_recorder, table, until):
    store.options.projections.add(make_recorder(name="other"))
    async with pair(store) as (hot, cold):
        await hot.stop("other")
        await until_running(cold, until, name="other")
        assert status(hot).state == "running"
        assert status(cold).state == "starting"
        await append(store, 3)
        await hot.wait_for_non_stale_results(timeout=60)
    assert await table.sequences(store) == [1, 2, 3]
    assert await table.sequences(store, "other") == [1, 2, 3]


async def test_stores_in_two_schemas_do_not_stand_in_each_others_way(
    store, recorder, opening, fresh_names, admin, make_recorder, table
):
    other_schema = next(fresh_names)
    try:
        async with opening(schema=other_schema) as other:
            other.options.projections.add(make_recorder())
            async with (
                store.build_projection_daemon(HOT_COLD) as one,
                other.build_projection_daemon(HOT_COLD) as two,
            ):
                await one.start_all()
                await two.start_all()
                assert (status(one).state, status(two).state) == ("running", "running")
    finally:
        admin.execute(sql.SQL("drop schema {} cascade").format(sql.Identifier(other_schema)))


async def test_a_lost_lease_connection_stops_the_shard_until_it_has_a_lease_again(
    store, recorder, table, until, end_owner
):
    entered, cancelled = trio.Event(), trio.Event()

    async def hang_once(_):
        if not entered.is_set():
            entered.set()
            try:
                await trio.sleep_forever()
            finally:
                cancelled.set()

    recorder.before = hang_once
    async with store.build_projection_daemon(HOT_COLD) as daemon:
        await daemon.start_all()
        await append(store, 2)
        with trio.fail_after(60):
            await entered.wait()
        before = await end_owner()
        with trio.fail_after(SOON):
            await cancelled.wait()
        await daemon.wait_for_non_stale_results(timeout=60)
        assert status(daemon).state == "running"
        assert await end_owner() != before
    assert await table.sequences(store) == [1, 2]


async def test_a_lost_lease_connection_lets_another_daemon_take_over(
    store, recorder, table, until, end_owner
):
    async with pair(store) as daemons:
        for count in range(1, 4):
            await end_owner()
            await append(store, 2)
            with trio.fail_after(60):
                await daemons[0].wait_for("recorder", 2 * count)
        with trio.fail_after(60):
            while sorted(status(each).state for each in daemons) != ["running", "starting"]:  # noqa: ASYNC110 - states of two daemons
                await trio.sleep(0.05)
    assert await table.sequences(store) == [1, 2, 3, 4, 5, 6]
    assert await store.dead_letters() == []


async def test_only_who_has_the_lease_is_ended_for_its_silence(
    store, recorder, schema, admin, pg_dsn, until
):
    """What is written of owners may be older than the last change of hands."""
    lock = f"({schema}.lock_space('shard'), hashtext('recorder'))"
    async with (
        store.build_projection_daemon(HOT_COLD) as daemon,
        await Connection.connect(pg_dsn) as holder,
        await Connection.connect(pg_dsn) as former,
    ):
        await holder.execute(f"select pg_advisory_lock{lock}")
        await former.execute(
            f"insert into {schema}.shard_owners select 'recorder', 1, pid, backend_start,"
            " application_name, now() - interval '1 hour' from pg_stat_activity"
            " where pid = pg_backend_pid()"
        )
        await daemon.start_all()
        assert status(daemon).reason == "another process runs it, and hasn't said which"
        await former.execute("select 1")
        await holder.execute(f"select pg_advisory_unlock{lock}")
        await until_running(daemon, until)
        await former.execute("select 1")


async def test_an_owner_is_ended_by_its_number_and_the_time_of_its_start(store, schema, pg_dsn):
    """Numbers of processes come again: somebody else may have that of one that was silent."""
    lock = f"({schema}.lock_space('shard'), hashtext('recorder'))"
    began = "(select backend_start from pg_stat_activity where pid = pg_backend_pid())"
    take = f"select taken, ended from {schema}.take_shard('recorder', 60)"

    async def taking():
        async with store.connection() as connection:
            return await (await connection.execute(take.encode())).fetchone()

    async with await Connection.connect(pg_dsn) as holder:
        await holder.execute(f"select pg_advisory_lock{lock}")
        await holder.execute(
            f"insert into {schema}.shard_owners select 'recorder', 1, pid,"
            " backend_start - interval '1 day', application_name, now() - interval '1 hour'"
            " from pg_stat_activity where pid = pg_backend_pid()"
        )
        assert await taking() == (False, False)
        await holder.execute(f"update {schema}.shard_owners set backend_start = {began}")
        assert await taking() == (False, True)
        with pytest.raises(psycopg.OperationalError):
            await holder.execute("select 1")


async def test_a_rewind_by_the_cold_daemon_reaches_an_idle_owner(store, recorder, table):
    async with pair(store) as (hot, cold):
        await append(store, 3)
        await cold.wait_for_non_stale_results(timeout=60)
        await cold.rewind("recorder", 1)
        with trio.fail_after(60):
            while await table.sequences(store) != [1, 2, 3, 2, 3]:  # noqa: ASYNC110 - of rows
                await trio.sleep(0.05)
        assert "failed" not in {status(hot).state, status(cold).state}


async def test_a_rebuild_by_the_cold_daemon_takes_the_shard_over(store, recorder, table):
    async with pair(store) as (hot, cold):
        await append(store, 3)
        await cold.wait_for_non_stale_results(timeout=60)
        with trio.fail_after(20):
            await cold.rebuild("recorder")
        await append(store, 2)
        await hot.wait_for_non_stale_results(timeout=60)
        assert "failed" not in {status(hot).state, status(cold).state}
    assert await table.sequences(store) == [1, 2, 3, 4, 5]


async def test_a_paused_shard_is_taken_over_by_nobody(store, recorder, table, until):
    async with pair(store) as (hot, cold):
        await hot.pause("recorder")
        assert status(hot).state == "paused"
        await append(store, 2)
        await trio.sleep(2.5)  # longer than the lease: silence would have ended it
        assert (status(hot).state, status(cold).state) == ("paused", "starting")
        assert await table.sequences(store) == []
        await hot.start("recorder")
        await cold.wait_for_non_stale_results(timeout=60)
    assert await table.sequences(store) == [1, 2]


async def test_a_shard_that_fails_is_tried_by_the_other_daemon(store, recorder, until):
    recorder.async_options = attrs.evolve(recorder.async_options, on_error="stop")
    recorder.fails = bool
    async with pair(store) as (hot, cold):
        await append(store, 1)
        await until(hot, lambda each: each.state == "failed")
        await until(cold, lambda each: each.state == "failed")
        assert "poison" in status(cold).reason
