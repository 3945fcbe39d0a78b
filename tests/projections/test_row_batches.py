"""Changes of rows made many at once do what they do one by one."""

from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID, uuid4

import attrs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from flowstore.projections import (
    AsyncOptions,
    Column,
    DeleteRow,
    FlatTable,
    Projections,
    Table,
    WriteRow,
)
from flowstore.store._queue import ChangeRow
from flowstore.store._row_batches import MOST_ROWS, in_rounds, shape_of

PATIENCE = 60
COLUMNS = (Column("title", "text"), Column("n", "bigint", counts=True), Column("x", "numeric(9,2)"))
TABLES = (
    Table("uuids", Column("id", "uuid"), COLUMNS),
    Table("days", Column("id", "timestamp with time zone"), COLUMNS),
)


def changes_of(table):
    keys = {
        "uuid": [UUID(int=each) for each in range(4)],
        "timestamp with time zone": [datetime(2026, 1, each, tzinfo=UTC) for each in (1, 2)],
    }[table.key.type]
    key, number = st.sampled_from(keys), st.integers(-3, 3)
    return st.one_of(
        st.builds(DeleteRow, key),
        st.builds(
            WriteRow,
            key,
            st.just({}) | st.fixed_dictionaries({"title": st.sampled_from("ab")}),
            st.one_of(
                st.just({}),
                st.fixed_dictionaries({"n": number}),
                st.fixed_dictionaries({"n": number, "x": st.just(Decimal("0.01"))}),
            ),
            st.booleans(),
        ),
    )


operations = st.sampled_from(TABLES).flatmap(
    lambda table: st.builds(ChangeRow, st.just(table), st.sampled_from("pq"), changes_of(table))
)


def made(rows, operation):
    """Do what a statement does, in Python."""
    row, change = (operation.table.name, operation.tenant, operation.change.key), operation.change
    if isinstance(change, DeleteRow):
        rows.pop(row, None)
    elif row in rows or change.insert:
        values = rows.setdefault(row, Counter())
        values.update(change.add)
        for name, value in change.set.items():
            values[name] = value


@given(happened=st.lists(operations, max_size=60))
def test_rounds_do_what_the_changes_do_one_by_one(happened):
    one_by_one, in_batches = {}, {}
    for operation in happened:
        made(one_by_one, operation)
    for batch in in_rounds(happened):
        rows = [(each.tenant, each.change.key) for each in batch]
        assert len({shape_of(each.table, each.change) for each in batch}) == 1
        assert len(set(rows)) == len(rows)
        for operation in reversed(batch):
            made(in_batches, operation)
    assert in_batches == one_by_one


def write(key, table=TABLES[0], **more):
    return ChangeRow(table, "t", WriteRow(key, **more))


def sizes(*operations):
    return [len(batch) for batch in in_rounds(operations)]


def test_rows_of_one_shape_go_together_in_powers_of_two():
    assert sizes(*(write(UUID(int=each), set={"title": "a"}) for each in range(11))) == [8, 2, 1]
    assert sizes(*(write(UUID(int=each)) for each in range(3 * MOST_ROWS))) == [MOST_ROWS] * 3


def test_what_is_added_to_one_row_is_added_up():
    key = UUID(int=1)
    counted = [write(key, add={"n": each}) for each in (1, 2, 3)]
    [[only]] = in_rounds(counted)
    assert only.change.add == {"n": 6}


def test_what_may_not_come_out_the_same_is_not_added_up():
    key = UUID(int=1)
    assert sizes(write(key, add={"n": 1}), write(key, add={"n": -1})) == [1, 1]
    assert sizes(*[write(key, add={"x": Decimal("0.005")})] * 2) == [1, 1]
    assert sizes(*[write(key, add={"x": 1})] * 2) == [1, 1]
    assert sizes(*[write(key, set={"title": "a"}, add={"n": 1})] * 2) == [1, 1]
    assert sizes(write(key, add={"n": 1}), write(key, add={"n": 1}, insert=False)) == [1, 1]


def test_a_value_whose_type_has_to_be_found_out_stands_alone():
    rows = [write(UUID(int=each), set={"title": each}) for each in range(2)]
    assert sizes(*rows) == [1, 1]


# -- in PostgreSQL --


@attrs.frozen
class Moved:
    by: int
    name: str = "x"


@attrs.frozen
class Gone:
    pass


def moved(page_size, *, insert=True, key_type=UUID, **more):
    table = FlatTable(
        "moved",
        key="id",
        key_type=key_type,
        columns={"n": "smallint", "name": "varchar(4)", "cost": "numeric(6,2)"},
        async_options=AsyncOptions(page_size=page_size),
        **more,
    )
    cost = {"cost": lambda _: Decimal("0.004")}
    table.on(Moved, set={"name": "name"}, increment={"n": "by", **cost}, insert=insert)
    projections = Projections()
    projections.add(table.delete_on(Gone))
    return projections


async def outcome(store):
    """Let the daemon apply everything; give the rows, and what was set aside."""
    with trio.fail_after(PATIENCE):
        async with store.build_projection_daemon() as daemon:
            await daemon.start_all()
            await daemon.wait_for_non_stale_results()
    async with store.connection() as connection:
        cursor = await connection.execute(
            f"select id::text, n, name, cost from {store.options.schema}.moved order by 1"
        )
        return await cursor.fetchall(), [letter.sequence for letter in await store.dead_letters()]


@pytest.mark.parametrize("page_size", [1, 3, 500])
@pytest.mark.parametrize("insert", [True, False])
async def test_a_value_that_does_not_fit_is_set_aside_whatever_the_page(serving, page_size, insert):
    first, second, third = (UUID(int=each) for each in (1, 2, 3))
    happened = [
        (first, Moved(30_000)),
        (second, Moved(5)),
        (first, Moved(10_000)),  # too much for a smallint
        (second, Moved(7, "too long")),
        (first, Moved(-20_000, "ok")),
        (third, Moved(1)),
        (second, Gone()),
        (third, Gone()),
        (second, Moved(70_000)),
        (second, Moved(3)),
    ]
    async with serving(moved(page_size)) as store:
        async with store.session() as session:
            for stream, event in happened:
                session.events.append(stream, event)
            await session.save_changes()
        rows, letters = await outcome(store)
        assert letters == [3, 4, 9]
        assert rows == [
            (str(first), 10_000, "ok", Decimal("0.00")),
            (str(second), 3, "x", Decimal("0.00")),
        ]
    if insert:
        return
    async with serving(moved(page_size, insert=False)) as store:
        async with store.session() as session:
            for stream in (first, second, third):
                session.events.append(stream, Moved(1, "long one"), Moved(1, "new"))
            await session.save_changes()
        rows, letters = await outcome(store)
        assert letters == [3, 4, 9, 11, 13, 15]
        assert [row[1:3] for row in rows] == [(10_001, "new"), (4, "new")]


@pytest.mark.parametrize("page_size", [1, 500])
async def test_keys_that_the_column_takes_for_one_are_one_row(serving, page_size):
    projections = moved(page_size, key_type="numeric(3,0)", key_from=lambda e: Decimal(e.by) / 10)
    async with serving(projections) as store:
        async with store.session() as session:
            session.events.append(uuid4(), *(Moved(by) for by in (10, 12, 14, 20, 21)))
            await session.save_changes()
        rows, letters = await outcome(store)
        assert ([row[:2] for row in rows], letters) == ([("1", 36), ("2", 41)], [])
