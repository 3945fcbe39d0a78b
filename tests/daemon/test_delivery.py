"""Whatever is committed arrives: out of order, from other processes, through broken connections."""

import sys
from contextlib import asynccontextmanager
from uuid import uuid4

import attrs
import psycopg
import pytest
import trio
from psycopg import sql

from flowstore.daemon import DaemonSettings
from flowstore.postgres import Connection

APPEND = """
import sys
from uuid import uuid4

import attrs
import trio

from flowstore import StoreOptions, open_store

@attrs.frozen
class Counted:
    by: int = 1

async def main(dsn, schema, count):
    async with open_store(dsn, StoreOptions(schema=schema, auto_create="none")) as store:
        for number in range(count):
            async with store.session() as session:
                session.events.append(uuid4(), Counted(number))
                await session.save_changes()

trio.run(main, sys.argv[1], sys.argv[2], int(sys.argv[3]))
"""


@attrs.frozen
class Counted:
    by: int = 1


@pytest.fixture
def options(options):
    options.events.add_types(Counted)
    return options


async def append(store, count=1):
    async with store.session() as session:
        session.events.append(uuid4(), *[Counted()] * count)
        await session.save_changes()


def insertion(schema):
    return sql.SQL(
        "insert into {} (stream_id, version, type, data)"
        " values (gen_random_uuid(), 1, 'counted', '{{\"by\": 1}}')"
    ).format(sql.Identifier(schema, "events"))


@asynccontextmanager
async def open_append(dsn, schema):
    """Hold a transaction open that has drawn a sequence number."""
    async with await Connection.connect(dsn, autocommit=False) as connection:
        await connection.execute(insertion(schema))
        yield connection


async def test_an_open_append_holds_what_comes_after_it_and_loses_nothing(
    store, recorder, table, pg_dsn, schema
):
    async with store.build_projection_daemon() as daemon:
        await daemon.start_all()
        await append(store)
        async with open_append(pg_dsn, schema) as other:
            await append(store, 2)
            await daemon.wait_for("recorder", 1)
            with trio.move_on_after(0.1) as scope:
                await daemon.wait_for("recorder", 2)
            assert scope.cancelled_caught
            assert daemon.high_water_mark == 1
            await other.commit()
        await daemon.wait_for_non_stale_results()
    assert await table.sequences(store) == [1, 2, 3, 4]


async def test_commits_in_the_opposite_order_arrive_in_sequence(
    store, recorder, table, pg_dsn, schema
):
    async with (
        store.build_projection_daemon() as daemon,
        open_append(pg_dsn, schema) as first,
        open_append(pg_dsn, schema) as second,
        open_append(pg_dsn, schema) as third,
    ):
        await daemon.start_all()
        for writer in (third, second, first):
            await writer.commit()
            store.notify()
            await trio.sleep(0.02)
        await daemon.wait_for("recorder", 3)
    assert await table.sequences(store) == [1, 2, 3]


async def test_an_append_that_rolls_back_holds_nothing(store, recorder, table, pg_dsn, schema):
    async with (
        store.build_projection_daemon() as daemon,
        open_append(pg_dsn, schema) as other,
    ):
        await daemon.start_all()
        await append(store)
        await other.rollback()
        await daemon.wait_for_non_stale_results(timeout=60)
    assert await table.sequences(store) == [2]


@pytest.mark.parametrize("notifications", [True, False])
async def test_appends_of_another_process_arrive(
    store, recorder, table, pg_dsn, schema, notifications
):
    settings = DaemonSettings(notifications=notifications)
    async with store.build_projection_daemon(settings) as daemon:
        await daemon.start_all()
        await trio.run_process([sys.executable, "-c", APPEND, pg_dsn, schema, "5"])
        await daemon.wait_for_non_stale_results(timeout=60)
    assert await table.sequences(store) == [1, 2, 3, 4, 5]


async def test_with_notifications_a_foreign_append_does_not_wait_for_a_poll(
    store, opening, recorder, table
):
    settings = DaemonSettings(slow_polling_time=600, fast_polling_time=600)
    async with store.build_projection_daemon(settings) as daemon, opening() as elsewhere:
        await daemon.start_all()
        with trio.fail_after(60):
            await append(store)
            await daemon.wait_for("recorder", 1)
            await append(elsewhere)
            await daemon.wait_for("recorder", 2)


async def test_without_notifications_a_silent_append_arrives_by_polling(
    store, recorder, pg_dsn, schema
):
    settings = DaemonSettings(notifications=False, slow_polling_time=0.05)
    async with store.build_projection_daemon(settings) as daemon:
        await daemon.start_all()
        async with open_append(pg_dsn, schema) as other:
            await other.commit()
        with trio.fail_after(60):
            await daemon.wait_for("recorder", 1)


def terminate_backends(dsn):
    """End every connection of flowstore, the listening one included."""
    query = (
        "select count(pg_terminate_backend(pid)) from pg_stat_activity"
        " where application_name like 'flowstore%' and pid <> pg_backend_pid()"
        " and datname = current_database()"
    )
    with psycopg.connect(dsn, autocommit=True) as connection:
        return connection.execute(query).fetchone()[0]


async def test_a_daemon_whose_connections_are_ended_goes_on_by_itself(
    store, recorder, table, pg_dsn, schema, until
):
    async with store.build_projection_daemon() as daemon:
        await daemon.start_all()
        for number in range(1, 6):
            with psycopg.connect(pg_dsn, autocommit=True) as foreign:
                foreign.execute(insertion(schema))
            assert terminate_backends(pg_dsn) > 0
            with trio.fail_after(60):
                await daemon.wait_for("recorder", number)
        status = await until(daemon, lambda status: status.reason == "")
        assert (status.state, status.error) == ("running", None)
    assert await table.sequences(store) == [1, 2, 3, 4, 5]
    assert await store.dead_letters() == []


async def test_a_connection_ended_inside_apply_is_no_poison(store, recorder, table, pg_dsn):
    async def end_them(events):
        if len(recorder.calls) == 1:
            terminate_backends(pg_dsn)

    recorder.before = end_them
    await append(store, 3)
    async with store.build_projection_daemon() as daemon:
        await daemon.start_all()
        await daemon.wait_for_non_stale_results(timeout=60)
    assert await table.sequences(store) == [1, 2, 3]
    assert await store.dead_letters() == []


async def test_a_connection_ended_while_it_looks_for_the_mark_ends_nothing(
    store, recorder, table, pg_dsn, schema, until
):
    """With a buffer the look reads the events, and waits while another locks them."""
    blocked = (
        "select pid from pg_stat_activity"
        " where wait_event_type = 'Lock' and query ~ 'high_water|look' and pid <> all (%s)"
    )
    settings = DaemonSettings(leading_edge_buffer=0.001)
    await append(store)
    async with store.build_projection_daemon(settings) as daemon:
        with psycopg.connect(pg_dsn) as other, psycopg.connect(pg_dsn, autocommit=True) as watching:
            other.execute(f"lock table {schema}.events in access exclusive mode")
            await daemon.start_all()
            ended = []
            with trio.fail_after(60):
                while len(ended) < 2:
                    for (pid,) in watching.execute(blocked, (ended,)).fetchall():
                        watching.execute("select pg_terminate_backend(%s)", (pid,))
                        ended.append(pid)
                    await trio.sleep(0.01)
            status = await until(daemon, lambda status: status.state == "running")
            assert "looking for the high-water mark" in status.reason
        await daemon.wait_for_non_stale_results(timeout=60)
        await until(daemon, lambda status: status.reason == "")
    assert await table.sequences(store) == [1]


async def test_a_status_says_that_the_database_fails(store, recorder, schema, until):
    """The commit is refused as if the server were shutting down, until the row is gone."""
    async with store.connection() as connection:
        await connection.execute(
            f"create function {schema}.refuse() returns trigger language plpgsql as"
            " $$ begin raise 'shutting down' using errcode = '57P01'; end $$"
        )
        await connection.execute(
            f"create trigger refuse before insert on {schema}.seen"
            f" execute function {schema}.refuse()"
        )
    settings = DaemonSettings(retry_time=0.01, longest_retry_time=0.01)
    async with store.build_projection_daemon(settings) as daemon:
        await daemon.start_all()
        await append(store)
        status = await until(daemon, lambda status: "shutting down" in status.reason)
        assert (status.state, status.progress, status.lag) == ("running", 0, 1)
        async with store.connection() as connection:
            await connection.execute(f"drop trigger refuse on {schema}.seen")
        await daemon.wait_for_non_stale_results(timeout=60)
        await until(daemon, lambda status: status.reason == "")
    assert await store.dead_letters() == []
