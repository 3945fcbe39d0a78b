"""A rebuild's result gets into a table that unique indexes watch over, changing only what differs."""

from uuid import UUID

import attrs
import pytest
from psycopg import sql
from psycopg.errors import LockNotAvailable

from flowstore.daemon import open_store
from flowstore.errors import ConcurrencyError, DatabaseError
from flowstore.projections import FlatTable, Lifecycle
from flowstore.store import StoreOptions, expression

STREAMS = [UUID(int=number) for number in range(1, 6)]
NAMES = ["ada", "bob", "cid", "dot", "eve"]


@attrs.frozen
class Named:
    name: str | None


@attrs.define
class Account:
    id: UUID
    name: str | None = ""

    def apply(self, named: Named) -> None:
        self.name = named.name


def flat():
    return FlatTable("names", key="stream", key_type=UUID, columns={"name": str}).on(
        Named, set={"name": "name"}
    )


async def publish(store):
    for stream, name in zip(STREAMS, NAMES, strict=True):
        async with store.session() as session:
            session.events.append(stream, Named(name))
            await session.save_changes()


class Database:
    """Runs statements in which `{}` is a table of the test's schema."""

    def __init__(self, store, name):
        self.store, self.table = store, sql.Identifier(store.options.schema, name)

    async def run(self, statement, *parameters):
        async with self.store.connection() as connection:
            query = sql.SQL(statement).format(self.table).as_bytes()
            cursor = await connection.execute(query, parameters or None)
            return await cursor.fetchall() if cursor.description else None


@pytest.fixture(params=["async", "inline"])
def lifecycle(request):
    return Lifecycle(request.param)


def options_for(schema, lifecycle):
    options = StoreOptions(schema=schema)
    options.documents.type(
        Account, optimistic_concurrency=True, indexes=(expression("data ->> 'name'", unique=True),)
    )
    options.projections.aggregate_streams_with(Account, lifecycle=lifecycle)
    options.projections.add(flat(), lifecycle=lifecycle)
    return options


@pytest.fixture
async def store(pg_dsn, schema, lifecycle):
    async with open_store(pg_dsn, options_for(schema, lifecycle)) as opened:
        await publish(opened)
        async with opened.build_projection_daemon() as daemon:
            await daemon.catch_up()
        yield opened


async def rebuild(store, name):
    async with store.build_projection_daemon() as daemon:
        await daemon.rebuild(name, swap=True)


async def exchange(documents):
    """Have the first two documents have each other's names."""
    for stream, name in [(STREAMS[0], "x"), (STREAMS[1], "ada"), (STREAMS[0], "bob")]:
        name_it = (
            "update {} set data = jsonb_set(data, '{{name}}', to_jsonb(%s::text)) where id = %s"
        )
        await documents.run(name_it, name, stream)


async def accounts(store):
    return sorted((each.id, each.name) for each in await store.session().find(Account))


async def test_documents_that_have_each_others_unique_value_are_put_right(store):
    documents = Database(store, "doc_account")
    await exchange(documents)
    versions = "select id, version from {} order by id"
    before = dict(await documents.run(versions))
    await rebuild(store, Account)
    assert await accounts(store) == list(zip(STREAMS, NAMES, strict=True))
    after = dict(await documents.run(versions))
    assert {stream: after[stream] - before[stream] for stream in STREAMS} == dict(
        zip(STREAMS, (1, 1, 0, 0, 0), strict=True)
    )
    left = "select 1 from pg_tables where schemaname = %s and tablename like 'shadow%%'"
    assert await documents.run(left, store.options.schema) == []


async def test_a_document_that_an_orphan_or_a_later_one_keeps_from_its_value_gets_it(store):
    documents = Database(store, "doc_account")
    await documents.run("delete from {} where id = %s", STREAMS[0])
    await documents.run(
        "update {} set data = jsonb_set(data, '{{name}}', '\"ada\"') where id = %s", STREAMS[3]
    )
    await documents.run(
        "insert into {0} (tenant_id, id, data) select tenant_id, gen_random_uuid(),"
        " jsonb_set(data, '{{name}}', '\"dot\"') from {0} limit 1"
    )
    await rebuild(store, Account)
    assert await accounts(store) == list(zip(STREAMS, NAMES, strict=True))


async def test_who_loaded_a_document_that_was_taken_out_is_refused(store):
    documents = Database(store, "doc_account")
    await exchange(documents)
    changed, same = store.session(), store.session()
    wrong, right = await changed.load(Account, STREAMS[0]), await same.load(Account, STREAMS[4])
    await rebuild(store, Account)
    changed.store(attrs.evolve(wrong, name="other"))
    with pytest.raises(ConcurrencyError):
        await changed.save_changes()
    same.store(attrs.evolve(right, name="another"))
    await same.save_changes()


async def test_what_others_have_added_to_rows_that_are_taken_out_stays(store):
    rows = Database(store, "names")
    await rows.run("create unique index on {} (name)")
    await rows.run(
        "alter table {} add note text, add place bigint generated always as identity,"
        " add loud text generated always as (upper(name)) stored, add gone int"
    )
    await rows.run("alter table {} drop gone")
    await rows.run("update {} set note = 'of ' || name")
    everything = "select stream, name, note, place, loud from {} order by stream"
    right = await rows.run(everything)
    for stream, name in [(STREAMS[0], "x"), (STREAMS[1], "ada"), (STREAMS[0], "bob")]:
        await rows.run("update {} set name = %s where stream = %s", name, stream)
    await rows.run("delete from {} where stream = %s", STREAMS[2])
    await rebuild(store, "names")
    again = await rows.run(everything)
    assert [row for row in again if row[0] != STREAMS[2]] == [*right[:2], *right[3:]]
    assert [row[1:3] for row in again if row[0] == STREAMS[2]] == [("cid", None)]


async def point_at(documents):
    """Make a table whose rows are deleted with the documents that they point at."""
    points = Database(documents.store, "points")
    await points.run("create table {} (tenant_id text, id uuid)")
    query = sql.SQL(
        "insert into {points} select tenant_id, id from {table};"
        " alter table {points} add foreign key (tenant_id, id) references {table} on delete cascade"
    ).format(points=points.table, table=documents.table)
    async with documents.store.connection() as connection:
        await connection.execute(query.as_bytes())
    return points


async def test_rows_are_changed_where_they_are_if_no_unique_value_is_in_the_way(store):
    documents = Database(store, "doc_account")
    points = await point_at(documents)
    await documents.run(
        "update {} set data = jsonb_set(data, '{{name}}', '\"x\"') where id = %s", STREAMS[0]
    )
    await rebuild(store, Account)
    assert await accounts(store) == list(zip(STREAMS, NAMES, strict=True))
    assert await points.run("select count(*) from {}") == [(5,)]


async def test_rows_that_others_point_at_are_never_taken_out(store):
    documents = Database(store, "doc_account")
    points = await point_at(documents)
    await exchange(documents)
    before = await accounts(store)
    with pytest.raises(DatabaseError, match="unique"):
        await rebuild(store, Account)
    assert await accounts(store) == before
    assert await points.run("select count(*) from {}") == [(5,)]


async def test_what_can_not_be_together_is_an_error_that_changes_nothing(store):
    rows = Database(store, "names")
    await rows.run("update {} set name = repeat('x', right(stream::text, 1)::int)")
    await rows.run("create unique index on {} (length(name))")
    before = await rows.run("select * from {} order by 1")
    with pytest.raises(DatabaseError, match="unique"):
        await rebuild(store, "names")
    assert await rows.run("select * from {} order by 1") == before


async def test_nobody_writes_to_rows_while_they_are_taken_out_and_everybody_reads_them(store):
    projection = store.options.projections.find(Account).projection
    shadow = await store.rebuilding.open_shadow(projection)
    unit = shadow.projection_session()
    unit.store(*await store.session().find(Account))
    await shadow.commit_batch(unit, floor=0, ceiling=len(STREAMS))
    (merging,) = shadow._mergings()
    documents = Database(store, "doc_account")
    async with store.connection() as connection, connection.transaction(force_rollback=True):
        for script in merging.taking_out(["tenant_id", "id", "data", "version", "modified"])[:-1]:
            await connection.execute(script)
            assert await documents.run("select count(*) from {}") == [(len(STREAMS),)]
            with pytest.raises(LockNotAvailable):
                await documents.run("set lock_timeout = 1; update {} set version = 9; commit")
    await shadow.discard()


async def test_a_row_of_nothing_but_nulls_is_a_row(store):
    rows = Database(store, "names")
    async with store.session() as session:
        session.events.append(STREAMS[0], Named(None))
        await session.save_changes()
    async with store.build_projection_daemon() as daemon:
        await daemon.catch_up()
    await rows.run("delete from {} where stream = %s", STREAMS[0])
    await rebuild(store, "names")
    assert await rows.run("select name from {} where stream = %s", STREAMS[0]) == [(None,)]
