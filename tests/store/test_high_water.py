"""How far it is safe to read, while others append.

Another writer is a plain connection that inserts into the events table, as any client of the
database may. It holds its transaction open for as long as a test needs.
"""

from contextlib import asynccontextmanager
from uuid import uuid4

import attrs
import pytest
import trio
from psycopg import sql

from flowstore.errors import DatabaseError
from flowstore.postgres import Connection
from flowstore.store import StoreOptions, open_event_store


@attrs.frozen
class Happened:
    what: str = ""


async def append(store, count=1):
    async with store.session() as session:
        session.events.append(uuid4(), *[Happened()] * count)
        await session.save_changes()


def insertion(schema):
    return sql.SQL(
        "insert into {} (stream_id, version, type, data)"
        " values (gen_random_uuid(), 1, 'happened', '{{\"what\": \"\"}}')"
    ).format(sql.Identifier(schema, "events"))


@asynccontextmanager
async def writer(dsn):
    async with await Connection.connect(dsn, autocommit=False) as connection:
        yield connection
        await connection.rollback()


async def test_an_empty_store_has_its_mark_at_0(store):
    assert await store.high_water() == 0
    assert await store.highest_sequence() == 0


async def test_the_mark_is_the_last_sequence_when_nobody_appends(store):
    await append(store, 3)
    assert await store.high_water() == 3


async def test_the_first_append_of_all_holds_the_mark_at_0(store, schema, pg_dsn):
    async with writer(pg_dsn) as other:
        await other.execute(insertion(schema))
        await append(store)
        assert await store.highest_sequence() == 2
        assert await store.high_water() == 0
        await other.commit()
        assert await store.high_water() == 2


async def test_an_open_append_holds_the_mark_below_its_events(store, schema, pg_dsn):
    await append(store, 2)
    async with writer(pg_dsn) as other:
        await other.execute(insertion(schema))
        await append(store, 5)
        assert await store.high_water() == 2
        await other.commit()
        assert await store.high_water() == 8


@pytest.mark.parametrize(("volatility", "found"), [("volatile", [(1, 1)]), ("stable", [(1, None)])])
async def test_a_look_sees_what_was_committed_after_its_statement_began(
    store, schema, pg_dsn, volatility, found
):
    """And would lose it with a snapshot for the mark and the page together, as stable functions have."""
    function = sql.Identifier(schema, "look")
    change = sql.SQL("alter function {} {}").format(function, sql.SQL(volatility))
    async with store.connection() as connection:
        await connection.execute(change)
    rows = []

    async def look():
        query = """
            select l.ready, l.sequence
            from (select pg_advisory_xact_lock(77) as gate offset 0) as waited
            cross join lateral {}(0, 0, (waited.gate is null)::int, null, false, 10, null) as l"""
        cursor = await looker.execute(sql.SQL(query).format(function))
        rows.extend(await cursor.fetchall())

    async with writer(pg_dsn) as other, writer(pg_dsn) as gate, writer(pg_dsn) as looker:
        await other.execute(insertion(schema))
        await gate.execute("select pg_advisory_xact_lock(77)")
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(look)
                await until_one_waits(store)
                await other.commit()
                await gate.rollback()
    assert rows == found


async def until_one_waits(store):
    """Wait until somebody waits for an advisory lock of this database."""
    waiting = """
        select count(*) from pg_locks where locktype = 'advisory' and not granted and database = (
            select oid from pg_database where datname = current_database()
        )"""
    while True:
        async with store.connection() as connection:
            (count,) = await (await connection.execute(waiting)).fetchone()
        if count:
            return
        await trio.sleep(0.01)


async def test_the_mark_is_held_at_the_first_number_of_a_long_append(store, schema, pg_dsn):
    async with writer(pg_dsn) as other:
        for _ in range(3):
            await other.execute(insertion(schema))
            await append(store)
        assert await store.high_water() == 0


async def test_a_hole_that_was_rolled_back_holds_nothing(store, schema, pg_dsn):
    async with writer(pg_dsn) as other:
        await other.execute(insertion(schema))
        await append(store)
        await other.rollback()
    assert await store.high_water() == 2
    page = await store.fetch_page(0, 2)
    assert ([event.sequence for event in page.events], page.ceiling) == ([2], 2)


async def test_a_hole_with_nothing_above_it_is_passed(store, schema, pg_dsn):
    async with writer(pg_dsn) as other:
        await other.execute(insertion(schema))
        await other.rollback()
    assert await store.high_water() == 1
    assert (await store.fetch_page(0, 1)).ceiling == 1


async def test_a_transaction_that_does_not_append_holds_nothing(store, pg_dsn):
    async with writer(pg_dsn) as stranger:
        await stranger.execute("create temporary table mine (a integer)")
        await stranger.execute("insert into mine values (1)")
        await append(store)
        assert await store.high_water() == 1


async def test_a_rolled_back_savepoint_takes_its_hold_along(store, schema, pg_dsn):
    async with writer(pg_dsn) as other:
        await other.execute("savepoint before")
        await other.execute(insertion(schema))
        await append(store)
        assert await store.high_water() == 0
        await other.execute("rollback to savepoint before")
        assert await store.high_water() == 2
        await other.execute(insertion(schema))
        await append(store)
        assert await store.high_water() == 2
        await other.commit()
    assert await store.high_water() == 4


async def test_copy_into_the_events_table_holds_the_mark_too(store, schema, pg_dsn):
    statement = sql.SQL("copy {} (stream_id, version, type, data) from stdin").format(
        sql.Identifier(schema, "events")
    )
    async with writer(pg_dsn) as other:
        async with other.cursor() as cursor, cursor.copy(statement) as copy:
            await copy.write_row((uuid4(), 1, "happened", '{"what": ""}'))
        await append(store)
        assert await store.high_water() == 0
        await other.commit()
    assert await store.high_water() == 2


async def test_a_prepared_transaction_holds_the_mark_until_it_is_decided(store, schema, pg_dsn):
    async with writer(pg_dsn) as other:
        cursor = await other.execute("show max_prepared_transactions")
        if await cursor.fetchone() == ("0",):
            pytest.skip("the server keeps no prepared transactions")
        await other.execute(insertion(schema))
        await other.execute("prepare transaction 'flowstore'")
    await append(store)
    assert await store.high_water() == 0
    async with store.connection() as connection:
        await connection.execute("commit prepared 'flowstore'")
    assert await store.high_water() == 2


async def test_an_open_append_of_the_readers_own_connection_holds_the_mark(store, schema):
    async with store.connection() as connection, connection.transaction():
        await connection.execute(insertion(schema))
        cursor = await connection.execute(
            sql.SQL("select safe from {}()").format(sql.Identifier(schema, "high_water"))
        )
        assert await cursor.fetchone() == (0,)


async def test_whoever_holds_the_mark_is_named(store, schema, pg_dsn):
    await append(store, 2)
    async with writer(pg_dsn) as other:
        await other.execute(insertion(schema))
        (held,) = await store.open_appends()
        assert (held.bound, held.pid) == (2, other.info.backend_pid)
        assert held.application_name == "flowstore"
        assert held.state == "idle in transaction"
        assert "insert into" in held.query
        assert held.age >= 0
    assert await store.open_appends() == []


async def test_the_mark_never_goes_back(store, schema, pg_dsn):
    await append(store, 5)
    assert await store.high_water() == 5
    async with writer(pg_dsn) as other:
        # What a writer does that read the position long ago and takes the lock only now.
        await other.execute(
            sql.SQL("select pg_advisory_xact_lock_shared(({}() << 48) | 3)").format(
                sql.Identifier(schema, "high_water_tag")
            )
        )
        assert await store.high_water() == 5


async def test_a_repeatable_read_transaction_is_refused_the_mark(store, schema):
    call = sql.SQL("select safe from {}()").format(sql.Identifier(schema, "high_water"))
    async with store.connection() as connection:
        await connection.execute("set default_transaction_isolation = 'repeatable read'")
    with pytest.raises(DatabaseError, match="read committed") as caught:
        await store.high_water()
    assert caught.value.sqlstate == "FS005"
    async with store.connection() as connection:
        await connection.execute("reset default_transaction_isolation")
        await connection.execute(call)


async def test_young_events_are_left_out_by_the_database_clock(store, schema):
    await append(store, 3)
    assert await store.high_water(leading_edge_buffer=60) == 0
    async with store.connection() as connection:
        await connection.execute("set session_replication_role = replica")  # no triggers
        await connection.execute(
            sql.SQL(
                "update {} set recorded = recorded - interval '2 minutes' where sequence <= 2"
            ).format(sql.Identifier(schema, "events"))
        )
        await connection.execute("reset session_replication_role")
    assert await store.high_water(leading_edge_buffer=60) == 2
    assert await store.high_water() == 3


async def test_a_buffer_does_not_wait_for_a_hole_at_the_end(store, schema, pg_dsn):
    async with writer(pg_dsn) as other:
        await other.execute(insertion(schema))
        await other.rollback()
    assert await store.high_water(leading_edge_buffer=60) == 1


async def test_stores_in_one_database_do_not_hold_each_other(dsn):
    async with (
        open_event_store(dsn, StoreOptions(schema="one")) as one,
        open_event_store(dsn, StoreOptions(schema='T"wo %s {x} $body$ ä')) as two,
        writer(dsn) as other,
    ):
        await other.execute(insertion("one"))
        await append(one)
        await append(two, 2)
        assert (await one.high_water(), await two.high_water()) == (0, 2)
        # The same transaction appends to the other store too, and holds both.
        await other.execute(insertion('T"wo %s {x} $body$ ä'))
        await append(two)
        assert (await one.high_water(), await two.high_water()) == (0, 2)
        await other.commit()
        assert (await one.high_water(), await two.high_water()) == (2, 4)


async def test_a_hold_of_another_database_holds_nothing_here(dsn, store, schema):
    tag = sql.SQL("select {}()").format(sql.Identifier(schema, "high_water_tag"))
    async with store.connection() as connection, writer(dsn) as other:
        (number,) = await (await connection.execute(tag)).fetchone()
        await other.execute("select pg_advisory_xact_lock_shared(%s::bigint << 48)", (number,))
        await append(store)
        assert await store.high_water() == 1
        async with connection.transaction():
            await connection.execute(
                "select pg_advisory_xact_lock_shared(%s::bigint << 48)", (number,)
            )
            assert [held.bound for held in await store.open_appends()] == [0]


# -- nothing is lost, doubled or out of order ----------------------------------------------------


async def write_for_a_while(dsn, schema, number, busy):
    """Append in transactions that stay open, or are rolled back, in a pattern of one's own."""
    async with await Connection.connect(dsn, autocommit=False) as connection:
        for round_ in range(25):
            for _ in range(1 + (number + round_) % 3):
                await connection.execute(insertion(schema))
            for _ in range((number * 7 + round_ * 3) % 9):
                await connection.execute("select 1")
            if (number + round_) % 5:
                await connection.commit()
            else:
                await connection.rollback()
    busy.remove(number)


async def read_beside_writers(store, dsn, schema, mark):
    """Page through the store up to `mark()` while others write; give the sequences as seen."""
    seen, floor = [], 0
    busy = set(range(6))

    async def page_on():
        nonlocal floor
        page = await store.fetch_page(floor, await mark(), limit=50)
        seen.extend(event.sequence for event in page.events)
        floor = page.ceiling

    async with trio.open_nursery() as nursery:
        for number in range(6):
            nursery.start_soon(write_for_a_while, dsn, schema, number, busy)
        while busy:
            await page_on()
    while floor < await mark():
        await page_on()
    return seen


async def stored_sequences(store):
    last = await store.highest_sequence()
    return [event.sequence for event in (await store.fetch_page(0, last, limit=last)).events]


async def test_a_reader_beside_writers_sees_every_event_once_and_in_order(store, schema, dsn):
    options = StoreOptions(schema=schema)
    async with open_event_store(dsn, options) as alone:
        options.events.add_types(Happened)
        seen = await read_beside_writers(alone, dsn, schema, alone.high_water)
        assert seen == await stored_sequences(alone)
        assert len(seen) > 100


async def test_the_highest_sequence_as_the_mark_loses_events(store, schema, dsn):
    """The mistake that the mark is for: it shows that the test above could fail."""
    options = StoreOptions(schema=schema)
    async with open_event_store(dsn, options) as alone:
        options.events.add_types(Happened)
        for _ in range(20):  # what it loses is luck
            seen = await read_beside_writers(alone, dsn, schema, alone.highest_sequence)
            if set(seen) < set(await stored_sequences(alone)):
                return
        raise AssertionError("nothing was lost")
