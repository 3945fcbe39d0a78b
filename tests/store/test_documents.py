"""Documents: writing, reading, looking for them."""

from contextlib import aclosing
from uuid import UUID, uuid4

import attrs
import pytest
import trio
from psycopg import sql

from flowstore.errors import InvalidDocumentError, RegistrationError
from flowstore.store import DocumentTypes, open_event_store


@attrs.define
class Note:
    id: UUID
    text: str = ""
    tags: list[str] = attrs.field(factory=list)
    parent: UUID | None = None


@attrs.frozen
class Country:
    id: str
    name: str = ""


@attrs.frozen
class Happened:
    pass


@attrs.frozen
class Year:
    id: int


async def save(store, *documents):
    async with store.session() as session:
        session.store(*documents)
        await session.save_changes()


async def test_a_stored_document_is_loaded_as_it_was(store):
    note = Note(uuid4(), 'quote " back \\ {brace} ünï', ["a", "b"], uuid4())
    await save(store, note)
    assert await store.session().load(Note, note.id) == note


@pytest.mark.parametrize("document", [Country('a"\\,{}% ', "x"), Year(2**40), Year(-1)])
async def test_ids_may_be_text_and_numbers(store, document):
    await save(store, document)
    kind = type(document)
    assert await store.session().load(kind, document.id) == document
    assert await store.session().load_many(kind, [document.id]) == [document]
    async with store.session() as session:
        session.delete(document)
        await session.save_changes()
    assert await store.session().load(kind, document.id) is None


async def test_an_unknown_document_is_none(store):
    assert await store.session().load(Note, uuid4()) is None


async def test_storing_again_replaces(store):
    await save(store, Country("x", "old"))
    await save(store, Country("x", "new"))
    assert await store.session().load(Country, "x") == Country("x", "new")


async def test_documents_are_written_as_they_are_when_the_session_commits(store):
    note = Note(uuid4(), "then")
    async with store.session() as session:
        session.store(note)
        note.text = "now"
        await session.save_changes()
    assert (await store.session().load(Note, note.id)).text == "now"


async def test_loaded_documents_are_not_watched(store):
    note = Note(uuid4(), "as it was")
    await save(store, note)
    async with store.session() as session:
        (await session.load(Note, note.id)).text = "changed"
        await session.save_changes()
    assert await store.session().load(Note, note.id) == note


async def test_load_sees_what_is_queued(store):
    await save(store, Country("deleted"), Country("changed", "old"), Country("as stored"))
    async with store.session() as session:
        session.delete_by_id(Country, "deleted")
        session.store(Country("changed", "new"), Country("fresh"))
        assert await session.load(Country, "deleted") is None
        assert await session.load(Country, "changed") == Country("changed", "new")
        asked = ["fresh", "unknown", "as stored", "deleted", "changed", "fresh"]
        found = await session.load_many(Country, asked)
        assert [country.id for country in found] == ["fresh", "as stored", "changed", "fresh"]


@pytest.mark.parametrize("last", ["store", "delete"])
async def test_the_last_operation_on_a_document_wins(store, last):
    async with store.session() as session:
        session.store(Country("x", "first"))
        session.delete_by_id(Country, "x")
        session.store(Country("x", "second"))
        if last == "delete":
            session.delete(Country("x"))
        expected = await session.load(Country, "x")
        await session.save_changes()
        assert await session.load(Country, "x") == expected
    assert (expected is None) == (last == "delete")


async def test_a_thousand_documents_go_in_one_commit(store):
    notes = [Note(uuid4(), str(number)) for number in range(1000)]
    await save(store, *notes)
    ids = [note.id for note in notes]
    assert await store.session().load_many(Note, reversed(ids)) == notes[::-1]


async def test_find_compares_fields(store):
    parent = uuid4()
    first, second = Note(uuid4(), "a", ["x"], parent), Note(uuid4(), "a", ["x", "y"])
    await save(store, first, second)
    session = store.session()
    assert await session.find(Note, text="a", tags=["x"]) == [first]
    assert await session.find(Note, parent=None) == [second]
    assert await session.find(Note, parent=parent) == [first]
    assert await session.find(Note, text="b") == []
    assert len(await session.find(Note)) == 2


async def test_query_takes_a_condition_with_parameters_an_order_and_a_limit(store):
    await save(store, *(Country(str(n), f"c{n}") for n in range(5)))
    session = store.session()
    found = await session.query(
        Country, "data->>'name' = any(%s) or id = %s order by data->>'name' desc", ["c1", "c2"], "4"
    )
    assert [country.id for country in found] == ["4", "2", "1"]
    assert len(await session.query(Country, "data->>'name' like 'c%' limit 3")) == 3
    assert len(await session.query(Country, "data->>'name' like %s", "c%")) == 5


async def test_stream_query_yields_and_may_be_left_early(store):
    await save(store, *(Year(number) for number in range(50)))
    session = store.session()
    async with aclosing(session.stream_query(Year, "id >= %s order by id", 10)) as years:
        assert await anext(years) == Year(10)
    async with aclosing(session.stream_query(Year, "true order by id")) as years:
        assert [year.id async for year in years] == list(range(50))


async def test_an_index_comes_with_the_next_opening(opening, schema):
    names = ["name", "n" * 60]
    fields = {"id": attrs.field(type=str)} | {name: attrs.field(default="") for name in names}
    country = attrs.make_class("Country", fields)
    documents = DocumentTypes()
    documents.type(country, indexes=names)
    async with opening() as store:
        await save(store, country("x"))
    for _ in range(2):
        async with opening(documents=documents) as store, store.connection() as connection:
            query = "select indexdef from pg_indexes where schemaname = %s and tablename = %s"
            cursor = await connection.execute(query, (schema, "doc_country"))
            definitions = [row[0] for row in await cursor.fetchall()]
    assert len(definitions) == 3
    assert any("(data -> 'name'::text)" in definition for definition in definitions)


async def test_what_has_no_usable_id_is_no_document(store):
    @attrs.define
    class Nameless:
        name: str

    @attrs.define
    class Odd:
        id: float

    session = store.session()
    with pytest.raises(RegistrationError, match="no annotated attribute 'id'"):
        session.store(Nameless("x"))
    with pytest.raises(RegistrationError, match="float"):
        session.store(Odd(1.5))
    for wrong in (Note("text"), Note(None)):
        with pytest.raises(InvalidDocumentError, match="id"):
            session.store(wrong)
    with pytest.raises(InvalidDocumentError):
        session.delete_by_id(Year, True)
    with pytest.raises(InvalidDocumentError):
        await session.load(Note, "x")


async def test_two_classes_do_not_share_a_table(store):
    def another():
        @attrs.define
        class Note:
            id: str

        return Note

    await save(store, Note(uuid4()))
    with pytest.raises(RegistrationError, match="doc_note"):
        store.session().store(another()("x"))
    store.options.documents.type(another(), name="OtherNote")


async def test_a_name_that_postgres_would_cut_off_is_refused(store):
    kind = attrs.make_class("N" * 70, {"id": attrs.field(type=str)})
    with pytest.raises(RegistrationError, match="63"):
        store.session().store(kind("x"))
    store.options.documents.type(kind, name="Short")


async def test_documents_that_do_not_fit_any_more_are_named(store, schema):
    await save(store, Note(uuid4()))
    async with store.connection() as connection:
        table = sql.Identifier(schema, "doc_note")
        await connection.execute(sql.SQL("update {} set data = '{{\"id\": 1}}'").format(table))
    with pytest.raises(InvalidDocumentError, match="Note"):
        await store.session().find(Note)


async def test_a_pool_of_one_suffices_for_the_first_document_of_a_type(pg_dsn, options):
    """Tables are made on a connection of their own, so whoever holds the only one doesn't hang."""
    with trio.fail_after(30):
        async with open_event_store(pg_dsn, options, max_connections=1) as store:
            assert await store.bulk_insert([Country("a"), Year(1)]) == 2
            async with store.session() as session:
                await session.events.append_exclusive(await _begun(store), Happened())
                session.store(Note(uuid4()))
                await session.save_changes()


async def _begun(store):
    async with store.session() as session:
        stream = session.events.start_stream(uuid4(), Happened()).stream_id
        await session.save_changes()
    return stream
