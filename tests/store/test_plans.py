"""How PostgreSQL looks documents up when their table has grown since it planned that."""

from uuid import UUID

import attrs
import pytest
from psycopg import sql

from flowstore.store import HeldDocuments, OpenDocuments

SOME, OFTEN = 40, 12
FILL = """
insert into {} (tenant_id, id, data)
select '*DEFAULT*', i.id, json_build_object('id', i.id, 'text', repeat('x', 200))::jsonb
from generate_series(1, 20000) as n, lateral (select md5(n::text)::uuid as id) as i"""


@attrs.frozen
class Leaf:
    id: UUID
    text: str = ""


async def run(store, query, table):
    async with store.connection() as connection:
        cursor = await connection.execute(sql.SQL(query).format(table), prepare=False)
        return None if cursor.description is None else await cursor.fetchall()


async def times_read_whole(store, table):
    await run(store, "select pg_stat_force_next_flush()", table)
    told = "select pg_stat_get_numscans(to_regclass({})::oid)"
    ((times,),) = await run(store, told, sql.Literal(table.as_string()))
    return times


async def load_in_a_session(store, identities):
    return await store.session().load_many(Leaf, identities)


async def load_in_a_span(store, identities):
    unit = store.projection_session()
    unit.keep(OpenDocuments(HeldDocuments(frozenset({Leaf}), 1_000_000)))
    return await unit.load_many(Leaf, identities)


@pytest.mark.parametrize("load", [load_in_a_session, load_in_a_span])
async def test_a_table_that_was_known_to_be_empty_is_not_read_whole_when_it_is_large(
    store, schema, load
):
    table = sql.Identifier(schema, "doc_leaf")
    nobody = [UUID(int=number) for number in range(SOME)]
    assert await load(store, nobody) == []
    # Analyzed, rather than never looked at: of nothing, reading all is what takes the least.
    await run(store, "vacuum analyze {}", table)
    for _ in range(OFTEN):  # often enough for a plan to be kept
        assert await load(store, nobody) == []
    await run(store, FILL, table)
    stored = [row[0] for row in await run(store, f"select id from {{}} limit {SOME}", table)]
    before = await times_read_whole(store, table)
    for _ in range(OFTEN):
        assert len(await load(store, stored)) == SOME
    assert await times_read_whole(store, table) == before
