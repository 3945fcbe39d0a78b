"""What shadows promise to whoever fills them, and what they wait for."""

from contextlib import asynccontextmanager
from uuid import UUID, uuid4

import attrs
import pytest
import trio
from psycopg import sql

from flowstore.errors import DatabaseError, ProgressConflictError
from flowstore.events import DeadLetter
from flowstore.postgres import translate_errors
from flowstore.projections import AsyncOptions, FlatTable, aggregate_projection
from flowstore.store import Part, _shadow, open_event_store
from flowstore.store._schema import lock_schema
from flowstore.store._shadow import Shadow
from flowstore.store._shadow_unit import shadow_table
from tests.daemon.totals import STREAMS, Counted, Label, Total, append, fill, totals

PATIENCE = 60
TOTAL = STREAMS[0]


@pytest.fixture
def options(options):
    options.projections.aggregate_streams_with(Total)
    return options


@pytest.fixture
def projection(store):
    return store.options.projections.find(Total).projection


async def add(kept, number, **where):
    """Have a shadow, or a replay, fold one more number."""
    unit = kept.projection_session()
    total = await unit.load(Total, TOTAL) or Total(TOTAL)
    total.apply(Counted(number))
    unit.store(total)
    await kept.commit_batch(unit, **where)


async def blocks(connection, store):
    """Tell whether the connection blocks somebody."""
    pid = connection.info.backend_pid
    blocked = b"select from pg_stat_activity where %s = any(pg_blocking_pids(pid))"
    async with store.connection() as other:
        return (await other.execute(blocked, (pid,))).rowcount > 0


async def until_somebody_waits_for(connection, store, done):
    """Wait until the connection blocks somebody, or there is nobody left who could be blocked."""
    with trio.fail_after(PATIENCE):
        while not done.is_set() and not await blocks(connection, store):  # noqa: ASYNC110 - only the server knows
            await trio.sleep(0.01)


async def waits_for(connection, store, shadow, work):
    """Tell whether some work waits for the connection's transaction, and does nothing before."""
    done = trio.Event()

    async def run():
        await work()
        done.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await until_somebody_waits_for(connection, store, done)
        has_waited = not done.is_set() and await shadow.standing() == shadow.claim
        with translate_errors():
            await connection.rollback()
        with trio.fail_after(PATIENCE):
            await done.wait()
    return has_waited


# -- who waits for whom --


async def test_nobody_forgets_a_shadow_while_it_is_being_put_in_place(store, projection):
    shadow = await store.rebuilding.open_shadow(projection)
    async with store.connection() as connection:
        await connection.execute("begin")
        assert not await shadow.was_taken_over(connection)
        forget = store.rebuilding.forget_shadows
        assert await waits_for(connection, store, shadow, lambda: forget(projection))


@pytest.mark.parametrize("verb", ["open", "discard", "forget"])
async def test_shadows_come_and_go_while_nobody_else_changes_the_schema(store, projection, verb):
    shadow = await store.rebuilding.open_shadow(projection)
    work = {
        "open": lambda: store.rebuilding.open_shadow(projection),
        "discard": shadow.discard,
        "forget": lambda: store.rebuilding.forget_shadows(projection),
    }[verb]
    async with store.connection() as connection:
        await connection.execute("begin")
        await lock_schema(connection, store._engine.sql)
        assert await waits_for(connection, store, shadow, work)


async def test_nobody_is_kept_from_appending_for_a_shadow_that_is_gone(
    store, projection, monkeypatch
):
    shadow = await store.rebuilding.open_shadow(projection)
    await store.rebuilding.forget_shadows(projection)

    async def analyze(_shadow):
        """It was there then, and is forgotten before the lock is had."""
        await trio.lowlevel.checkpoint()

    monkeypatch.setattr(Shadow, "analyze", analyze)
    with pytest.raises(ProgressConflictError):
        async with store.rebuilding.holding_appends(projection, shadow, 0):
            raise AssertionError
    assert not shadow.is_in_place


async def test_a_shadow_is_claimed_in_the_transaction_that_forgets_others(pg_dsn, options):
    """On its connection: one that only the other's end would free would be waited for for ever."""
    async with open_event_store(pg_dsn, options, max_connections=1) as store:
        projection = options.projections.find(Total).projection
        with trio.fail_after(PATIENCE):
            await store.rebuilding.open_shadow(projection)
            shadow = await store.rebuilding.open_shadow(projection)
        assert await shadow.standing() == shadow.claim


# -- a shadow that can't be opened --


@pytest.fixture
def in_the_way(schema):
    """Something that has a shadow's name, and is nobody's table: it can't be made then."""
    name = sql.Identifier(schema, shadow_table("doc_total")).as_string()
    return f"create domain {name} as int", f"drop domain {name}"


@pytest.fixture
def marks(store, schema):
    """List the shadows that have progress."""

    async def read():
        async with store.connection() as connection:
            query = f"select shard from {schema}.progress where shard like 'shadow %'"
            return await (await connection.execute(query)).fetchall()

    return read


async def test_who_cant_open_a_shadow_leaves_nothing(store, projection, in_the_way, marks):
    async with store.connection() as connection:
        await connection.execute(in_the_way[0])
    with pytest.raises(DatabaseError, match="already exists"):
        await store.rebuilding.open_shadow(projection)
    assert await marks() == []


async def test_what_goes_wrong_while_cleaning_up_hides_nothing(
    store, projection, schema, in_the_way, marks
):
    """The next rebuild forgets what was left."""
    refuse = f"create function {schema}.refuse() returns trigger language plpgsql"
    refuses = f"create trigger refuse before delete on {schema}.progress for each row"
    async with store.connection() as connection:
        await connection.execute(in_the_way[0])
        await connection.execute(f"{refuse} as $$ begin raise 'no cleaning up'; end $$")
        await connection.execute(f"{refuses} execute function {schema}.refuse()")
        with pytest.raises(DatabaseError, match="already exists"):
            await store.rebuilding.open_shadow(projection)
        [left] = await marks()
        await connection.execute(in_the_way[1])
        await connection.execute(f"drop trigger refuse on {schema}.progress")
    shadow = await store.rebuilding.open_shadow(projection)
    assert await marks() == [(shadow.shard,)]
    assert left != (shadow.shard,)


@asynccontextmanager
async def opening_that_waits(store, projection, holder, statement):
    """Open a shadow that waits for its tables; gives what cancels that."""
    await holder.execute("begin")
    await holder.execute(statement)
    ended, scope = trio.Event(), trio.CancelScope()

    async def run():
        with scope:
            await store.rebuilding.open_shadow(projection)
        assert scope.cancelled_caught
        ended.set()

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            await until_somebody_waits_for(holder, store, ended)
            assert not ended.is_set()
            yield scope
            await ended.wait()


async def test_an_opening_that_is_cancelled_cleans_up(store, projection, in_the_way, marks):
    async with store.connection() as holder:
        async with opening_that_waits(store, projection, holder, in_the_way[0]) as scope:
            assert len(await marks()) == 1
            scope.cancel()
        assert await marks() == []
        await holder.rollback()


async def test_who_is_cancelled_cleans_up_for_some_seconds_and_no_longer(
    store, projection, schema, in_the_way, marks, monkeypatch
):
    monkeypatch.setattr(_shadow, "_LAST_SECONDS", 0.1)
    async with store.connection() as holder, store.connection() as other:
        async with opening_that_waits(store, projection, holder, in_the_way[0]) as scope:
            await other.execute("begin")
            await other.execute(f"lock table {schema}.progress in exclusive mode")
            scope.cancel()
        await other.rollback()
        await holder.rollback()
    assert len(await marks()) == 1
    shadow = await store.rebuilding.open_shadow(projection)
    assert await marks() == [(shadow.shard,)]


# -- keeping others from appending --


async def test_only_the_lock_on_appends_is_given_up_soon(store, projection):
    """What else a replay waits for may take long, and nothing would try it again."""
    shadow = await store.rebuilding.open_shadow(projection)
    async with (
        store.rebuilding.holding_appends(projection, shadow, 0) as held,
        held._engine.lend() as connection,
    ):
        cursor = await connection.execute("select current_setting('lock_timeout')")
        assert await cursor.fetchone() == ("0",)


async def test_keeping_appends_out_is_tried_again_and_lets_others_append_and_read(
    store, projection, schema
):
    """An append that is open holds it up for longer than anybody else may be kept waiting."""
    shadow = await store.rebuilding.open_shadow(projection)
    name = next(iter(store.options.events.stored_names(Counted)))
    insert = f"insert into {schema}.events (stream_id, version, type, data) values (%s, 1, %s, %s)"
    entered, leave = trio.Event(), trio.Event()

    async def hold():
        async with store.rebuilding.holding_appends(projection, shadow, 0):
            entered.set()
            await leave.wait()

    with trio.fail_after(PATIENCE):
        async with store.connection() as other, trio.open_nursery() as nursery:
            await other.execute("begin")
            await other.execute(insert, (STREAMS[1], name, '{"by": 5}'))
            nursery.start_soon(hold)
            for is_waiting in (True, False, True):
                while await blocks(other, store) is not is_waiting:  # noqa: ASYNC110 - only the server knows
                    await trio.sleep(0.01)
            await append(store, Counted(1), to=TOTAL)
            assert not entered.is_set()
            await other.rollback()
            await entered.wait()
            assert len(await store.session().events.fetch_stream(TOTAL)) == 1
            leave.set()
    assert shadow.is_in_place


# -- what is read and written --


async def test_a_replay_that_keeps_appends_out_reads_what_it_has_written(store, projection):
    shadow = await store.rebuilding.open_shadow(projection)
    await add(shadow, 1, floor=0, ceiling=1)
    async with store.rebuilding.holding_appends(projection, shadow, 1) as held:
        for number in (2, 3):
            await add(held, number, ceiling=number)
            standing = await held.standing()
            assert (standing.sequence, standing.started) == (number, True)
        assert (await totals(store), shadow.is_in_place) == ([], False)
    assert (await totals(store), shadow.is_in_place) == ([Total(TOTAL, 6, [1, 2, 3])], True)


async def test_what_a_replay_keeps_need_not_have_a_table_yet(store, projection):
    """Without a shadow a projection may write documents that it doesn't say it produces."""
    label = Label(uuid4(), "new")
    async with store.rebuilding.holding_appends(projection, None, 0) as held:
        unit = held.projection_session()
        unit.store(label)
        await held.commit_batch(unit, ceiling=1)
    assert await store.session().load(Label, label.id) == label


async def test_a_flat_table_that_nothing_was_written_to_is_put_in_place_too(store):
    """Nor was the store opened with it, or has it a shadow by what was applied."""
    flat = FlatTable("sums", key="id", key_type=UUID, columns={"sum": int})
    shadow = await store.rebuilding.open_shadow(flat.on(Counted, increment={"sum": "by"}))
    await shadow.commit_batch(shadow.projection_session(), floor=0, ceiling=1)
    assert await store.rebuilding.swap(shadow, 1) == 1
    async with store.connection() as connection:
        where = sql.Identifier(store.options.schema, "sums")
        cursor = await connection.execute(sql.SQL("select * from {}").format(where))
        assert await cursor.fetchall() == []


async def test_a_page_of_a_replay_that_is_refused_takes_nothing_with_it(store, projection):
    async with store.rebuilding.holding_appends(projection, None, 0) as held:
        await add(held, 1, ceiling=1)
        refused = held.projection_session()
        refused.store(Total(uuid4()))
        refused.execute("select 1 / 0")
        with pytest.raises(DatabaseError):
            await held.commit_batch(refused, ceiling=2)
        assert (await held.standing()).sequence == 1
        await add(held, 2, ceiling=2)
    assert await totals(store) == [Total(TOTAL, 3, [1, 2])]


@pytest.mark.parametrize("include_archived", [False, True])
async def test_archived_events_are_read_where_the_options_say(store, include_archived):
    projection = aggregate_projection(
        Total, async_options=AsyncOptions(include_archived=include_archived, page_size=2)
    )
    await fill(store, *range(4))
    await append(store, Label(uuid4(), "isn't consumed"), to=STREAMS[0])
    async with store.session() as session:
        session.events.archive_stream(STREAMS[1])
        await session.save_changes()
    wanted = [1, 2, 3, 4] if include_archived else [1, 3, 4]

    async def read(fetch_page):
        floor, found = 0, []
        while floor < 6:
            page = await fetch_page(floor)
            assert len(page.events) <= 2
            found += [event.sequence for event in page.events]
            floor = page.ceiling
        return found

    rebuilding, most = store.rebuilding, 10_000
    whole = rebuilding.part_pages(projection, Part(0, 1), max_bytes=most)
    assert wanted == await read(lambda floor: whole.fetch(floor, 6))
    async with rebuilding.holding_appends(projection, None, 0) as held:
        assert wanted == await read(lambda floor: held.fetch_page(floor, 6, max_bytes=most))


# -- whose they are --


@attrs.frozen
class Other:
    id: UUID


@pytest.mark.parametrize("name", ["x" * 39 + " of Total", "shadow of Total", "x of Total"])
async def test_what_has_a_name_like_a_shadows_is_left_alone(store, projection, name):
    letter = DeadLetter(name, 3, "ValueError", "no")
    unit = store.projection_session()
    await store.commit_batch(unit, shard=name, floor=0, ceiling=5, dead_letters=[letter])
    shadow = await store.rebuilding.open_shadow(projection)
    await shadow.discard()
    query = sql.SQL("select sequence from {}.{} where shard = %s")
    found = []
    async with store.connection() as connection:
        for kept in ("progress", "dead_letters"):
            where = map(sql.Identifier, (store.options.schema, kept))
            cursor = await connection.execute(query.format(*where), (name,))
            found += await cursor.fetchall()
    assert found == [(5,), (3,)]


# -- how fast they are merged --


@pytest.mark.parametrize("way", ["swap", "hold"])
async def test_the_planner_knows_a_shadow_before_it_is_put_in_place(
    store, projection, monkeypatch, way
):
    """It would take a table that it knows nothing of for a small one, and go through it row by row."""
    shadow = await store.rebuilding.open_shadow(projection)
    await add(shadow, 1, floor=0, ceiling=1)
    was_taken_over, known = Shadow.was_taken_over, []

    async def look(self, connection):
        where = f"{store.options.schema}.{shadow_table('doc_total')}"
        query = "select reltuples from pg_class where oid = %s::regclass"
        cursor = await connection.execute(query, (where,))
        known.extend(await cursor.fetchone())
        return await was_taken_over(self, connection)

    monkeypatch.setattr(Shadow, "was_taken_over", look)
    if way == "swap":
        await store.rebuilding.swap(shadow, 1)
    else:
        async with store.rebuilding.holding_appends(projection, shadow, 1):
            pass
    assert known == [1]
    assert await totals(store) == [Total(TOTAL, 1, [1])]
