"""A session that nobody leaves keeps its locks no longer than its store, and no longer than itself."""

import gc
from uuid import uuid4

import attrs
import pytest
import trio

from flowstore import StoreOptions, open_store
from flowstore.errors import DatabaseUnavailableError


@attrs.frozen
class Happened:
    what: str = ""


async def begin(store):
    stream_id = uuid4()
    async with store.session() as session:
        session.events.start_stream(stream_id, Happened())
        await session.save_changes()
    return stream_id


async def append_beside(pg_dsn, schema, stream_id):
    """Append in another store, waiting for the stream's lock for a while."""
    options = StoreOptions(schema=schema)
    async with open_store(pg_dsn, options) as other, other.session() as session:
        await session.events.append_exclusive(stream_id, Happened(), lock_timeout=10)
        await session.save_changes()


async def test_leaving_the_store_lets_go_of_what_a_session_still_holds(pg_dsn, schema):
    with trio.fail_after(20):
        async with open_store(pg_dsn, StoreOptions(schema=schema)) as store:
            stream_id = await begin(store)
            session = store.session()
            await session.events.append_exclusive(stream_id, Happened())
        await append_beside(pg_dsn, schema, stream_id)
        with pytest.raises(DatabaseUnavailableError):
            await session.save_changes()
        await session.__aexit__(None, None, None)


async def test_a_cancelled_store_lets_go_of_what_a_session_still_holds(pg_dsn, schema):
    with trio.fail_after(20):
        with trio.CancelScope() as scope:
            async with open_store(pg_dsn, StoreOptions(schema=schema)) as store:
                stream_id = await begin(store)
                session = store.session()
                await session.events.append_exclusive(stream_id, Happened())
                scope.cancel()
                await trio.lowlevel.checkpoint()
        await append_beside(pg_dsn, schema, stream_id)
        assert session.events.pending


async def test_the_stores_own_error_leaves_beside_a_session_that_holds_a_lock(pg_dsn, schema):
    async def fail():
        async with open_store(pg_dsn, StoreOptions(schema=schema)) as store:
            stream_id = await begin(store)
            await store.session().events.append_exclusive(stream_id, Happened())
            raise ZeroDivisionError

    with trio.fail_after(20), pytest.raises(ZeroDivisionError):
        await fail()


async def test_a_dropped_session_gives_its_connection_back(pg_dsn, schema):
    async with open_store(pg_dsn, StoreOptions(schema=schema)) as store:
        stream_id = await begin(store)
        for _ in range(15):  # more than the pool has connections

            async def forget():
                session = store.session()
                await session.events.append_exclusive(stream_id, Happened(), lock_timeout=10)

            with trio.fail_after(20):
                await forget()
            gc.collect()
        async with store.session() as session:
            assert len(await session.events.fetch_stream(stream_id)) == 1
