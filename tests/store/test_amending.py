"""Append-only, and the few things that are done to events all the same."""

from uuid import UUID, uuid4

import attrs
import psycopg
import pytest
from psycopg import sql

from flowstore.errors import ConcurrencyError, InvalidEventError, UnknownEventTypeError
from flowstore.projections import Lifecycle
from flowstore.store import StoreOptions, open_event_store


@attrs.frozen
class Registered:
    name: str
    age: int = 0


@attrs.define
class Moved:
    street: str


@attrs.frozen
class Left:
    pass


@attrs.define
class Person:
    id: UUID
    name: str = ""
    street: str = ""
    version: int = 0

    def apply(self, registered: Registered) -> None:
        self.name += registered.name

    def apply_moved(self, moved: Moved) -> None:
        self.street = moved.street


def hide_street(moved):
    moved.street = "***"


@pytest.fixture
def options(options):
    options.events.mask(Registered, lambda event: attrs.evolve(event, name="***"))
    options.events.mask(Moved, hide_street)
    return options


@pytest.fixture
async def stream_id(store):
    stream_id = uuid4()
    async with store.session(headers={"h": 1}, user_name="me") as session:
        session.events.append(stream_id, Registered("Ada", 36), Left(), Moved("High Street"))
        await session.save_changes()
    return stream_id


async def fetch(store, stream_id, **asked):
    return await store.session().events.fetch_stream(stream_id, **asked)


async def data_of(store, stream_id, **asked):
    return [event.data for event in await fetch(store, stream_id, **asked)]


# -- append-only ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [
        "update {} set data = '{{}}'",
        "update {} set version = version + 1",
        "update {} set data = data",
        "update {} set archived = true",
        "update {} set skipped = true",
        "delete from {}",
        "delete from {} where false",
        "truncate {}",
        "truncate {} cascade",
    ],
)
async def test_events_can_not_be_changed(store, stream_id, schema, statement):
    before = await fetch(store, stream_id)
    async with store.connection() as connection:
        with pytest.raises(psycopg.Error, match="append-only") as caught:
            await connection.execute(sql.SQL(statement).format(sql.Identifier(schema, "events")))
    assert caught.value.sqlstate == "FS009"
    assert await fetch(store, stream_id) == before


@pytest.mark.parametrize(
    ("verb", "change"),
    [
        ("archive", "data = '{{}}'"),
        ("archive", "skipped = true"),
        ("skip", "archived = true"),
        ("mask", "version = version + 1"),
        ("mask", "timestamp = now()"),
        ("mask", "user_name = 'you'"),
        ("compact", "version = version + 1"),
        ("compact", "tenant_id = 'x'"),
        ("other", "data = '{{}}'"),
    ],
)
async def test_what_may_be_changed_for_one_reason_may_not_for_another(
    store, stream_id, schema, verb, change
):
    update = sql.SQL("update {} set " + change).format(sql.Identifier(schema, "events"))
    async with store.connection() as connection, connection.transaction(force_rollback=True):
        await connection.execute("select set_config('flowstore.verb', %s, true)", (verb,))
        with pytest.raises(psycopg.Error, match="append-only"):
            await connection.execute(update)


async def test_a_function_that_may_change_events_leaves_nothing_open_behind_it(
    store, stream_id, schema
):
    async with store.connection() as connection, connection.transaction(force_rollback=True):
        (event, *_) = await fetch(store, stream_id)
        call = sql.SQL("select {}(%s)").format(sql.Identifier(schema, "skip_event"))
        await connection.execute(call, (event.id,))
        with pytest.raises(psycopg.Error, match="append-only"):
            await connection.execute(
                sql.SQL("update {} set skipped = false").format(sql.Identifier(schema, "events"))
            )


# -- masking -------------------------------------------------------------------------------------


async def test_masking_changes_the_data_that_a_rule_changes_and_nothing_else(store, stream_id):
    before = await fetch(store, stream_id)
    assert await store.mask_stream(stream_id) == 2
    after = await fetch(store, stream_id)
    assert [event.data for event in after] == [Registered("***", 36), Left(), Moved("***")]
    assert [attrs.evolve(event, data=None) for event in after] == [
        attrs.evolve(event, data=None) for event in before
    ]


async def test_masking_again_changes_nothing(store, stream_id):
    await store.mask_stream(stream_id)
    assert await store.mask_stream(stream_id) == 0
    assert await store.mask_stream(uuid4()) == 0


async def test_masking_reaches_archived_and_skipped_events(store, stream_id):
    first, *_ = await fetch(store, stream_id)
    await store.skip_event(first.id)
    async with store.session() as session:
        session.events.archive_stream(stream_id)
        await session.save_changes()
    assert await store.mask_stream(stream_id) == 2
    masked = await data_of(store, stream_id, include_archived=True)
    assert masked == [Registered("***", 36), Left(), Moved("***")]


async def test_masking_leaves_other_streams_and_tenants_alone(opening, options):
    stream_id, other = uuid4(), uuid4()
    async with opening(tenancy="conjoined", events=options.events) as store:
        for tenant, stream in (("a", stream_id), ("b", stream_id), ("a", other)):
            async with store.session(tenant_id=tenant) as session:
                session.events.append(stream, Registered("Ada"))
                await session.save_changes()
        assert await store.mask_stream(stream_id, tenant_id="a") == 1
        events = store.session(tenant_id="b").events
        assert (await events.fetch_stream(stream_id))[0].data.name == "Ada"
        events = store.session(tenant_id="a").events
        assert (await events.fetch_stream(other))[0].data.name == "Ada"
        assert (await events.fetch_stream(stream_id))[0].data.name == "***"


async def test_a_type_that_is_not_known_can_not_be_masked(pg_dsn, store, stream_id):
    options = StoreOptions(schema=store.options.schema)
    options.events.mask(Registered, lambda event: attrs.evolve(event, name="***"))
    options.events.add_types(Registered)
    async with open_event_store(pg_dsn, options) as stranger:
        with pytest.raises(UnknownEventTypeError):
            await stranger.mask_stream(stream_id)
    assert (await data_of(store, stream_id))[0].name == "Ada"


async def test_a_compaction_of_what_was_masked_meanwhile_is_refused(store, stream_id):
    async with store.session() as session:
        await session.events.compact_stream(Person, stream_id)
        await store.mask_stream(stream_id)
        with pytest.raises(ConcurrencyError):
            await session.save_changes()
    assert (await data_of(store, stream_id))[0].name == "***"


# -- skipping ------------------------------------------------------------------------------------


async def test_a_skipped_event_is_passed_over_and_stays_in_its_stream(store, stream_id):
    first, _, last = await fetch(store, stream_id)
    await store.skip_event(last.id)
    await store.skip_event(last.id)
    page = await store.fetch_page(0, 3)
    assert ([event.sequence for event in page.events], page.ceiling) == ([1, 2], 3)
    page = await store.fetch_page(0, 3, types=[Registered, Moved])
    assert [event.sequence for event in page.events] == [first.sequence]
    assert len(await fetch(store, stream_id)) == 3
    assert await store.session().events.load(last.id) == last
    folded = await store.session().events.aggregate_stream(Person, stream_id)
    assert folded == Person(stream_id, "Ada", "", 2)
    async with store.session() as session:
        handle = await session.events.fetch_for_writing(Person, stream_id)
        assert (handle.aggregate, handle.starting_version) == (folded, 3)
        handle.append(Moved("Low Street"))
        await session.save_changes()


async def test_compacting_a_stream_takes_skipped_events_along(store, stream_id):
    *_, last = await fetch(store, stream_id)
    await store.skip_event(last.id)
    async with store.session() as session:
        await session.events.compact_stream(Person, stream_id)
        await session.save_changes()
    (event,) = await fetch(store, stream_id)
    assert (event.version, event.data.restored(Person).street) == (3, "")
    assert (await store.session().events.aggregate_stream(Person, stream_id)).name == "Ada"


async def test_an_event_that_is_not_there_can_not_be_skipped(store):
    with pytest.raises(InvalidEventError, match="no event is stored"):
        await store.skip_event(uuid4())


async def test_a_skipped_event_is_skipped_after_a_move_too(store, stream_id, tmp_path, dsn):
    *_, last = await fetch(store, stream_id)
    await store.skip_event(last.id)
    await store.export_events(tmp_path / "events")
    async with open_event_store(dsn, StoreOptions()) as other:
        await other.import_events(tmp_path / "events")
        other.options.events.add_types(Registered, Moved, Left)
        folded = await other.session().events.aggregate_stream(Person, stream_id)
        assert folded == Person(stream_id, "Ada", "", 2)


async def test_an_inline_document_stays_as_it_is(opening):
    async with opening() as store:
        store.options.projections.aggregate_streams_with(Person, lifecycle=Lifecycle.INLINE)
        async with store.session() as session:
            action = session.events.append(uuid4(), Registered("Ada"))
            await session.save_changes()
            await store.skip_event(action.events[0].id)
            assert (await session.load(Person, action.stream_id)).name == "Ada"
