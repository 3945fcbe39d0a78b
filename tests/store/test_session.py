"""A session is one unit of work."""

from uuid import UUID, uuid4

import attrs
import pytest
import trio
from psycopg import sql

from flowstore.errors import ConcurrencyError, DatabaseError, StreamCollisionError


@attrs.frozen
class Happened:
    what: str = ""


@attrs.define
class Note:
    id: UUID
    text: str = ""


async def table(store, schema, columns="a text"):
    name = sql.Identifier(schema, "flat")
    async with store.connection() as connection:
        await connection.execute(sql.SQL("create table {} ({})").format(name, sql.SQL(columns)))
    return name.as_string()


async def rows(store, query):
    async with store.connection() as connection:
        return await (await connection.execute(query)).fetchall()


async def test_a_session_left_without_saving_writes_nothing(store):
    note, stream_id = Note(uuid4()), uuid4()
    async with store.session() as session:
        session.events.append(stream_id, Happened())
        session.store(note)
    async with store.session() as session:
        assert await session.load(Note, note.id) is None
        assert await session.events.fetch_stream(stream_id) == []


async def test_an_exception_leaves_a_session_as_it_is(store):
    async def fail():
        async with store.session() as session:
            session.store(Note(uuid4()))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert await store.session().find(Note) == []


async def test_streams_documents_and_sql_commit_together(store, schema):
    flat = await table(store, schema)
    note, streams = Note(uuid4(), "x"), [uuid4(), uuid4()]
    async with store.session() as session:
        session.execute(f"insert into {flat} values (%s)", "row")
        for stream_id in streams:
            session.events.append(stream_id, Happened())
        session.store(note)
        await session.save_changes()
        assert await session.load(Note, note.id) == note
        assert [len(await session.events.fetch_stream(stream)) for stream in streams] == [1, 1]
    assert await rows(store, f"select * from {flat}") == [("row",)]


@pytest.mark.parametrize("what_fails", ["the events", "the sql"])
async def test_when_one_part_fails_nothing_is_written(store, schema, what_fails):
    flat = await table(store, schema, "a text check (a <> 'bad')")
    taken, note = uuid4(), Note(uuid4())
    async with store.session() as session:
        session.events.append(taken, Happened())
        await session.save_changes()
    async with store.session() as session:
        fresh = uuid4()
        session.events.append(fresh, Happened())
        session.events.append(taken, Happened(), expected_version=9 * (what_fails == "the events"))
        if what_fails == "the sql":
            session.events.pending[-1].expected_version = None
        session.store(note)
        session.execute(f"insert into {flat} values ('good')")
        session.execute(f"insert into {flat} values (%s)", "bad")
        with pytest.raises((ConcurrencyError, DatabaseError)):
            await session.save_changes()
    async with store.session() as session:
        assert await session.load(Note, note.id) is None
        assert await session.events.fetch_stream(fresh) == []
    assert await rows(store, f"select * from {flat}") == []


async def test_a_failed_commit_keeps_the_queue(store):
    stream_id, note = uuid4(), Note(uuid4())
    async with store.session() as other:
        other.events.append(stream_id, Happened())
        await other.save_changes()
    async with store.session() as session:
        session.events.start_stream(stream_id, Happened())
        session.store(note)
        with pytest.raises(StreamCollisionError):
            await session.save_changes()
        assert [action.stream_id for action in session.events.pending] == [stream_id]
        assert await session.load(Note, note.id) is note
        with pytest.raises(StreamCollisionError):
            await session.save_changes()


async def test_a_session_can_be_used_again_after_a_commit(store):
    stream_id = uuid4()
    async with store.session() as session:
        for number in range(3):
            session.events.append(stream_id, Happened(str(number)), expected_version=number)
            await session.save_changes()
            assert session.events.pending == ()
        assert len(await session.events.fetch_stream(stream_id)) == 3


async def test_saving_an_empty_session_is_fine(store):
    async with store.session() as session:
        await session.save_changes()


async def test_queued_sql_runs_in_queue_order_after_the_events(store, schema):
    flat = await table(store, schema, "n serial, a text")
    events = sql.Identifier(schema, "events").as_string()
    async with store.session() as session:
        session.execute(f"insert into {flat} (a) select 'saw ' || count(*) from {events}")
        session.execute(f"insert into {flat} (a) values (%s)", "second")
        session.events.append(uuid4(), Happened())
        session.execute(f"update {flat} set a = a || '!' where a like 'sec%'")
        await session.save_changes()
    found = await rows(store, f"select a from {flat} order by n")
    assert found == [("saw 1",), ("second!",)]


async def test_sql_sees_the_documents_queued_before_it_and_none_queued_after(store, schema):
    flat = await table(store, schema)
    documents = sql.Identifier(schema, "doc_note").as_string()
    count = f"insert into {flat} select count(*) from {documents}"
    async with store.session() as session:
        note = Note(uuid4())
        session.store(note)
        session.execute(count)
        session.delete(note)
        session.execute(count)
        session.store(note, Note(uuid4()))
        session.execute(count)
        await session.save_changes()
    assert await rows(store, f"select * from {flat}") == [("1",), ("0",), ("2",)]


async def test_after_commit_is_called_once_after_the_commit(store):
    note, called = Note(uuid4()), []

    async def look():
        async with store.session() as session:
            called.append(await session.load(Note, note.id))

    async with store.session() as session:
        session.store(note)
        session.after_commit(look)
        session.after_commit(lambda: called.append("plain"))
        assert called == []
        await session.save_changes()
        await session.save_changes()
    assert called == [note, "plain"]


async def test_after_commit_is_not_called_when_the_commit_fails(store):
    called = []
    async with store.session() as session:
        session.execute("select 1/0")
        session.after_commit(lambda: called.append(1))
        with pytest.raises(DatabaseError) as caught:
            await session.save_changes()
    assert (caught.value.sqlstate, called) == ("22012", [])


async def test_a_commit_cancelled_while_it_waits_writes_nothing_and_keeps_the_queue(store, schema):
    stream_id, note = uuid4(), Note(uuid4())
    async with store.session() as session:
        session.events.append(stream_id, Happened())
        await session.save_changes()
    streams = sql.SQL("lock table {} in exclusive mode").format(sql.Identifier(schema, "streams"))
    session = store.session()
    session.events.append(stream_id, Happened())
    session.store(note)
    async with store.connection() as connection:
        async with connection.transaction():
            await connection.execute(streams)
            with trio.move_on_after(0.1) as scope:
                await session.save_changes()
        assert scope.cancelled_caught
    assert await session.load(Note, note.id) is note
    assert len(await session.events.fetch_stream(stream_id)) == 1
    await session.save_changes()
    assert len(await session.events.fetch_stream(stream_id)) == 2
    assert await store.high_water() >= 2


async def test_errors_leave_the_open_store_in_no_exception_group(opening):
    with pytest.raises(ZeroDivisionError):
        async with opening():
            raise ZeroDivisionError
