"""Any name works, or is refused before anything is created."""

from uuid import UUID, uuid4

import attrs
import psycopg
import pytest
from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st

from flowstore.errors import (
    FlowstoreError,
    InvalidTenantError,
    RegistrationError,
)
from flowstore.projections import FlatTable, Lifecycle
from flowstore.store import StoreOptions, assert_schema, dump_schema, open_event_store
from flowstore.store._names import LONGEST_NAME, derived_name
from flowstore.store._schema_plan import target_of

NASTY = ['"', "'", "%", "%s", "{", "}", ".", "\\", "$", "$flowstore_0$", ";", "--", "/*", ":", " "]
WORDS = [
    "select",
    "table",
    "user",
    "events",
    "migrations",
    "Upper",
    "ü",
    "☃",
    "漢字",
    "é",
    "İ",
    "ß",
    "_",
]
REFUSED = [
    "",
    " ",
    "\0",
    "a\0b",
    "\n",
    "\u2028",
    "\ud800",
    "pg_",
    "pg_catalog",
    "information_schema",
]
pieces = st.lists(st.sampled_from([*NASTY, *WORDS, "x" * 20, "ü" * 11]), min_size=1, max_size=4)
likely = pieces.map("".join)
any_text = st.text(min_size=0, max_size=70) | st.sampled_from(REFUSED)
names = likely | any_text

few = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@attrs.frozen
class Happened:
    what: str


def relations(dsn):
    """Everything that isn't PostgreSQL's own."""
    with psycopg.connect(dsn) as connection:
        query = """
            select n.nspname, c.relname from pg_namespace n left join pg_class c
            on c.relnamespace = n.oid where n.nspname !~ '^pg_' and n.nspname not in
            ('information_schema', 'public')"""
        return connection.execute(query).fetchall()


def clean(dsn, schema):
    with psycopg.connect(dsn, autocommit=True) as connection:
        name = psycopg.sql.Identifier(schema)
        connection.execute(psycopg.sql.SQL("drop schema if exists {} cascade").format(name))


PLAIN = {
    "schema": "s", "kind": "Note", "field": "f", "table": "t", "column": "c", "key": "k",
    "projection": "p", "alias": "a", "tenant": "t",
}  # fmt: skip
fitting = likely.filter(lambda name: name.strip() and len(name.encode()) < 40)
# Most of them fit, so that something is made; at most one may be anything.
drawn = st.builds(
    lambda fit, wild: {**PLAIN, **fit, **wild},
    st.fixed_dictionaries(dict.fromkeys(PLAIN, fitting)),
    st.dictionaries(st.sampled_from(sorted(PLAIN)), names, max_size=1),
)


@few
@given(named=drawn, version=st.sampled_from([1, 2, 1234567]))
@example({**PLAIN, "table": "doc_note"}, 1)  # a document type's table
@example({**PLAIN, "table": "doc_note_f_idx"}, 1)  # and its index
@example({**PLAIN, "kind": "x" * 59, "field": "x" * 63, "table": "y" * 63}, 1)
@example({**PLAIN, "kind": "x" * 60}, 1)
@example({**PLAIN, "schema": "ü" * 32}, 1)
@example({**PLAIN, "tenant": "*DEFAULT*"}, 1)
@example({**PLAIN, "alias": "a\0b"}, 1)
@example({**PLAIN, "projection": "\ud800"}, 1)
async def test_a_store_of_any_names_works_or_nothing_is_created(dsn, named, version):
    schema, tenant = named["schema"], named["tenant"]
    try:
        kept, options = described(version, **named)
        async with open_event_store(dsn, options) as store:
            await use(store, kept, tenant)
    except FlowstoreError as error:
        event(f"refused: {type(error).__name__}")
        if (there := relations(dsn)) and there[0][0] == schema:
            # Refused only when it was used: the tenant, then.
            with pytest.raises(InvalidTenantError):
                await refuse(dsn, options, tenant)
            clean(dsn, schema)
    else:
        event("works")
        await assert_schema(dsn, options)
        found = {name for where, name in relations(dsn) if where == schema}
        # Nothing was cut: each name that was meant is there as it was meant.
        assert {name for name, _ in target_of(options).names()} <= found
        clean(dsn, schema)
    assert relations(dsn) == []


def described(version, *, schema, kind, field, table, column, key, projection, alias, tenant):
    kept = attrs.make_class("Kept", {"id": attrs.field(type=UUID)})
    kept.apply = apply_happened
    options = StoreOptions(schema=schema, tenancy="conjoined")
    options.events.alias(Happened, alias)
    options.documents.type(kept, name=kind, indexes=[field])
    # Any field: what a class is stored with is the application's to say.
    options.events.converter.register_unstructure_hook(
        kept, lambda document: {field: None, "id": str(document.id)}
    )
    options.projections.aggregate_streams_with(
        kept, name=projection, version=version, lifecycle=Lifecycle.INLINE
    )
    flat = FlatTable(table, key=key, key_type=str, columns={column: str}, version=version)
    options.projections.add(flat.on(Happened, set={column: "what"}), lifecycle=Lifecycle.INLINE)
    return kept, options


def apply_happened(self, _: Happened) -> None:
    pass


async def use(store, kept, tenant):
    async with store.session(tenant_id=tenant) as session:
        action = session.events.append(uuid4(), Happened("x"))
        await session.save_changes()
    async with store.session(tenant_id=tenant) as session:
        assert (await session.load(kept, action.stream_id)).id == action.stream_id
        assert await session.find(kept, id=action.stream_id) != []
        [event] = await session.events.fetch_stream(action.stream_id)
        assert (event.data, event.tenant_id) == (Happened("x"), tenant)
    async with store.session() as session:
        assert await session.events.fetch_stream(action.stream_id) == []


async def refuse(dsn, options, tenant):
    async with open_event_store(dsn, options) as store:
        store.session(tenant_id=tenant)


@pytest.mark.parametrize("name", ["", " ", "x" * 60, "ü" * 30, "nul\0", "line\nfeed", 7, "\ud800"])
def test_a_document_name_that_would_be_changed_is_refused(name):
    @attrs.define
    class Note:
        id: str

    with pytest.raises(RegistrationError, match=r"Note|named|name"):
        StoreOptions().documents.type(Note, name=name)


@pytest.mark.parametrize("field", ["", "nul\0", "\ud800", 7, "line\nfeed"])
def test_an_index_that_no_name_can_be_made_of_is_refused(field):
    @attrs.define
    class Note:
        id: str

    with pytest.raises(RegistrationError, match="index"):
        StoreOptions().documents.type(Note, indexes=[field])


def test_the_names_of_several_indexes_are_not_one_text():
    @attrs.define
    class Note:
        id: str

    with pytest.raises(RegistrationError, match="list of names"):
        StoreOptions().documents.type(Note, indexes="name")


def test_the_version_is_part_of_what_has_to_fit():
    long = attrs.make_class("X" * 59, {"id": attrs.field(type=UUID)})
    long.apply = apply_happened
    options = StoreOptions()
    options.projections.aggregate_streams_with(long)
    dump_schema(options)
    options = StoreOptions()
    options.projections.aggregate_streams_with(long, version=2)
    with pytest.raises(RegistrationError, match=r"66 bytes"):
        dump_schema(options)


@pytest.mark.parametrize("tenant", ["", " ", "*DEFAULT*", "nul\0", "\ud800", 7, "x" * 64])
async def test_a_tenant_that_cannot_be_kept_or_would_be_nobody_is_refused(pg_dsn, schema, tenant):
    options = StoreOptions(schema=schema, tenancy="conjoined")
    async with open_event_store(pg_dsn, options) as store:
        with pytest.raises(InvalidTenantError, match="can't be a tenant"):
            store.session(tenant_id=tenant)


@pytest.mark.parametrize("name", ["nul\0", "\ud800", "", " ", "ü" * 32])
def test_a_projection_name_that_cannot_be_kept_is_refused(name):
    kept = attrs.make_class("Kept", {"id": attrs.field(type=UUID)})
    kept.apply = apply_happened
    with pytest.raises(RegistrationError, match="projection's name"):
        StoreOptions().projections.aggregate_streams_with(kept, name=name)


@pytest.mark.parametrize("name", ["events", "migrations", "open_appends", "streams_pkey"])
async def test_a_flat_table_called_like_one_of_the_stores_is_refused_first(dsn, name):
    options = StoreOptions()
    table = FlatTable(name, key="id", key_type=UUID, columns={})
    options.projections.add(table.on(Happened))
    with pytest.raises(RegistrationError, match="would both be called"):
        async with open_event_store(dsn, options):
            pass
    assert relations(dsn) == []


@given(table=likely, field=likely, last=st.sampled_from(["idx", "pkey"]))
def test_derived_names_fit_and_differ(table, field, last):
    parts = (field, last)
    name = derived_name(table, *parts)
    assert len(name.encode()) <= LONGEST_NAME
    assert derived_name(f"{table}x", *parts) != name
