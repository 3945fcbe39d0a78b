"""What is queued is one transaction: no statement may end it."""

import pytest

from flowstore.errors import DatabaseError

ENDING = [
    "commit",
    "COMMIT AND CHAIN",
    " ;; rollback",
    "end",
    "abort",
    "begin",
    "start transaction",
    "rollback work",
    "rollback prepared 'a'",
    "commit prepared 'a'",
    "prepare transaction 'a'",
    "-- by the way\ncommit",
    "/* by the way */ -- and\n commit",
    b"commit",
]
STAYING = [
    "savepoint here",
    "rollback to here",
    "Rollback Work To Savepoint here",
    "release here",
    "select 1 as commit",
    "select 'commit'",
    "-- commit\nselect 1",
    "/* commit */ select 1",
    "prepare endings as select 1",
    "deallocate endings",
]


@pytest.mark.parametrize("statement", ENDING)
async def test_a_statement_that_ends_the_transaction_is_refused(store, statement):
    with pytest.raises(DatabaseError, match="transaction") as caught:
        store.session().execute(statement)
    assert caught.value.sqlstate == "2D000"


async def test_statements_that_stay_within_it_are_run(store):
    async with store.session() as session:
        for statement in STAYING:
            session.execute(statement)
        await session.save_changes()


async def test_a_queue_that_is_larger_than_the_sockets_buffers_is_committed(store):
    async with store.connection() as connection:
        await connection.execute(f"create table {store.options.schema}.texts (body text)")
    async with store.session() as session:
        for _ in range(3):
            insert = f"insert into {store.options.schema}.texts values (%s)"
            session.execute(insert, "x" * 5_000_000)
        await session.save_changes()
    async with store.connection() as connection:
        query = f"select sum(length(body)) from {store.options.schema}.texts"
        assert await (await connection.execute(query)).fetchone() == (15_000_000,)
