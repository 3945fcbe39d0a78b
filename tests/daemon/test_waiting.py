"""Waiting until projections have applied what was visible when the wait began."""

from contextlib import aclosing, asynccontextmanager
from uuid import uuid4

import attrs
import psycopg
import pytest
import trio
from psycopg import sql

from flowstore.daemon import DaemonSettings
from flowstore.errors import DatabaseUnavailableError, StaleResultsError
from flowstore.postgres import Connection
from flowstore.projections import AsyncOptions


@attrs.frozen
class Counted:
    by: int = 1


async def append(store, count=1):
    async with store.session() as session:
        session.events.append(uuid4(), *[Counted()] * count)
        await session.save_changes()


@asynccontextmanager
async def open_append(dsn, schema):
    """Hold a transaction open that has drawn a sequence number."""
    async with await Connection.connect(dsn, autocommit=False) as connection:
        await connection.execute(
            sql.SQL(
                "insert into {} (stream_id, version, type, data)"
                " values (gen_random_uuid(), 1, 'counted', '{{\"by\": 1}}')"
            ).format(sql.Identifier(schema, "events"))
        )
        yield connection


async def end_who_waits_for(dsn, holder, table):
    """End the connection of a statement that waits for the table, as a server's restart would."""
    waiting = (
        "select pg_terminate_backend(pid) from pg_stat_activity"
        " where wait_event_type = 'Lock' and query like %s and %s = any(pg_blocking_pids(pid))"
    )
    pattern = f"%{table}%"
    with psycopg.connect(dsn, autocommit=True) as other, trio.fail_after(60):
        ended = 0
        while not ended:
            await trio.sleep(0.01)
            ended = len(other.execute(waiting, (pattern, holder.info.backend_pid)).fetchall())


@pytest.fixture
def stuck(store, recorder, make_recorder):
    """A registered recorder that applies nothing before `stuck.gate` is set."""
    projection = make_recorder(name="stuck")
    gate = trio.Event()

    async def wait_at_the_gate(_):
        await gate.wait()

    projection.before = wait_at_the_gate
    store.options.projections.add(projection)
    return gate


async def test_nothing_is_stale_in_an_empty_store(store, recorder):
    async with store.build_projection_daemon() as daemon:
        await daemon.wait_for_non_stale_results(timeout=0)


async def test_a_wait_for_what_is_reached_ends_at_once(store, recorder):
    await append(store, 3)
    async with store.build_projection_daemon() as daemon:
        await daemon.catch_up()
        with trio.fail_after(60):
            await daemon.wait_for_non_stale_results()
            await daemon.wait_for("recorder", 3)
            await daemon.wait_for("recorder", 0)


async def test_a_wait_ends_when_every_shard_has_come_through(store, recorder, stuck, until):
    await append(store, 3)
    ended = trio.Event()
    async with store.build_projection_daemon() as daemon, trio.open_nursery() as nursery:

        async def wait():
            await daemon.wait_for_non_stale_results()
            ended.set()

        await daemon.start_all()
        nursery.start_soon(wait)
        await daemon.wait_for("recorder", 3)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert not ended.is_set()
        stuck.set()
        await ended.wait()
        assert {status.progress for status in daemon.statuses()} == {3}


async def test_a_timeout_lists_every_shards_place(store, recorder, stuck):
    await append(store, 3)
    async with store.build_projection_daemon() as daemon:
        await daemon.start_all()
        await daemon.wait_for("recorder", 3)
        with pytest.raises(StaleResultsError) as caught:
            await daemon.wait_for_non_stale_results(timeout=0.05)
        stuck.set()
    assert caught.value.target == 3
    assert caught.value.places == ("recorder is running at 3", "stuck is running at 0")
    assert all(place in str(caught.value) for place in caught.value.places)
    assert "sequence 3 within 0.05 s" in str(caught.value)


async def test_a_shard_that_was_not_started_is_waited_for_too(store, recorder):
    await append(store)
    async with store.build_projection_daemon() as daemon:
        with pytest.raises(StaleResultsError, match=r"recorder is stopped at 0: it was not start"):
            await daemon.wait_for_non_stale_results(timeout=0.05)


async def test_a_shard_that_runs_in_another_daemon_is_seen(store, recorder):
    await append(store, 2)
    async with (
        store.build_projection_daemon() as daemon,
        store.build_projection_daemon() as elsewhere,
    ):
        await elsewhere.start_all()
        with trio.fail_after(60):
            await daemon.wait_for_non_stale_results()
            await daemon.wait_for("recorder", 2)


async def test_a_failed_shard_ends_the_wait_with_its_error(store, make_recorder):
    options = AsyncOptions(on_error="stop")
    failing = make_recorder(fails=lambda event: event.sequence == 2, async_options=options)
    store.options.projections.add(failing)
    await append(store, 3)
    async with store.build_projection_daemon() as daemon:
        await daemon.start_all()
        failed_at_1 = r"recorder is failed at 1: .*is poison"
        with trio.fail_after(60), pytest.raises(StaleResultsError, match=failed_at_1) as caught:
            await daemon.wait_for_non_stale_results()
    assert "within" not in str(caught.value)


async def test_a_failed_shard_ends_the_wait_for_one_that_is_stuck(store, stuck, make_recorder):
    options = AsyncOptions(on_error="stop")
    store.options.projections.add(make_recorder(name="bad", fails=bool, async_options=options))
    await append(store, 1)
    async with store.build_projection_daemon() as daemon:
        await daemon.start_all()
        with trio.fail_after(60), pytest.raises(StaleResultsError, match="bad is failed at 0"):
            await daemon.wait_for_non_stale_results()
        stuck.set()


async def test_a_failed_shard_that_had_come_through_is_not_waited_for(store, make_recorder, until):
    options = AsyncOptions(on_error="stop")
    failing = make_recorder(fails=lambda event: event.sequence == 2, async_options=options)
    store.options.projections.add(failing)
    await append(store, 1)
    async with store.build_projection_daemon() as daemon:
        await daemon.start_all()
        await daemon.wait_for_non_stale_results()
        await append(store, 1)
        await until(daemon, lambda status: status.state == "failed")
        await daemon.wait_for("recorder", 1)


async def test_appends_after_the_call_do_not_move_the_target(store, recorder):
    async def append_for_ever(*, task_status):
        while True:
            await append(store)
            if await store.highest_sequence() == 3:
                task_status.started()

    async with store.build_projection_daemon() as daemon, trio.open_nursery() as nursery:
        await daemon.start_all()
        await nursery.start(append_for_ever)
        with trio.fail_after(60):
            await daemon.wait_for_non_stale_results()
        nursery.cancel_scope.cancel()


async def test_a_wait_outlives_a_connection_that_ends_while_it_looks_for_its_target(
    store, recorder, pg_dsn, schema
):
    await append(store, 2)
    async with store.build_projection_daemon() as daemon, trio.open_nursery() as nursery:
        await daemon.catch_up()
        with psycopg.connect(pg_dsn) as holder, trio.fail_after(20):
            holder.execute(f"lock table {schema}.events in access exclusive mode")
            nursery.start_soon(daemon.wait_for_non_stale_results)
            await end_who_waits_for(pg_dsn, holder, "events")


async def test_a_wait_outlives_a_connection_that_ends_while_it_looks_where_a_shard_stands(
    store, recorder, pg_dsn, schema
):
    await append(store, 2)
    async with (
        store.build_projection_daemon() as daemon,
        store.build_projection_daemon() as elsewhere,
        trio.open_nursery() as nursery,
    ):
        await elsewhere.catch_up()
        with psycopg.connect(pg_dsn) as holder, trio.fail_after(20):
            holder.execute(f"lock table {schema}.progress in access exclusive mode")
            nursery.start_soon(daemon.wait_for, "recorder", 2)
            await end_who_waits_for(pg_dsn, holder, "progress")


async def test_a_wait_whose_time_runs_out_before_its_target_is_found_says_why(
    store, recorder, pg_dsn, schema
):
    await append(store, 2)
    async with store.build_projection_daemon() as daemon, trio.open_nursery() as nursery:
        with psycopg.connect(pg_dsn) as holder:
            holder.execute(f"lock table {schema}.events in access exclusive mode")
            nursery.start_soon(end_who_waits_for, pg_dsn, holder, "events")
            with trio.fail_after(20), pytest.raises(DatabaseUnavailableError):
                await daemon.wait_for_non_stale_results(timeout=0)


async def test_an_open_append_delays_the_wait_and_does_not_shorten_it(
    store, recorder, table, pg_dsn, schema
):
    async with store.build_projection_daemon() as daemon, open_append(pg_dsn, schema) as other:
        await daemon.start_all()
        await append(store)
        with pytest.raises(StaleResultsError, match="sequence 2"):
            await daemon.wait_for_non_stale_results(timeout=0.1)
        assert await table.sequences(store) == []
        await other.commit()
        await daemon.wait_for_non_stale_results(timeout=60)
        assert await table.sequences(store) == [1, 2]


async def test_a_buffer_delays_the_wait_by_the_databases_clock(store, recorder, schema):
    settings = DaemonSettings(leading_edge_buffer=600)
    async with store.build_projection_daemon(settings) as daemon:
        await daemon.start_all()
        await append(store, 2)
        with pytest.raises(StaleResultsError, match="recorder is running at 0"):
            await daemon.wait_for_non_stale_results(timeout=0.05)
        async with store.connection() as connection, connection.transaction():
            await connection.execute("set local session_replication_role = replica")  # no triggers
            await connection.execute(
                f"update {schema}.events set recorded = recorded - interval '10 minutes'"
            )
        await daemon.wait_for_non_stale_results(timeout=60)


async def test_a_wait_for_one_shard_passes_over_the_others(store, recorder, stuck):
    await append(store, 5)
    async with store.build_projection_daemon() as daemon:
        await daemon.start_all()
        with trio.fail_after(60):
            await daemon.wait_for("recorder", 5)
        assert [status.progress for status in daemon.statuses()] == [5, 0]
        stuck.set()


async def test_a_wait_for_what_is_not_there_yet_is_bounded_by_a_cancel_scope(store, recorder):
    await append(store, 1)
    async with store.build_projection_daemon() as daemon:
        await daemon.start_all()
        with trio.move_on_after(0.05) as scope:
            await daemon.wait_for("recorder", 2)
        assert scope.cancelled_caught


async def test_a_watcher_sees_present_statuses_then_changes(store, recorder, stuck):
    async with store.build_projection_daemon() as daemon, aclosing(daemon.watch()) as statuses:
        with trio.fail_after(60):
            present = {(await anext(statuses)).name for _ in range(2)}
            assert present == {"recorder", "stuck"}
            await daemon.start("recorder")
            await append(store, 2)
            async for status in statuses:
                if status.name == "recorder" and status.progress == 2:
                    break
            await daemon.stop("recorder")
            async for status in statuses:
                if status.name == "recorder" and status.state == "stopped":
                    break


async def test_a_slow_watcher_sees_the_latest_status_of_each_shard(store, recorder, stuck):
    async with store.build_projection_daemon() as daemon, aclosing(daemon.watch()) as statuses:
        await anext(statuses)
        await anext(statuses)
        for _ in range(3):
            await daemon.start_all()
            await append(store)
            await daemon.wait_for("recorder", await store.highest_sequence())
        stuck.set()
        await daemon.wait_for_non_stale_results()
        await daemon.stop_all()
        seen = [await anext(statuses) for _ in range(2)]
        assert {(status.name, status.state, status.progress) for status in seen} == {
            ("recorder", "stopped", 3),
            ("stuck", "stopped", 3),
        }
        with trio.move_on_after(0.01) as scope:
            await anext(statuses)
        assert scope.cancelled_caught


async def test_watchers_do_not_take_changes_from_each_other(store, recorder):
    await append(store, 3)

    async def watch():
        async with aclosing(daemon.watch()) as statuses:
            async for status in statuses:
                if status.progress == 3:
                    return

    async with store.build_projection_daemon() as daemon:
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(watch)
                await daemon.start_all()
