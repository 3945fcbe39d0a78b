"""Why a shard stands still is told, soon and to watchers too."""

import re
from contextlib import aclosing, asynccontextmanager
from uuid import uuid4

import attrs
import trio
from psycopg import sql

from flowstore.daemon import DaemonSettings, open_store
from flowstore.postgres import Connection
from flowstore.projections import AsyncOptions
from flowstore.store import StoreOptions


@attrs.frozen
class Counted:
    by: int = 1


async def append(store, count=1):
    async with store.session() as session:
        session.events.append(uuid4(), *[Counted()] * count)
        await session.save_changes()


@asynccontextmanager
async def open_append(dsn, schema):
    async with await Connection.connect(
        dsn, autocommit=False, application_name="forgetful"
    ) as connection:
        await connection.execute(
            sql.SQL(
                "insert into {} (stream_id, version, type, data)"
                " values (gen_random_uuid(), 1, 'counted', '{{\"by\": 1}}')"
            ).format(sql.Identifier(schema, "events"))
        )
        yield connection


async def test_an_open_append_that_holds_the_mark_is_named_until_it_is_over(
    store, recorder, until, pg_dsn, schema
):
    async with store.build_projection_daemon() as daemon, open_append(pg_dsn, schema) as other:
        await daemon.start_all()
        await append(store, 3)
        with trio.fail_after(60):
            status = await until(daemon, lambda status: "open append" in status.reason)
        pid = other.info.backend_pid
        assert (
            f"holds the high-water mark at 0: pid {pid}, application 'forgetful'" in status.reason
        )
        assert "open for " in status.reason
        assert "insert into" in status.reason
        await other.commit()
        with trio.fail_after(60):
            await until(daemon, lambda status: status.progress == 4 and not status.reason)


async def test_a_page_that_is_applied_for_long_is_named_until_it_is_through(store, recorder, until):
    gate = trio.Event()

    async def wait_at_the_gate(_):
        await gate.wait()

    recorder.before = wait_at_the_gate
    await append(store, 3)
    async with store.build_projection_daemon() as daemon:
        await daemon.start_all()
        with trio.fail_after(60):
            status = await until(daemon, lambda status: "applying" in status.reason)
        assert re.match(r"applying the page \(0, 3\] for \d+\.\d s", status.reason)
        assert status.lag == 3
        gate.set()
        await until(daemon, lambda status: status.progress == 3 and not status.reason)


async def test_a_watcher_hears_of_a_mark_that_alone_has_moved(store, recorder):
    async with store.build_projection_daemon() as daemon, aclosing(daemon.watch()) as statuses:
        with trio.fail_after(60):
            assert (await anext(statuses)).high_water_mark == 0
            await append(store, 2)
            status = await anext(statuses)
    assert (status.state, status.high_water_mark, status.lag) == ("stopped", 2, 2)


async def test_a_watcher_is_not_told_the_same_again(store, recorder):
    async with store.build_projection_daemon() as daemon, aclosing(daemon.watch()) as statuses:
        await anext(statuses)
        daemon._board.post_all()
        with trio.move_on_after(0.05) as scope:
            await anext(statuses)
        assert scope.cancelled_caught


async def test_a_detector_without_the_right_to_look_is_told_and_goes_on_when_mended(
    store, recorder, until, schema, caplog
):
    function = f"{schema}.high_water(bigint, double precision, out bigint, out bigint)"
    settings = DaemonSettings(longest_retry_time=0.1)
    async with store.connection() as connection:
        await connection.execute(f"alter function {function} rename to elsewhere")
    async with store.build_projection_daemon(settings) as daemon:
        await daemon.start_all()
        async with store.connection() as connection:
            # A gap: without one the events themselves tell the mark.
            await connection.execute(f"select nextval('{schema}.events_sequence')")
        await append(store, 2)
        with trio.fail_after(60):
            status = await until(daemon, lambda status: "can't be found" in status.reason)
        assert "high_water" in status.reason
        moved = function.replace("high_water", "elsewhere")
        async with store.connection() as connection:
            await connection.execute(f"alter function {moved} rename to high_water")
        with trio.fail_after(60):
            await until(daemon, lambda status: status.progress == 3 and not status.reason)
    told = [record for record in caplog.records if "can't be found" in record.getMessage()]
    assert len(told) == 1


async def test_an_isolation_that_forbids_the_mark_is_told_and_goes_on_when_mended(
    dsn, admin, until
):
    class Noting:
        name = "noting"
        consumes = ()
        produces = None
        async_options = AsyncOptions()

        def apply(self, session, streams):
            pass

    name = sql.Identifier(dsn.split("dbname=")[1].split()[0])
    change = sql.SQL("alter database {} {} default_transaction_isolation {}")
    options = StoreOptions()
    options.projections.add(Noting())
    admin.execute(change.format(name, sql.SQL("set"), sql.SQL("= 'repeatable read'")))
    settings = DaemonSettings(longest_retry_time=0.1)
    async with open_store(dsn, options) as store, store.build_projection_daemon(settings) as daemon:
        await daemon.start_all()
        await append(store, 2)
        with trio.fail_after(60):
            await until(daemon, lambda status: "repeatable read" in status.reason)
        admin.execute(change.format(name, sql.SQL("reset"), sql.SQL("")))
        with trio.fail_after(60):
            await until(daemon, lambda status: status.progress == 2 and not status.reason)
