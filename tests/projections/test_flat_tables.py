"""A flat table's rows are what a plain fold of the events says, in columns anybody can read."""

import itertools
from decimal import Decimal
from enum import Enum
from uuid import UUID, uuid4

import attrs
import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql

from flowstore.errors import DatabaseError, InvalidEventError, RegistrationError, SchemaError
from flowstore.events import Event
from flowstore.projections import FlatTable, IProjection, Lifecycle, Projections


class Mood(Enum):
    CALM = "calm"
    ANGRY = "angry"


@attrs.frozen
class Opened:
    title: str
    owner: str = ""


@attrs.frozen
class Renamed:
    title: str


@attrs.frozen
class Worked:
    hours: int
    cost: Decimal = Decimal("0.10")


@attrs.frozen
class Undone:
    hours: int


@attrs.frozen
class Removed:
    pass


def issues(name="issues", **more):
    table = FlatTable(
        name,
        key="id",
        key_type=UUID,
        columns={"title": str, "hours": int, "times": "integer", "cost": "numeric(10,2)"},
        **more,
    )
    return (
        table.on(Opened, set={"title": "title"})
        .on(Renamed, set=["title"], insert=False)
        .on(Worked, increment={"hours": "hours", "times": 1, "cost": lambda e: e.cost})
        .on(Undone, decrement={"hours": lambda undone: undone.hours}, insert=False)
        .delete_on(Removed)
    )


def plain_fold(happened):
    """What `issues` says, in Python, at once."""
    rows = {}
    for key, event in happened:
        empty = {"title": None, "hours": 0, "times": 0, "cost": Decimal("0.00")}
        match event:
            case Opened(title):
                rows.setdefault(key, empty)["title"] = title
            case Renamed(title):
                if key in rows:
                    rows[key]["title"] = title
            case Worked(hours, cost):
                row = rows.setdefault(key, empty)
                row["hours"] += hours
                row["times"] += 1
                row["cost"] += cost
            case Undone(hours):
                if key in rows:
                    rows[key]["hours"] -= hours
            case Removed():
                rows.pop(key, None)
    return rows


def projections_with(*tables, **options):
    projections = Projections()
    for table in tables:
        projections.add(table, **options)
    return projections


async def append(store, *happened, tenant=None):
    async with store.session(tenant_id=tenant) as session:
        for stream_id, event in happened:
            session.events.append(stream_id, event)
        await session.save_changes()


async def rows_of(store, table="issues"):
    query = sql.SQL("select * from {}").format(sql.Identifier(store.options.schema, table))
    async with store.connection() as connection:
        cursor = await connection.execute(query)
        names = [column.name for column in cursor.description]
        rows = [dict(zip(names, row, strict=True)) for row in await cursor.fetchall()]
    return {row.pop(names[0]): row for row in rows}


happenings = st.one_of(
    st.builds(Opened, st.sampled_from(["one", "two", 'per % "cent"'])),
    st.builds(Renamed, st.just("three")),
    st.builds(Worked, st.integers(0, 5), st.decimals(0, 9, places=2)),
    st.builds(Undone, st.integers(0, 5)),
    st.just(Removed()),
)


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    happened=st.lists(st.tuples(st.integers(0, 5), happenings), max_size=40),
    sizes=st.lists(st.integers(1, 6) | st.just(500), min_size=1, max_size=4),
)
async def test_rows_are_the_plain_fold_whatever_the_page_sizes(opening, followed, happened, sizes):
    table, keys = issues(), [uuid4() for _ in range(6)]
    async with opening(projections_with(table)) as store:
        await store.teardown(table)  # of the example before, in the same schema
        at = [(keys[which], event) for which, event in happened]
        await append(store, *at)
        unit_floor = await store.high_water() - len(at)
        await store.commit_batch(
            store.projection_session(), shard="issues", floor=0, ceiling=unit_floor
        )
        await followed(store, table, sizes)
        assert await rows_of(store) == plain_fold(at)


async def test_the_table_is_there_when_the_store_is_open(opening):
    async with opening(projections_with(issues())) as store:
        assert await rows_of(store) == {}


async def test_an_inline_table_commits_with_the_events(opening):
    async with opening(projections_with(issues(), lifecycle=Lifecycle.INLINE)) as store:
        happened = [(uuid4(), Opened("one")), (uuid4(), Worked(3)), (uuid4(), Renamed("nobody"))]
        await append(store, *happened)
        assert await rows_of(store) == plain_fold(happened)


async def test_teardown_deletes_the_rows_and_a_replay_brings_them_back(opening, followed):
    table = issues()
    async with opening(projections_with(table)) as store:
        await append(store, (key := uuid4(), Opened("one")))
        await followed(store, table)
        await store.teardown(table)
        assert await rows_of(store) == {}
        await followed(store, table)
        assert list(await rows_of(store)) == [key]


async def test_a_table_that_is_not_registered_is_created_when_it_is_used(opening, followed):
    async with opening(Projections()) as store:
        await append(store, (key := uuid4(), Opened("one")))
        await followed(store, issues(), [1])
        assert (await rows_of(store))[key]["title"] == "one"


async def test_a_version_has_a_table_of_its_own(opening, followed):
    first, second = issues(), issues(version=2)
    async with opening(projections_with(first)) as store:
        await append(store, (uuid4(), Opened("one")))
        await followed(store, first)
    async with opening(projections_with(second)) as store:
        assert (len(await rows_of(store)), await rows_of(store, "issues_v2")) == (1, {})
        await followed(store, second)
        assert len(await rows_of(store, "issues_v2")) == 1


@pytest.mark.parametrize("by", ["owner", lambda e: e.owner or None, lambda e: e.data.owner])
async def test_key_from_finds_the_row(opening, by):
    table = FlatTable("owners", key="owner", key_type="text", columns={"n": int})
    table.on(Opened, increment="n", key_from=by)
    async with opening(projections_with(table, lifecycle=Lifecycle.INLINE)) as store:
        await append(store, *((uuid4(), Opened("x", owner)) for owner in "aba"))
        assert await rows_of(store, "owners") == {"a": {"n": 2}, "b": {"n": 1}}


async def test_a_tables_key_from_stands_for_all_events_that_name_none(opening):
    table = FlatTable("titles", key="title", key_type=str, columns={"n": int}, key_from="title")
    table.on(Opened, increment="n").on(Renamed, increment=["n"])
    table.on(Worked, increment="n", key_from=lambda _: None)
    async with opening(projections_with(table, lifecycle=Lifecycle.INLINE)) as store:
        await append(store, (uuid4(), Opened("a")), (uuid4(), Renamed("a")), (uuid4(), Worked(1)))
        assert await rows_of(store, "titles") == {"a": {"n": 2}}


async def test_a_key_of_text_takes_the_streams_uuid(opening):
    table = FlatTable("issues", key="id", key_type="varchar(40)", columns={}).on(Opened)
    async with opening(projections_with(table, lifecycle=Lifecycle.INLINE)) as store:
        await append(store, (key := uuid4(), Opened("a")), (key, Opened("b")))
        assert await rows_of(store) == {str(key): {}}


async def test_values_of_many_types_are_kept(opening):
    table = FlatTable(
        'odd "name" 100%',
        key="the %s key",
        key_type=UUID,
        columns={
            "%s": "text[]",
            "mood": "text",
            "facts": dict,
            "seen": "timestamptz",
            "flag": bool,
            "share": float,
        },
    )
    table.on(
        Opened,
        set={
            "%s": lambda e: [e.title],
            "mood": lambda _: Mood.ANGRY,
            "facts": lambda e: {"title": e.title, "none": None},
            "seen": "timestamp",
            "flag": True,
            "share": 0.5,
        },
    )
    table.on(Worked, set={"facts": None, "flag": False}, insert=False, increment={"share": 0.25})
    async with opening(projections_with(table, lifecycle=Lifecycle.INLINE)) as store:
        await append(store, (key := uuid4(), Opened("a%")))
        [event] = await store.session().events.fetch_stream(key)
        row = (await rows_of(store, table.name))[key]
        assert row == {
            "%s": ["a%"],
            "mood": "angry",
            "facts": {"title": "a%", "none": None},
            "seen": event.timestamp,
            "flag": True,
            "share": 0.5,
        }
        await append(store, (key, Worked(1)))
        row = (await rows_of(store, table.name))[key]
        assert (row["facts"], row["flag"], row["share"]) == (None, False, 0.75)


async def test_commits_to_the_same_rows_neither_stop_each_other_nor_lose_anything(opening):
    table = FlatTable("owners", key="owner", key_type="text", columns={"n": int})
    table.on(Opened, increment="n", key_from="owner")
    async with opening(projections_with(table, lifecycle=Lifecycle.INLINE)) as store:

        async def open_all(owners):
            for _ in range(10):
                await append(store, *((uuid4(), Opened("x", owner)) for owner in owners))

        async with trio.open_nursery() as nursery:
            for owners in itertools.permutations("abc"):
                nursery.start_soon(open_all, owners)
        assert await rows_of(store, "owners") == {owner: {"n": 60} for owner in "abc"}


async def test_stores_that_open_at_once_create_a_table_once(opening):
    async def use():
        async with opening(projections_with(issues(), lifecycle=Lifecycle.INLINE)) as store:
            await append(store, (uuid4(), Opened("one")))

    async with opening(Projections()) as store:
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(use)
        assert len(await rows_of(store)) == 4


async def test_tenants_share_a_table_and_not_its_rows(opening, followed):
    table, key = issues(), uuid4()
    async with opening(projections_with(table), tenancy="conjoined") as store:
        for tenant, title in (("a", "of a"), ("b", "of b")):
            await append(store, (key, Opened(title)), tenant=tenant)
        await followed(store, table)
        assert {t: row["title"] for t, row in (await rows_of(store)).items()} == {
            "a": "of a",
            "b": "of b",
        }
        await append(store, (key, Removed()), tenant="a")
        await followed(store, table)
        assert list(await rows_of(store)) == ["b"]
        await store.teardown(table)
        assert await rows_of(store) == {}


async def test_a_new_column_is_added_and_the_rows_stay(opening):
    async with opening(projections_with(issues(), lifecycle=Lifecycle.INLINE)) as store:
        await append(store, (key := uuid4(), Opened("one")))
    columns = {"title": str, "again": int, "more": "text[]"}
    wider = FlatTable("issues", key="id", key_type="uuid", columns=columns)
    wider.on(Opened, set={"title": "title"}, increment="again")
    async with opening(projections_with(wider, lifecycle=Lifecycle.INLINE)) as store:
        await append(store, (key, Opened("two")))
        row = (await rows_of(store))[key]
        assert (row["title"], row["again"], row["more"], row["hours"]) == ("two", 1, None, 0)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (FlatTable("issues", key="id", key_type=str, columns={}), ["'id' as uuid", "with text"]),
        (FlatTable("issues", key="key", key_type=UUID, columns={}), ["'key' as None"]),
        (
            FlatTable("issues", key="id", key_type=UUID, columns={"hours": "text"}),
            ["'hours' as bigint", "with text", "version="],
        ),
    ],
)
async def test_a_table_that_is_otherwise_already_is_refused(opening, table, words):
    async with opening(projections_with(issues())):
        pass
    with pytest.raises(SchemaError) as caught:
        async with opening(projections_with(table.on(Opened))):
            pass
    assert all(word in str(caught.value) for word in words), str(caught.value)


async def test_what_may_not_be_created_is_named(opening):
    async with opening(Projections()):
        pass
    with pytest.raises(SchemaError, match="lacks flat table 'issues'"):
        async with opening(projections_with(issues()), auto_create="none"):
            pass
    async with opening(projections_with(issues()), auto_create="create_only"):
        pass
    wider = FlatTable("issues", key="id", key_type=UUID, columns={"new": int}).on(Opened)
    with pytest.raises(SchemaError, match="column 'new'"):
        async with opening(projections_with(wider), auto_create="create_only"):
            pass


async def test_a_key_that_no_stream_has_is_refused_when_the_store_opens(opening):
    table = FlatTable("issues", key="id", key_type=int, columns={}).on(Opened)
    with pytest.raises(RegistrationError, match=r"'issues' has a key of type bigint"):
        async with opening(projections_with(table)):
            pass


async def test_a_key_from_an_event_may_be_of_any_type(opening):
    table = FlatTable("issues", key="id", key_type=int, columns={}, key_from=lambda e: len(e.title))
    async with opening(projections_with(table.on(Opened), lifecycle=Lifecycle.INLINE)) as store:
        await append(store, (uuid4(), Opened("one")))
        assert await rows_of(store) == {3: {}}


async def test_a_tenant_column_of_ones_own_is_refused_where_tenants_share_tables(opening):
    table = FlatTable("issues", key="id", key_type=UUID, columns={"tenant_id": str}).on(Opened)
    with pytest.raises(RegistrationError, match="'tenant_id'"):
        async with opening(projections_with(table), tenancy="conjoined"):
            pass


async def test_what_is_no_number_is_not_added(opening, followed):
    table = FlatTable("issues", key="id", key_type=UUID, columns={"n": int})
    table.on(Opened, increment={"n": "title"})
    async with opening(projections_with(table)) as store:
        await append(store, (uuid4(), Opened("one")))
        with pytest.raises(InvalidEventError, match=r"Opened: increment 'n'.*sequence 1.*'one'"):
            await followed(store, table)


async def test_a_value_that_does_not_fit_keeps_the_page_back(opening, followed):
    table = FlatTable("issues", key="id", key_type=UUID, columns={"title": "varchar(3)"})
    table.on(Opened, set="title")
    async with opening(projections_with(table)) as store:
        await append(store, (uuid4(), Opened("one")), (uuid4(), Opened("three")))
        with pytest.raises(DatabaseError):
            await followed(store, table)
        assert (await rows_of(store), await store.progress("issues")) == ({}, 0)


def fresh(**more):
    columns = {"n": "int", "title": "text"}
    return FlatTable("t", **{"key": "id", "key_type": "uuid", "columns": columns, **more})


async def waits(event): ...


def takes_other(event: Renamed): ...


def takes_event(event: Event): ...


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Projections().add(fresh()), ["'t' has no rules"]),
        (lambda: FlatTable(" ", key="k", key_type=int, columns={}), ["' '", "name"]),
        (lambda: FlatTable("t" * 64, key="k", key_type=int, columns={}), ["64 bytes"]),
        (lambda: FlatTable("t" * 61, key="k", key_type=int, columns={}, version=2), ["64 bytes"]),
        (lambda: fresh(key=""), ["'t'", "the key"]),
        (lambda: fresh(key="n"), ["'t'", "'n' is the key"]),
        (lambda: fresh(key_type="serial"), ["the key", "'serial'", "bigint"]),
        (lambda: fresh(key_type=Opened), ["the key", "Opened"]),
        (lambda: fresh(columns=["n"]), ["columns is ['n']"]),
        (lambda: fresh(columns={"n": "int; drop table x"}), ["column 'n'", "drop table"]),
        (lambda: fresh(columns={"n": "text(3)"}), ["column 'n'", "text(3)"]),
        (lambda: fresh(columns={"n" * 64: int}), ["64 bytes"]),
        (lambda: fresh().on("Opened"), ["'t'", "'Opened'"]),
        (lambda: fresh().on(int), ["'t'", "int", "no event type"]),
        (lambda: fresh().on(Opened).on(Opened), ["'t'", "Opened already"]),
        (lambda: fresh().on(Opened).delete_on(Opened), ["Opened already"]),
        (lambda: fresh().on(Opened, insert=False), ["Opened does nothing"]),
        (lambda: fresh().on(Opened, set={"m": 1}), ["Opened: set", "'m'", "'n', 'title'"]),
        (lambda: fresh().on(Opened, set={"id": 1}), ["Opened: set", "'id'"]),
        (lambda: fresh().on(Opened, set=5), ["Opened: set", "is 5"]),
        (lambda: fresh().on(Opened, set={"title": "ttle"}), ["'title'", "'ttle'", "Opened"]),
        (lambda: fresh().on(Opened, set="n"), ["'n' is no field of Opened"]),
        (lambda: fresh().on(Opened, increment="title"), ["increment", "'title'", "text"]),
        (lambda: fresh().on(Opened, increment="n", decrement="n"), ["decrement", "already"]),
        (lambda: fresh().on(Opened, set={"n": 1}, increment="n"), ["increment", "already"]),
        (lambda: fresh().on(Opened, set={"n": waits}), ["'n'", "is async"]),
        (lambda: fresh().on(Opened, set={"n": takes_other}), ["'n'", "Renamed", "for Opened"]),
        (lambda: fresh().on(Opened, set={"n": lambda: 1}), ["'n'", "takes no event"]),
        (lambda: fresh().on(Opened, set={"n": lambda a, b: 1}), ["'n'", "'a', 'b'"]),
        (lambda: fresh().on(Opened, set={"n": lambda session: 1}), ["'n'", "session"]),
        (lambda: fresh().on(Opened, key_from=5), ["Opened: key_from is 5"]),
        (lambda: fresh().delete_on(Removed, key_from="owner"), ["key_from", "'owner'", "Removed"]),
    ],
    ids=itertools.count(),
)
def test_a_rule_that_cannot_work_is_refused(make, words):
    with pytest.raises(RegistrationError) as caught:
        make()
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_it_is_an_iprojection():
    table = issues()
    assert isinstance(table, IProjection)
    assert (table.consumes, table.produces) == (
        (Opened, Renamed, Worked, Undone, Removed),
        None,
    )
    fresh().on(Opened, set={"n": takes_event})


@attrs.frozen
class Moved:
    account: str
    by: int


async def test_inline_rows_are_locked_in_the_order_of_their_keys_not_of_the_events(opening, schema):
    """Whoever waits for the first key holds no later one, so two sessions can't wait for each other."""
    projections = Projections()
    table = FlatTable("sums", key="id", key_type=str, columns={"n": int}, key_from="account")
    projections.add(table.on(Moved, increment={"n": "by"}), lifecycle=Lifecycle.INLINE)
    hold = f"update {schema}.sums set n = n where id = 'a'"

    async def move(store, *accounts):
        async with store.session() as session:
            for account in accounts:
                session.events.append(uuid4(), Moved(account, 1))
            await session.save_changes()

    async with opening(projections) as store:
        await move(store, "a", "b", "c")
        with trio.fail_after(30):
            async with (
                store.connection() as holder,
                trio.open_nursery() as nursery,
                holder.transaction(),
            ):
                await holder.execute(hold)
                nursery.start_soon(move, store, "c", "b", "a")
                blocked = (
                    "select count(*) from pg_stat_activity"
                    f" where {holder.info.backend_pid} = any (pg_blocking_pids(pid))"
                )
                # Not by the holder, whose transaction sees one snapshot of the activity.
                async with store.connection() as looker:
                    while (await (await looker.execute(blocked)).fetchone())[0] == 0:  # noqa: ASYNC110 - only the database knows
                        await trio.sleep(0.01)
                await move(store, "b", "c")  # isn't kept by the one that waits for "a"
        async with store.connection() as connection:
            cursor = await connection.execute(f"select id, n from {schema}.sums order by id")
            assert await cursor.fetchall() == [("a", 2), ("b", 3), ("c", 3)]


async def test_many_sessions_may_write_the_same_rows_in_any_order(opening, schema):
    projections = Projections()
    table = FlatTable("sums", key="id", key_type=str, columns={"n": int}, key_from="account")
    projections.add(table.on(Moved, increment={"n": "by"}), lifecycle=Lifecycle.INLINE)
    accounts = [f"account {number}" for number in range(20)]

    async def move(store, in_order):
        for _ in range(10):
            async with store.session() as session:
                for account in in_order:
                    session.events.append(uuid4(), Moved(account, 1))
                await session.save_changes()

    async with opening(projections) as store:
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                for in_order in (accounts, accounts[::-1], accounts[7:] + accounts[:7]):
                    nursery.start_soon(move, store, in_order)
        async with store.connection() as connection:
            cursor = await connection.execute(f"select count(*), sum(n) from {schema}.sums")
            assert await cursor.fetchone() == (20, 600)
