"""Waking up for appends."""

from uuid import uuid4

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from flowstore.errors import StreamCollisionError
from flowstore.postgres import Connection
from flowstore.store import StoreOptions, open_event_store
from flowstore.store._signals import Signals, Spacing

LONG = 20.0


@attrs.frozen
class Happened:
    pass


async def append(store):
    async with store.session() as session:
        session.events.append(uuid4(), Happened())
        await session.save_changes()


async def wait_while(store, act, seconds):
    """Tell whether a wait that began before `act` ended for it, rather than by its timeout."""
    woken = trio.Event()

    async def wait():
        started = trio.current_time()
        await store.wait_for_appends(seconds)
        if trio.current_time() - started < seconds:
            woken.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        await act()
    return woken.is_set()


async def test_an_append_of_this_process_wakes_at_once(store):
    assert await wait_while(store, lambda: append(store), LONG)


async def test_a_wait_ends_at_its_timeout(store):
    async def nothing():
        pass

    assert not await wait_while(store, nothing, 0.05)


async def test_an_append_that_nobody_waited_for_was_heard_all_the_same(store):
    heard = store.appends_heard
    await append(store)
    assert store.appends_heard == heard + 1


async def test_ones_own_notification_is_no_news_and_anothers_is(store, pg_dsn, schema):
    async with await Connection.connect(pg_dsn) as listener, store.listening():
        cursor = await listener.execute("select %s::regclass::oid", (f"{schema}.events",))
        await listener.execute(f"listen flowstore_{(await cursor.fetchone())[0]}")
        await append(store)
        with trio.fail_after(LONG):
            assert [notify async for notify in listener.notifies(stop_after=1)]
        await wait_all_tasks_blocked(0.05)
        assert store.appends_heard == 2  # that it listens, and its own append once
        async with open_event_store(pg_dsn, StoreOptions(schema=schema)) as another:
            assert await wait_while(store, lambda: append(another), LONG)


async def test_a_commit_without_events_and_a_failed_one_wake_nobody(store):
    stream_id = uuid4()
    async with store.session() as session:
        session.events.start_stream(stream_id, Happened())
        await session.save_changes()

    async def fail():
        async with store.session() as session:
            session.execute("select 1")
            await session.save_changes()
            session.events.start_stream(stream_id, Happened())
            with pytest.raises(StreamCollisionError):
                await session.save_changes()

    await trio.sleep(0.02)
    assert not await wait_while(store, fail, 0.2)


async def test_an_append_of_another_store_wakes_who_listens(dsn):
    async with (
        open_event_store(dsn) as reader,
        open_event_store(dsn) as writer,
        open_event_store(dsn, StoreOptions(schema="other")) as stranger,
    ):
        async with reader.listening():
            assert await wait_while(reader, lambda: append(writer), LONG)
            await wait_all_tasks_blocked(0.05)
            assert not await wait_while(reader, lambda: append(stranger), 0.2)
        assert not await wait_while(reader, lambda: append(writer), 0.2)


async def test_listening_goes_on_over_a_lost_connection(dsn, admin):
    kill = (
        "select pg_terminate_backend(pid) from pg_stat_activity"
        " where query like 'listen%%' and datname = %s"
    )
    database = dsn.split("dbname=")[1].split()[0]
    async with (
        open_event_store(dsn) as reader,
        open_event_store(dsn) as writer,
        reader.listening(),
    ):

        async def lose_and_append():
            admin.execute(kill, (database,))
            await append(writer)

        # Listening again counts as news, because what came meanwhile went unheard.
        assert await wait_while(reader, lose_and_append, LONG)
        assert await wait_while(reader, lambda: append(writer), LONG)


async def test_many_commits_are_told_of_in_few_notifications(store, pg_dsn, schema):
    period = 1.0
    signals = Signals(pg_dsn, schema, store.connection, at_most_every=period)
    async with await Connection.connect(pg_dsn) as listener:
        await listener.execute(f"listen {schema}")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(signals.send)
            took = period
            while took >= period:  # nobody let us run meanwhile: that is another matter
                began = trio.current_time()
                for _ in range(10):
                    signals.notify()
                    await trio.sleep(0.005)
                took = trio.current_time() - began
                with trio.fail_after(LONG):  # the first at once, one for all the others
                    assert len([each async for each in listener.notifies(stop_after=2)]) == 2
                heard = [each async for each in listener.notifies(timeout=period + 0.5)]
            nursery.cancel_scope.cancel()
    assert heard == []


def test_notifications_get_rarer_while_commits_are_dense_and_not_without_end():
    pace = Spacing(0.005)
    assert [pace.after(100) for _ in range(6)] == [0.01, 0.02, 0.04, 0.05, 0.05, 0.05]


def test_notifications_are_close_again_once_commits_are_few():
    pace = Spacing(0.005)
    waits = [pace.after(commits) for commits in (1, 2, 4, 7, 2, 3, 1)]
    assert waits == [0.005, 0.01, 0.02, 0.005, 0.01, 0.005, 0.005]


async def test_the_last_of_many_dense_commits_is_told_of_too(store, pg_dsn, schema):
    signals = Signals(pg_dsn, schema, store.connection)

    async def hear_one():
        with trio.fail_after(LONG):
            assert [notify async for notify in listener.notifies(stop_after=1)]

    async with await Connection.connect(pg_dsn) as listener, trio.open_nursery() as nursery:
        await listener.execute(f"listen {schema}")
        nursery.start_soon(signals.send)
        for _ in range(4):
            for _ in range(100):
                signals.notify()
            await hear_one()
        signals.notify()  # while the sender waits, for longer than at first
        await hear_one()
        nursery.cancel_scope.cancel()


async def test_what_goes_along_with_appends_is_as_rare_as_what_is_sent_by_itself(store, pg_dsn):
    signals = Signals(pg_dsn, "nobody", store.connection, at_most_every=LONG)
    assert signals.along() is not None
    assert signals.along() is None
    other = Signals(pg_dsn, "nobody", store.connection, at_most_every=LONG)
    other.notify()  # is to be sent by itself, for this one too
    assert other.along() is None


async def test_each_append_after_a_lull_is_told_of_once(store, pg_dsn, schema):
    """It goes along with the append; nothing is sent afterwards."""
    async with await Connection.connect(pg_dsn) as listener:
        cursor = await listener.execute("select %s::regclass::oid", (f"{schema}.events",))
        await listener.execute(f"listen flowstore_{(await cursor.fetchone())[0]}")
        heard = []
        for _ in range(5):
            await append(store)
            heard += [notify async for notify in listener.notifies(timeout=0.05)]
    assert len(heard) == 5


async def test_what_is_refused_keeps_nobody_from_being_told_of_the_next(store, pg_dsn, options):
    options.events.add_types(Happened)
    stream_id = uuid4()
    async with store.session() as session:
        session.events.start_stream(stream_id, Happened())
        await session.save_changes()
    await trio.sleep(0.02)
    async with open_event_store(pg_dsn, options) as another, another.listening():

        async def refused_and_another():
            async with store.session() as session:
                session.events.start_stream(stream_id, Happened())
                with pytest.raises(StreamCollisionError):
                    await session.save_changes()
            await append(store)

        heard = another.appends_heard
        assert await wait_while(another, refused_and_another, LONG)
        with trio.fail_after(LONG):
            while another.appends_heard < heard + 2:
                await another.wait_for_appends(1)
        assert [event.sequence for event in (await another.look(0))[1].events] == [1, 2]
