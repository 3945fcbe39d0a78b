"""Pages of events in the order of their sequence."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import attrs
import pytest
from psycopg.conninfo import make_conninfo

from flowstore.errors import InvalidEventError, UnknownEventTypeError
from flowstore.postgres import Connection
from flowstore.store import StoreOptions, open_event_store


@attrs.frozen
class Opened:
    title: str = ""


@attrs.frozen
class Closed:
    pass


async def append(store, *events, stream_id=None):
    async with store.session() as session:
        session.events.append(stream_id or uuid4(), *events)
        await session.save_changes()


@pytest.fixture
async def six(store):
    """Opened and Closed in turns, three of each, sequences 1 to 6."""
    for _ in range(3):
        await append(store, Opened("x"), Closed())


def sequences(page):
    return [event.sequence for event in page.events]


async def test_floor_is_exclusive_and_the_mark_inclusive(store, six):
    page = await store.fetch_page(2, 4)
    assert (page.floor, sequences(page), page.ceiling) == (2, [3, 4], 4)


async def test_a_page_that_hits_its_limit_ends_at_its_last_event(store, six):
    page = await store.fetch_page(0, 6, limit=4)
    assert (sequences(page), page.ceiling) == ([1, 2, 3, 4], 4)


async def test_a_page_below_its_limit_ends_at_the_mark(store, six):
    page = await store.fetch_page(4, 100, limit=3)
    assert (sequences(page), page.ceiling) == ([5, 6], 100)


async def test_a_page_of_types_passes_over_the_others(store, six):
    page = await store.fetch_page(0, 6, types=[Closed], limit=2)
    assert (sequences(page), page.ceiling) == ([2, 4], 4)
    page = await store.fetch_page(4, 5, types=[Closed])
    assert (sequences(page), page.ceiling) == ([], 5)


async def test_a_page_with_the_mark_at_its_floor_is_empty(store, six):
    page = await store.fetch_page(6, 3)
    assert (sequences(page), page.ceiling) == ([], 6)


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"limit": 2},
        {"max_bytes": 1},
        {"max_bytes": 40},
        {"types": [Closed], "limit": 2},
        {"types": [Opened], "include_archived": True},
    ],
)
async def test_a_look_gives_the_mark_and_the_page_up_to_there(store, six, how):
    for floor in (0, 1, 4, 6, 9):
        assert await store.look(floor, **how) == (6, await store.fetch_page(floor, 6, **how))


@pytest.mark.parametrize("identity", ["uuid", "string"])
async def test_what_a_look_gives_is_to_the_last_detail_what_a_page_gives(pg_dsn, schema, identity):
    """It is read by hand: text in another encoding, and times in UTC wherever the session is."""
    session_of = "-c timezone=America/Caracas -c client_encoding=latin1"
    dsn = make_conninfo(pg_dsn, options=session_of)
    options = StoreOptions(schema=schema, stream_identity=identity, tenancy="conjoined")
    async with open_event_store(dsn, options) as store:
        for tenant, more in [
            ("tenänt", {}),
            ("b", {"correlation_id": "cörr", "causation_id": "", "user_name": "Ada"}),
            ("b", {"headers": {"a": [1, None, "ü"], "b": {"c": 1.5}}}),
        ]:
            stream_id = uuid4() if identity == "uuid" else f"Strøm {tenant} {len(more)}"
            async with store.session(tenant_id=tenant, **more) as session:
                session.events.append(stream_id, Opened('Ünïcode \\ "quoted"'), Closed())
                await session.save_changes()
        _, page = await store.look(0)
        assert len(page.events) == 6
        for seen, paged in zip(page.events, (await store.fetch_page(0, 6)).events, strict=True):
            assert seen == paged
            assert repr(seen) == repr(paged)
            assert seen.timestamp.utcoffset() == timedelta(0)


async def test_a_look_leaves_out_young_events(store, six):
    mark, page = await store.look(0, leading_edge_buffer=60)
    assert (mark, sequences(page), page.ceiling) == (0, [], 0)


async def test_a_look_passes_over_archived_and_skipped_events_and_tells_of_failures(store, pg_dsn):
    archived, skipped = uuid4(), uuid4()
    await append(store, Opened("a"), Opened("b"), stream_id=archived)
    await append(store, Opened("c"), stream_id=skipped)
    await append(store, Closed())
    async with store.session() as session:
        (event,) = await session.events.fetch_stream(skipped)
        session.events.archive_stream(archived)
        await session.save_changes()
    await store.skip_event(event.id)
    async with open_event_store(pg_dsn, StoreOptions(schema=store.options.schema)) as stranger:
        mark, page = await stranger.look(0)
        assert (mark, sequences(page), page.ceiling) == (4, [], 4)
        assert [failure.sequence for failure in page.failures] == [4]


async def test_archived_events_are_passed_over_unless_asked_for(store):
    stream_id = uuid4()
    await append(store, Opened("a"), stream_id=stream_id)
    await append(store, Opened("b"))
    async with store.session() as session:
        session.events.archive_stream(stream_id)
        await session.save_changes()
    assert sequences(await store.fetch_page(0, 2)) == [2]
    assert sequences(await store.fetch_page(0, 2, include_archived=True)) == [1, 2]


async def test_an_unknown_type_is_a_failure_where_everything_is_wanted(store, six, pg_dsn):
    options = StoreOptions(schema=store.options.schema)
    options.events.add_types(Closed)
    async with open_event_store(pg_dsn, options) as other:
        page = await other.fetch_page(0, 6)
        assert sequences(page) == [2, 4, 6]
        assert [failure.sequence for failure in page.failures] == [1, 3, 5]
        assert isinstance(page.failures[0].error, UnknownEventTypeError)
        assert (page.failures[0].type_name, page.failures[0].version) == ("opened", 1)
        assert (await other.fetch_page(0, 6, types=[Closed])).failures == ()


async def test_what_does_not_fit_its_type_is_a_failure_among_good_events(store, six, schema):
    async with store.connection() as connection:
        await connection.execute("set session_replication_role = replica")  # no triggers
        await connection.execute(f"update {schema}.events set data = '3' where sequence = 3")
        await connection.execute("reset session_replication_role")
    page = await store.fetch_page(0, 6, types=[Opened])
    assert (sequences(page), page.ceiling) == ([1, 5], 6)
    (failure,) = page.failures
    assert (failure.sequence, type(failure.error)) == (3, InvalidEventError)


async def test_an_alias_and_an_old_name_are_both_read(store, six, pg_dsn):
    options = StoreOptions(schema=store.options.schema)
    options.events.alias(Opened, "opened")
    options.events.alias(Opened, "issue_opened")
    async with open_event_store(pg_dsn, options) as other:
        await append(other, Opened("new"))
        page = await other.fetch_page(0, 7, types=[Opened])
        assert [event.type_name for event in page.events] == ["opened"] * 3 + ["issue_opened"]


async def test_the_sequence_before_a_time_goes_by_when_it_was_recorded(store, six):
    now = datetime.now(UTC)
    assert await store.sequence_before(now - timedelta(hours=1)) == 0
    assert await store.sequence_before(now + timedelta(hours=1)) == 6


async def test_a_look_passes_no_number_that_somebody_else_still_has(store, pg_dsn):
    """It knows the mark without asking for locks only where every number since is there."""
    insert = (
        f'insert into "{store.options.schema}".events (stream_id, version, type, data)'
        " values (gen_random_uuid(), 1, 'opened', '{}')"
    ).encode()
    async with (
        await Connection.connect(pg_dsn, autocommit=False) as first,
        await Connection.connect(pg_dsn, autocommit=False) as second,
    ):
        await append(store, Opened())  # 1
        assert (await store.look(0))[0] == 1
        await first.execute(insert)  # 2
        assert (await store.look(1))[0] == 1
        await append(store, Opened())  # 3
        mark, page = await store.look(1)
        assert (mark, sequences(page)) == (1, [])
        await first.commit()
        await second.execute(insert)  # 4
        # The bound of whoever holds 4 doesn't hold what is below it.
        mark, page = await store.look(1)
        assert (mark, sequences(page), page.ceiling) == (3, [2, 3], 3)
        await second.rollback()
        mark, page = await store.look(3)
        assert (mark, sequences(page), page.ceiling) == (4, [], 4)
        await append(store, Opened())  # 5
        mark, page = await store.look(4)
        assert (mark, sequences(page), page.ceiling) == (5, [5], 5)
        assert await store.high_water() == 5


@pytest.mark.parametrize("many", [1, 19, 20, 21, 22, 60])
async def test_a_look_at_many_new_events_gives_all_of_them(store, many):
    await append(store, Opened())
    assert (await store.look(0))[0] == 1
    await append(store, *[Opened()] * many)
    mark, page = await store.look(1)
    assert (mark, sequences(page), page.ceiling) == (
        many + 1,
        list(range(2, many + 2)),
        many + 1,
    )


async def test_a_look_follows_a_sequence_that_was_set_back(store):
    await append(store, *[Opened()] * 5)
    assert (await store.look(0))[0] == 5
    async with store.connection() as connection:
        await connection.execute(
            f"select setval('\"{store.options.schema}\".events_sequence', 3)".encode()
        )
    assert (await store.look(5))[0] == await store.high_water() == 3
