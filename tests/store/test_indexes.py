"""Indexes declared on a document type: made, named, used by the planner, known to the schema's check."""

import json
from typing import Any
from uuid import UUID

import attrs
import pytest
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override

from flowstore import FlowstoreError, expression, gin
from flowstore.codec import EventRegistry
from flowstore.errors import InvalidDocumentError, RegistrationError, UnknownFieldError
from flowstore.store import (
    DocumentTypes,
    StoreOptions,
    apply_schema,
    assert_schema,
    dump_schema,
    patch_schema,
)
from flowstore.store._queries import find_documents, query_documents
from flowstore.store.memory import MemoryEventStore

LOWER = "lower(data ->> 'name')"


@attrs.frozen
class Person:
    id: int
    name: str = ""
    town: str = ""
    tags: list[str] = attrs.field(factory=list)
    born: int | None = None
    mail: str = ""


def types(*indexes):
    documents = DocumentTypes()
    documents.type(Person, indexes=indexes)
    return documents


def people(count=5000):
    return [
        Person(n, f"Name {n}", f"town {n % 500}", [f"t{n % 700}"], n % 9 or None, f"m{n}")
        for n in range(count)
    ]


async def fill(store, *documents):
    await store.bulk_insert(documents or people())
    # As autovacuum does: it also brings what waits for it into an index of whole documents.
    async with store.connection() as connection:
        await connection.execute(f"vacuum analyze {store.options.schema}.doc_person")


async def plan_of(store, statement):
    """Tell how the planner, which may scan the table as well, would run a statement."""
    async with store.connection() as connection:
        query = b"explain (format json) " + statement.query
        cursor = await connection.execute(query, statement.parameters)
        return json.dumps((await cursor.fetchone())[0])


async def plan_of_find(store, **equal_to):
    engine = store._engine
    kind = engine.catalogue.describe(Person)
    return await plan_of(store, find_documents(engine, kind, engine.tenant(None), equal_to))


async def plan_of_query(store, where, *params):
    engine = store._engine
    kind = engine.catalogue.describe(Person)
    return await plan_of(store, query_documents(engine, kind, engine.tenant(None), where, params))


async def definitions(store):
    async with store.connection() as connection:
        query = """select indexname, indexdef from pg_indexes
            where schemaname = %s and tablename = 'doc_person' order by 1"""
        cursor = await connection.execute(query, (store.options.schema,))
        return dict(await cursor.fetchall())


@pytest.mark.parametrize("tenancy", ["single", "conjoined"])
async def test_each_index_serves_what_it_was_declared_for(opening, tenancy):
    documents = types("town", gin(), expression(LOWER))
    async with opening(documents=documents, tenancy=tenancy) as store:
        await fill(store)
        session = store.session()

        assert "doc_person_town_idx" in await plan_of_find(store, town="town 7")
        assert len(await session.find(Person, town="town 7")) == 10

        assert "doc_person_data_gin" in await plan_of_find(store, tags=["t5"])
        assert len(await session.find(Person, tags=["t5"])) == 8
        assert "doc_person_data_gin" in await plan_of_find(store, name="Name 77", born=5)
        assert await session.find(Person, name="Name 77", born=5) == [people(78)[77]]

        contains = "data @> %s::jsonb"
        assert "doc_person_data_gin" in await plan_of_query(store, contains, '{"tags": ["t5"]}')
        assert len(await session.query(Person, contains, '{"tags": ["t5"]}')) == 8

        path = "data @? '$.tags[*] ? (@ == \"t5\")'"
        assert "doc_person_data_gin" in await plan_of_query(store, path)
        assert len(await session.query(Person, path)) == 8

        named = "lower(data ->> 'name') = %s order by id limit 3"
        assert "doc_person_lower_data_name_" in await plan_of_query(store, named, "name 9")
        assert await session.query(Person, named, "name 9") == [people(10)[9]]


async def test_without_an_index_the_table_is_scanned(opening):
    async with opening(documents=types()) as store:
        await fill(store)
        assert "_idx" not in await plan_of_find(store, town="town 7")
        assert "Seq Scan" in await plan_of_query(store, "data @> %s::jsonb", '{"tags": ["t5"]}')


@pytest.mark.parametrize("value", ["x", "", 1, None, [], ["a"], ["a", "b"], [["a"]], {}, {"a": 1}])
async def test_an_index_over_documents_changes_nothing_of_what_find_finds(opening, value):
    @attrs.frozen
    class Anything:
        id: int
        value: Any = None

    values = ["x", "", 1, 1.0, True, None, [], ["a"], ["a", "b"], [["a"]], {}, {"a": 1}]
    values += [{"a": 1, "b": 2}, "1", ["b", "a"], ["a", "a"]]
    documents = DocumentTypes()
    documents.type(Anything, indexes=[gin()])
    async with opening(documents=documents) as store:
        async with store.session() as session:
            session.store(*(Anything(place, each) for place, each in enumerate(values)))
            await session.save_changes()
        assert len(await store.session().find(Anything, value=value)) >= 1
        found = [document.id for document in await store.session().find(Anything, value=value)]
    expected = [
        place
        for place, each in enumerate(values)
        if each == value and isinstance(each, bool) == isinstance(value, bool)
    ]
    assert found == expected


async def test_a_changed_declaration_is_made_beside_the_old_one(opening):
    async with opening(documents=types(expression(LOWER))) as store:
        before = await definitions(store)
    async with opening(documents=types(expression(LOWER, unique=True), gin())) as store:
        after = await definitions(store)
    assert before.items() < after.items()
    assert len(after) == len(before) + 2
    for _ in range(2):
        async with opening(documents=types(expression(LOWER, unique=True), gin())) as store:
            assert await definitions(store) == after


async def test_names_are_told_by_the_declaration_and_fit(opening):
    longest = "n" * 60
    indexes = ["name", longest, gin(), expression(LOWER), expression(LOWER, "data ->> 'town'")]
    events = EventRegistry()
    events.converter.register_unstructure_hook(Person, lambda each: {"id": each.id, longest: 1})
    names = []
    for options in ({}, {"tenancy": "conjoined"}):
        async with opening(events=events, documents=types(*indexes), **options) as store:
            names.append(set(await definitions(store)))
    assert names[0] == names[1]
    assert len(names[0]) == 6
    assert all(len(name) <= 63 for name in names[0])
    assert {"doc_person_name_idx", "doc_person_data_gin"} < names[0]


async def test_of_documents_that_share_a_unique_value_the_second_is_refused(opening):
    unique = expression("data ->> 'mail'", unique=True)
    async with opening(documents=types(unique), tenancy="conjoined") as store:

        async def save(document, tenant_id=None):
            async with store.session(tenant_id=tenant_id) as session:
                session.store(document)
                await session.save_changes()

        await save(Person(1, mail="a"))
        with pytest.raises(InvalidDocumentError, match=r"Person.*data ->> 'mail'"):
            await save(Person(2, mail="a"))
        with pytest.raises(InvalidDocumentError, match="data ->> 'mail'"):
            await store.bulk_insert([Person(3, mail="b"), Person(4, mail="b")])
        await save(Person(1, "again", mail="a"))
        await save(Person(2, mail="a"), tenant_id="other")
        assert await store.session().find(Person, mail="a") == [Person(1, "again", mail="a")]


async def test_the_commands_of_the_schema_know_every_index(dsn, options):
    options.documents.type(Person)
    await apply_schema(dsn, options)
    wider = attrs.evolve(options, documents=types("town", gin(), expression(LOWER + " -- lower")))
    with pytest.raises(FlowstoreError, match="index doc_person_data_gin is missing"):
        await assert_schema(dsn, wider)
    patch = await patch_schema(dsn, wider)
    assert patch.count("create index") == 3
    assert all(line in dump_schema(wider) for line in patch.splitlines() if "create index" in line)
    assert len(await apply_schema(dsn, wider)) == 3
    await assert_schema(dsn, wider)
    assert await apply_schema(dsn, wider) == ()


@pytest.mark.parametrize("sql", ["", " ", "a\0b", None, 7])
def test_what_is_no_expression_is_refused(sql):
    with pytest.raises(RegistrationError, match="expression"):
        expression(sql)
    with pytest.raises(RegistrationError, match="expression"):
        expression()


@pytest.mark.parametrize("indexes", ["name", gin(), expression("id"), [7], [UUID], [b"name"]])
def test_what_is_no_list_of_indexes_is_refused(indexes):
    with pytest.raises(RegistrationError, match="Person"):
        DocumentTypes().type(Person, indexes=indexes)


def test_a_declaration_that_comes_twice_counts_once():
    documents = types(gin(), gin(), "name", "name", expression(LOWER), expression(LOWER))
    assert documents.describe(Person).indexes == (gin(), "name", expression(LOWER))


async def test_an_index_on_a_field_that_documents_are_not_stored_with_is_refused(opening):
    documents = types("name", gin(), "nmae")
    told = r"Person has an index on 'nmae'.* 'mail', 'name', 'tags', 'town': .*expression"
    with pytest.raises(RegistrationError, match=told):
        await opening(documents=documents).__aenter__()
    options = StoreOptions(documents=documents)
    with pytest.raises(RegistrationError, match=told):
        dump_schema(options)
    with pytest.raises(RegistrationError, match=told):
        MemoryEventStore(options)


async def test_a_renamed_field_is_indexed_and_found_by_its_key(opening, options):
    converter = options.events.converter
    renamed = make_dict_unstructure_fn(Person, converter, town=override(rename="city"))
    converter.register_unstructure_hook(Person, renamed)
    restored = make_dict_structure_fn(Person, converter, town=override(rename="city"))
    converter.register_structure_hook(Person, restored)
    person = Person(1, "Ada", "London")
    async with opening(events=options.events, documents=types("city")) as store:
        await fill(store, person)
        session = store.session()
        assert await session.find(Person, city="London") == [person]
        with pytest.raises(UnknownFieldError, match="'town' itself is stored as 'city'"):
            await session.find(Person, town="London")


@pytest.mark.parametrize("name", ["anything", "id"])
async def test_where_only_a_hook_knows_the_fields_any_may_be_looked_for(opening, options, name):
    options.events.converter.register_unstructure_hook(Person, lambda each: {"id": each.id, "n": 1})
    async with opening(events=options.events, documents=types("anything")) as store:
        await fill(store, Person(1))
        assert await store.session().find(Person, **{name: 2}) == []
        assert await store.session().find(Person, n=1) == [Person(1)]
