# pyright: basic, reportOptionalMemberAccess=false, reportArgumentType=false
# pyright: reportAttributeAccessIssue=false, reportCallIssue=false
"""Asking in SQL."""

from contextlib import aclosing
from uuid import uuid4

import pytest

from flowstore.daemon import Store
from flowstore.errors import FlowstoreError
from flowstore.testing.contract._domain import Deposited, Opened, Tally, User, commit, put, values
from flowstore.testing.contract._fixtures import Capability, needs


@needs(Capability.SQL)
class TestSqlQueries:
    async def test_a_condition_on_data(self, store: Store) -> None:
        old, young = User(uuid4(), "Ada", 80), User(uuid4(), "Bob", 8)
        await put(store, old, young)
        async with store.session() as session:
            assert await session.query(User, "(data ->> 'age')::int > %s", 20) == [old]

    async def test_order_and_limit(self, store: Store) -> None:
        await put(store, *(Tally(number, -number) for number in range(10)))
        async with store.session() as session:
            found = await session.query(Tally, "true order by (data ->> 'count')::int limit %s", 3)
        assert [tally.id for tally in found] == [9, 8, 7]

    async def test_parameters_are_values_not_sql(self, store: Store) -> None:
        await put(store, User(uuid4(), "Ada"))
        async with store.session() as session:
            assert await session.query(User, "data ->> 'name' = %s", "x' or true --") == []

    async def test_a_percent_sign_without_parameters(self, store: Store) -> None:
        user = User(uuid4(), "Ada")
        await put(store, user)
        async with store.session() as session:
            assert await session.query(User, "data ->> 'name' like 'A%'") == [user]

    async def test_wrong_sql_is_the_projects_own_error(self, store: Store) -> None:
        async with store.session() as session:
            with pytest.raises(FlowstoreError):
                await session.query(User, "nonsense(")

    async def test_large_results_are_streamed(self, store: Store) -> None:
        await put(store, *(Tally(number, 1) for number in range(1500)))
        count = 0
        async with store.session() as session:
            async with aclosing(session.stream_query(Tally, "true")) as tallies:
                async for tally in tallies:
                    count += tally.count
        assert count == 1500

    async def test_a_stream_may_be_left_early(self, store: Store) -> None:
        await put(store, *(Tally(number, 1) for number in range(1500)))
        async with store.session() as session:
            for _ in range(15):
                async with aclosing(session.stream_query(Tally, "true")) as tallies:
                    async for _tally in tallies:
                        break
            assert len(await session.query(Tally, "true")) == 1500

    async def test_events_are_queried_by_their_columns(self, store: Store) -> None:
        stream = uuid4()
        await commit(store, stream, Opened("Ada"), Deposited(5), Deposited(50))
        async with store.session() as session:
            found = await session.events.query(
                "type = %s and (data ->> 'amount')::int > %s", "deposited", 10
            )
        assert [(event.stream_id, event.data) for event in found] == [(stream, Deposited(50))]

    async def test_executed_statements_commit_with_the_rest(self, store: Store) -> None:
        stream = uuid4()
        table = f'"{store.options.schema}".ledger'
        async with store.session() as session:
            session.execute(f"create table {table} (amount int)")
            session.execute(f"insert into {table} values (%s)", 5)
            session.events.append(stream, Deposited(5))
            await session.save_changes()
        async with store.connection() as connection:
            cursor = await connection.execute(f"select amount from {table}")
            assert await cursor.fetchall() == [(5,)]

    async def test_a_failing_statement_takes_everything_with_it(self, store: Store) -> None:
        stream = uuid4()
        async with store.session() as session:
            session.events.append(stream, Deposited(5))
            session.store(Tally(1))
            session.execute("insert into no_such_table values (%s)", 1)
            with pytest.raises(FlowstoreError):
                await session.save_changes()
            assert await session.query(Tally, "true") == []
        assert await values(store, stream) == []

    async def test_statements_run_in_queue_order_with_documents(self, store: Store) -> None:
        async with store.session() as session:
            session.store(Tally(1))
            await session.save_changes()
        table = f'"{store.options.schema}".seen'
        async with store.session() as session:
            session.execute(f"create table {table} (n int)")
            session.execute(f"insert into {table} values (1)")
            session.execute(f"update {table} set n = n + 1")
            session.execute(f"update {table} set n = n * 10")
            await session.save_changes()
        async with store.connection() as connection:
            cursor = await connection.execute(f"select n from {table}")
            assert await cursor.fetchall() == [(20,)]
