"""Creating the schema and bringing it up to date."""

from uuid import UUID, uuid4

import attrs
import pytest
import trio
from psycopg import sql

from flowstore.errors import DatabaseError, DatabaseUnavailableError, RegistrationError, SchemaError
from flowstore.postgres import Connection
from flowstore.store import StoreOptions, assert_schema, open_event_store
from flowstore.store._migrations import (
    Migration,
    check_numbering,
    packaged_migrations,
    pending_migrations,
)
from flowstore.store._schema_plan import NOTHING, plan_schema, target_of


@attrs.define
class Note:
    id: str


@attrs.define
class Count:
    id: UUID
    number: int = 0

    def apply(self, _: Note) -> None:
        self.number += 1


async def use(store):
    async with store.session() as session:
        session.store(Note("x"))
        await session.save_changes()
        return await session.load(Note, "x")


async def run(store, query):
    async with store.connection() as connection:
        await connection.execute(sql.SQL(query).format(sql.Identifier(store.options.schema)))


@pytest.mark.parametrize(
    "name",
    [
        'quote " and % and {brace}',
        "$flowstore_0$ $$ $body$",
        "select",
        "Ünïcode ☃",
        "back\\slash 'apostrophe'",
        "x" * 63,
        "; drop table events; --",
    ],
)
async def test_any_name_can_be_a_schema(dsn, name):
    for _ in range(2):
        async with open_event_store(dsn, StoreOptions(schema=name)) as store:
            assert await use(store) == Note("x")
            async with store.session() as session:
                session.events.append(uuid4(), Note("y"))
                await session.save_changes()
            assert await store.high_water(leading_edge_buffer=0.001) >= 0
            assert len((await store.fetch_page(0, 9, types=[Note])).events) >= 1


@pytest.mark.parametrize(
    "name",
    ["x" * 64, "ü" * 32, "", "nul\0", "line\nfeed", "pg_mine", "information_schema", b"bytes"],
)
def test_a_name_that_postgres_would_change_or_refuse_is_refused(name):
    with pytest.raises(SchemaError, match="schema name"):
        StoreOptions(schema=name)


@pytest.mark.parametrize("wrong", [{"stream_identity": "int"}, {"tenancy": 1}, {"auto_create": ""}])
def test_an_impossible_option_lists_the_possible(wrong):
    with pytest.raises(SchemaError, match="choose one of"):
        StoreOptions(**wrong)


async def test_stores_that_open_at_once_create_the_schema_once(pg_dsn, schema):
    async def open_and_use():
        async with open_event_store(pg_dsn, StoreOptions(schema=schema)) as store:
            await use(store)

    async with trio.open_nursery() as nursery:
        for _ in range(6):
            nursery.start_soon(open_and_use)


async def test_nothing_is_created_where_that_is_asked_for(opening):
    with pytest.raises(SchemaError, match="auto_create"):
        async with opening(auto_create="none"):
            pass
    async with opening():
        pass
    async with opening(auto_create="none") as store:
        with pytest.raises(SchemaError, match="doc_note"):
            await use(store)
    async with opening() as store:
        await use(store)
    async with opening(auto_create="none") as store:
        assert await use(store) == Note("x")


async def make_older(dsn, schema):
    """Make a schema as a version before the latest migration would have."""
    target = target_of(StoreOptions(schema=schema))
    older = attrs.evolve(target, migrations=target.migrations[:-1])
    async with await Connection.connect(dsn) as connection:
        for step in plan_schema(older, NOTHING):
            await connection.execute(step.script)
    return target.migrations[-1].title


async def test_create_only_creates_a_whole_schema(opening):
    async with opening(auto_create="create_only") as store:
        await use(store)


@pytest.mark.parametrize("auto_create", ["none", "create_only"])
async def test_a_migration_that_may_not_be_applied_is_named(opening, pg_dsn, schema, auto_create):
    lacking = await make_older(pg_dsn, schema)
    with pytest.raises(SchemaError, match=lacking):
        async with opening(auto_create=auto_create):
            pass


async def test_a_migration_that_is_missing_is_applied(opening, pg_dsn, schema):
    await make_older(pg_dsn, schema)
    async with opening(auto_create="create_or_update") as store:
        await use(store)
    await assert_schema(pg_dsn, StoreOptions(schema=schema))


async def test_a_schema_made_by_another_text_is_refused(opening):
    async with opening() as store:
        await run(store, "update {}.migrations set checksum = 'x' where number = 2")
    with pytest.raises(SchemaError, match="high_water"):
        async with opening():
            pass


def test_pending_migrations_are_those_that_the_schema_lacks():
    known = [Migration(1, "a", "select 1"), Migration(2, "b", "select 2")]
    applied = {1: known[0].checksum}
    assert pending_migrations("s", known, {}) == tuple(known)
    assert pending_migrations("s", known, applied) == (known[1],)
    with pytest.raises(SchemaError, match="migration 3"):
        pending_migrations("s", known, {**applied, 3: "x"})
    with pytest.raises(SchemaError, match="checksum"):
        pending_migrations("s", known, {1: "x"})
    with pytest.raises(SchemaError, match="lacks 1:"):
        pending_migrations("s", known, {2: known[1].checksum})


def test_the_packaged_migrations_are_numbered_without_gaps():
    numbers = [migration.number for migration in packaged_migrations()]
    assert numbers == list(range(1, len(numbers) + 1))


@pytest.mark.parametrize("numbers", [(2,), (1, 3), (1, 2, 2), (0, 1)])
def test_migrations_with_a_hole_in_their_numbers_are_refused(numbers):
    with pytest.raises(SchemaError, match="without gaps"):
        check_numbering([Migration(number, "x", "select 1") for number in numbers])


async def test_a_schema_whose_bookkeeping_has_a_hole_is_refused(opening):
    async with opening() as store:
        await run(store, "delete from {}.migrations where number = 2")
    with pytest.raises(SchemaError, match="lacks 2"):
        async with opening():
            pass


async def test_a_schema_of_a_newer_version_is_refused(opening):
    async with opening() as store:
        await run(store, "insert into {}.migrations select max(number) + 1, 'x', 'x' from {0}.migrations"
                  .replace("{}", "{0}"))  # fmt: skip
    with pytest.raises(SchemaError, match="install the version that made it"):
        async with opening():
            pass


async def test_streams_known_otherwise_are_refused(opening):
    async with opening(stream_identity="string"):
        pass
    with pytest.raises(SchemaError, match="stream_identity"):
        async with opening():
            pass


async def test_a_sequence_that_hands_out_blocks_is_refused(opening):
    async with opening() as store:
        await run(store, "alter sequence {}.events_sequence cache 10")
    with pytest.raises(SchemaError, match="CACHE 10"):
        async with opening():
            pass


async def test_a_table_whose_ids_are_of_another_type_is_refused(opening):
    @attrs.define
    class Renamed:
        id: int

    async with opening() as store:
        await use(store)
    async with opening() as store:
        store.options.documents.type(Renamed, name="Note")
    with pytest.raises(SchemaError, match="text"):
        async with opening(documents=store.options.documents):
            pass


async def test_tables_of_registered_types_are_there_once_the_store_is_open(opening, schema):
    async with opening() as store:
        store.options.projections.aggregate_streams_with(Count)
        store.options.documents.type(Note)
    shared = {"documents": store.options.documents, "projections": store.options.projections}
    async with opening(**shared) as store, store.connection() as connection:
        query = "select to_regclass(%s) is not null"
        for table in ("doc_note", "doc_count"):
            cursor = await connection.execute(query, (f"{schema}.{table}",))
            assert await cursor.fetchone() == (True,)


async def test_a_produced_type_that_cannot_be_a_document_is_refused_at_opening(opening):
    @attrs.define
    class Odd:
        id: float = 0.0

        def apply(self, _: Note) -> None:
            pass

    async with opening() as store:
        store.options.projections.aggregate_streams_with(Odd)
    with pytest.raises(RegistrationError, match="float"):
        async with opening(projections=store.options.projections):
            pass


async def test_a_server_that_is_not_there_is_unavailable():
    with pytest.raises(DatabaseUnavailableError):
        async with open_event_store("host=/nonexistent dbname=x"):
            pass


async def test_a_database_that_refuses_is_translated(store):
    with pytest.raises(DatabaseError) as caught:
        await store.session().query(Note, "no such column")
    assert caught.value.sqlstate == "42601"
    assert caught.value.__cause__ is not None


async def test_the_repr_shows_no_password(pg_dsn, schema):
    async with open_event_store(f"{pg_dsn} password=secret", StoreOptions(schema=schema)) as store:
        assert "secret" not in repr(store)
        assert "secret" in store.dsn
        assert schema in repr(store)
        assert "secret" not in repr(store.session())


async def test_connections_call_themselves_flowstore(store):
    async with store.connection() as connection:
        cursor = await connection.execute("show application_name")
        assert (await cursor.fetchone())[0].startswith("flowstore")
