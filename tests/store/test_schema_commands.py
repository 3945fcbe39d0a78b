"""Bringing a schema up, checking it, and writing it down, without opening a store."""

from decimal import Decimal
from functools import partial
from uuid import UUID

import attrs
import psycopg
import pytest
import trio
from cattrs.gen import make_dict_unstructure_fn, override
from psycopg import sql

from flowstore.errors import SchemaError
from flowstore.postgres._binaries import candidates
from flowstore.projections import FlatTable
from flowstore.store import (
    StoreOptions,
    apply_schema,
    assert_schema,
    dump_schema,
    open_event_store,
    patch_schema,
)
from flowstore.store._schema_plan import NOTHING, plan_schema, target_of
from flowstore.store._schema_privileges import made_by

NAMES = [
    "plain",
    "flowstore",
    "Upper Case",
    'quote " and % and {brace}',
    "$flowstore_0$ $$ $body$",
    "select",
    "Ünïcode ☃",
    "back\\slash 'apostrophe'",
    ":colon :'quoted' -- comment /*",
    "x" * 63,
]


@attrs.frozen
class Sold:
    amount: Decimal


@attrs.define
class Shop:
    id: UUID
    town: str = ""

    def apply(self, _: Sold) -> None:
        pass


@attrs.define
class TextShop:
    id: str

    def apply(self, _: Sold) -> None:
        pass


@attrs.define
class Customer:
    id: str
    name: str = ""
    address: str = ""


@attrs.define
class Ticket:
    id: int


def options_for(schema="plain", **more):
    """Options with every kind of thing that a schema can hold."""
    options = StoreOptions(schema=schema, **more)
    options.documents.type(Customer, indexes=["name", "odd ' name"])
    converter = options.events.converter
    renamed = make_dict_unstructure_fn(Customer, converter, address=override(rename="odd ' name"))
    converter.register_unstructure_hook(Customer, renamed)
    options.documents.type(Ticket, name="BoxOfficeTicket")
    shop = TextShop if options.stream_identity == "string" else Shop
    options.projections.aggregate_streams_with(shop, version=2)
    sales = FlatTable(
        "sales %", key="shop", key_type=str, columns={"sum": Decimal, "a b": "text[]"}
    )
    options.projections.add(sales.on(Sold, increment={"sum": "amount"}))
    return options


def run(dsn, script):
    with psycopg.connect(dsn, autocommit=True) as connection:
        return connection.execute(script)


def in_schema(dsn, template, schema="plain"):
    run(dsn, sql.SQL(template).format(sql.Identifier(schema)))


async def problems(dsn, options):
    with pytest.raises(SchemaError) as caught:
        await assert_schema(dsn, options)
    return [line.strip() for line in str(caught.value).splitlines()[1:]]


@pytest.mark.parametrize("identity", ["uuid", "string"])
@pytest.mark.parametrize("name", NAMES)
async def test_what_was_dumped_makes_a_schema_that_is_right(dsn, name, identity):
    options = options_for(name, stream_identity=identity)
    run(dsn, dump_schema(options).encode())
    await assert_schema(dsn, options)
    assert await apply_schema(dsn, options) == ()


@pytest.mark.parametrize("name", NAMES)
async def test_what_was_applied_is_right_and_is_what_a_store_would_make(dsn, name):
    options = options_for(name, tenancy="conjoined")
    done = await apply_schema(dsn, options)
    assert "document table 'doc_shop_v2'" in done
    assert "flat table 'sales %'" in done
    await assert_schema(dsn, options)
    async with open_event_store(dsn, attrs.evolve(options, auto_create="none")) as store:
        assert await store.high_water() == 0
    assert (await patch_schema(dsn, options)).count("\n") == 1


@pytest.mark.parametrize("name", NAMES)
async def test_what_a_store_made_is_right(dsn, name):
    options = options_for(name)
    async with open_event_store(dsn, options):
        pass
    await assert_schema(dsn, options)


def test_the_same_options_give_the_same_text():
    assert dump_schema(options_for()) == dump_schema(options_for())


async def test_psql_runs_the_patch_of_an_older_schema(dsn, tmp_path):
    options = options_for()
    await apply_older(dsn, options, count=6)
    patch = await patch_schema(dsn, options)
    assert "migration 0007" in patch
    assert "create schema" not in patch
    assert "migration 0006" not in patch
    file = tmp_path / "patch.sql"
    file.write_text(patch)
    psql = next(place / "psql" for place in candidates() if (place / "psql").exists())
    command = [psql, "--no-psqlrc", "-v", "ON_ERROR_STOP=1", "-d", dsn, "-f", file]
    environment = {"PGCLIENTENCODING": "LATIN1"}
    run_psql = partial(trio.run_process, command, env=environment, capture_stderr=True, check=False)
    done = await run_psql(capture_stdout=True)
    assert (done.returncode, done.stderr) == (0, b"")
    await assert_schema(dsn, options)
    # Run again it changes nothing: the first thing that is there already ends it.
    again = await run_psql(capture_stdout=True)
    assert again.returncode != 0
    await assert_schema(dsn, options)


async def apply_older(dsn, options, count):
    """Bring a schema up as a version with fewer migrations would."""
    target = target_of(StoreOptions(schema=options.schema))
    older = attrs.evolve(target, migrations=target.migrations[:count])
    for step in plan_schema(older, NOTHING):
        run(dsn, step.script)


async def test_a_patch_adds_what_is_new_in_the_options(dsn):
    first = StoreOptions(schema="plain")
    first.documents.type(Customer)
    first.projections.add(
        FlatTable("sales %", key="shop", key_type=str, columns={"sum": Decimal}).on(
            Sold, set={"sum": "amount"}
        )
    )
    await apply_schema(dsn, first)
    options = options_for()
    assert set(await apply_schema(dsn, options)) == {
        "document table 'doc_box_office_ticket'",
        "document table 'doc_shop_v2'",
        "index 'doc_customer_name_idx'",
        'index "doc_customer_odd \' name_idx"',
        "flat table 'sales %''s column 'a b'",
    }
    await assert_schema(dsn, options)


async def test_a_schema_that_is_not_there_is_told_as_such(dsn):
    assert await problems(dsn, options_for()) == ["the schema doesn't exist"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("alter table {}.events drop column user_name", ["column events.user_name is missing"]),
        ("alter table {}.events alter tenant_id drop default", ["column events.tenant_id is diff"]),
        ("alter table {}.doc_customer alter data drop not null", ["column doc_customer.data is d"]),
        ("alter table {}.events disable trigger publish_bound", ["(disabled)"]),
        ("alter table {}.events set unlogged", ["table events is different: it is 'a table that"]),
        ("drop trigger append_only_update on {}.events", ["trigger events.append_only_update is"]),
        ("alter table {}.events drop constraint events_id_key", ["constraint events.events_id_key"]),
        ("drop table {}.doc_shop_v2", ["table doc_shop_v2 is missing", "doc_shop_v2_pkey is mis"]),
        ("drop index {}.doc_customer_name_idx", ["index doc_customer_name_idx is missing"]),
        ("drop function {}.refuse_moved", ["function refuse_moved(p_table text, p_moved text[])"]),
        ("alter sequence {}.events_sequence cache 20", ["sequence events_sequence is different"]),
        ("drop view {}.open_appends", ["view open_appends is missing"]),
        ('alter table {}."sales %" drop column "a b"', ["column sales %.a b is missing"]),
        (
            "create or replace function {}.high_water_tag() returns bigint return 1",
            ["function high_water_tag() is different"],
        ),
        ("delete from {}.migrations where number = 3", ["lacks 3"]),
        ("update {}.migrations set checksum = 'x' where number = 3", ["checksum"]),
        ("insert into {}.migrations values (999, 'later', 'x')", ["migration 999"]),
        (
            "delete from {}.migrations where number = (select max(number) from {}.migrations)",
            ["is missing"],
        ),
    ],
)  # fmt: skip
async def test_what_is_missing_or_different_is_named(dsn, change, told):
    options = options_for()
    await apply_schema(dsn, options)
    run(dsn, sql.SQL(change.replace("{}", "{0}")).format(sql.Identifier("plain")))
    found = await problems(dsn, options)
    assert len(found) == len(told)
    for line, part in zip(sorted(found), sorted(told), strict=True):
        assert part in line


async def test_a_database_administrators_additions_are_no_difference(dsn):
    options = options_for()
    await apply_schema(dsn, options)
    in_schema(dsn, "create table {}.mine (x int)")
    in_schema(dsn, "create index mine on {}.events (type)".replace("mine", "by_type"))
    in_schema(dsn, "alter table {}.events set (fillfactor = 90, autovacuum_vacuum_cost_delay = 1)")
    in_schema(dsn, "alter table {}.doc_customer add column note text")
    await assert_schema(dsn, options)


async def test_checking_leaves_nothing_behind(dsn):
    options = options_for()
    await apply_schema(dsn, options)
    await assert_schema(dsn, options)
    query = "select count(*) from pg_class where relnamespace::regnamespace::text ~ '^pg_temp'"
    assert run(dsn, query).fetchone() == (0,)


async def test_a_schema_for_other_streams_is_refused(dsn):
    await apply_schema(dsn, StoreOptions(schema="plain"))
    other = StoreOptions(schema="plain", stream_identity="string")
    for refuse in (apply_schema, patch_schema):
        with pytest.raises(SchemaError, match="stream_identity"):
            await refuse(dsn, other)
    assert any("streams.id" in line for line in await problems(dsn, other))


async def test_what_cannot_be_done_is_refused_before_anything_is(dsn):
    """A flat table's name is taken, and a migration would have come before it."""
    run(dsn, 'create schema plain; create table plain."sales %" (x int)')
    with pytest.raises(SchemaError, match="no flat table"):
        await apply_schema(dsn, options_for())
    query = "select relname from pg_class c where relnamespace = 'plain'::regnamespace"
    assert run(dsn, query).fetchall() == [("sales %",)]


async def test_applying_at_once_does_it_once(dsn):
    done = []

    async def apply():
        done.append(await apply_schema(dsn, options_for()))

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(apply)
    assert sorted(map(bool, done)) == [False, False, False, True]
    await assert_schema(dsn, options_for())


async def test_everything_that_migrations_make_is_found_in_their_text(dsn):
    """Grants are written from it: a form that is not understood would be without one."""
    target = target_of(StoreOptions(schema="plain"))
    await apply_schema(dsn, StoreOptions(schema="plain"))
    query = """
        select case relkind when 'S' then 'SEQUENCE' when 'v' then 'VIEW' else 'TABLE' end, relname
        from pg_class where relnamespace = 'plain'::regnamespace and relkind not in ('i', 'I')
        union all
        select 'FUNCTION', proname from pg_proc where pronamespace = 'plain'::regnamespace"""
    made = made_by(migration.text for migration in target.migrations)
    expected = {(each.kind, each.name) for each in made} | {("TABLE", "migrations")}
    assert set(run(dsn, query).fetchall()) == expected


def test_what_a_later_script_drops_is_not_there():
    texts = ["create table {schema}.a (x int);\ncreate view {schema}.b as", "drop table {schema}.a"]
    assert [each.name for each in made_by(texts)] == ["b"]
