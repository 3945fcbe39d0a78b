"""Documents that are objects while several pages are folded: read once, and written once, at the end."""

from uuid import UUID

import attrs
import pytest

from flowstore.errors import FlowstoreError, InvalidDocumentError
from flowstore.store import HeldDocuments, OpenDocuments, StoreOptions
from flowstore.store._queue import DeleteDocument
from flowstore.store.memory import MemoryEventStore


@attrs.define
class Note:
    id: UUID
    lines: list[str] = attrs.field(factory=list)


@attrs.define
class Other:
    id: UUID


@attrs.define
class Numbered:
    id: int


@attrs.define
class Named:
    id: str


TYPES = frozenset({Note, Numbered, Named})
ONE, TWO = UUID(int=1), UUID(int=2)


@pytest.fixture
def store():
    return MemoryEventStore(StoreOptions())


@pytest.fixture
def held():
    return HeldDocuments(TYPES, 1_000_000)


@pytest.fixture
def reads(monkeypatch):
    """The identities that the database was asked for."""
    asked = []
    unit = type(MemoryEventStore().projection_session())
    load_rows = unit._load_rows

    async def noted(self, kind, identities):
        asked.extend(identities)
        return await load_rows(self, kind, identities)

    monkeypatch.setattr(unit, "_load_rows", noted)
    return asked


def begin(store, held):
    unit = store.projection_session()
    unit.keep(OpenDocuments(held))
    return unit


async def written(unit):
    """What is to be written: JSON by identity, None for what is deleted."""
    operations = (await unit.write_out()).queue().operations
    return {
        each.identity: None if isinstance(each, DeleteDocument) else each.text
        for each in operations
    }


async def save(store, *documents):
    async with store.session() as session:
        session.store(*documents)
        await session.save_changes()


async def test_what_is_stored_is_what_is_loaded_and_is_written_once_as_it_is_at_the_end(
    store, held, reads
):
    unit = begin(store, held)
    note = Note(ONE, ["a"])
    unit.store(note)
    assert (await unit.load_many(Note, [ONE])) == [note]
    assert (await unit.load(Note, ONE)) is note
    note.lines.append("b")
    unit.store(note)
    assert await written(unit) == {ONE: f'{{"id":"{ONE}","lines":["a","b"]}}'}
    assert reads == []


async def test_a_document_is_read_once_also_one_that_is_not_there(store, held, reads):
    await save(store, Note(ONE, ["a"]))
    unit = begin(store, held)
    for _ in range(3):
        assert await unit.load_many(Note, [TWO, ONE]) == [Note(ONE, ["a"])]
    assert reads == [TWO, ONE]


async def test_what_was_only_read_is_not_written(store, held):
    await save(store, Note(ONE, ["a"]))
    unit = begin(store, held)
    (await unit.load(Note, ONE)).lines.append("b")
    assert await written(unit) == {}


async def test_what_was_deleted_is_gone_until_it_is_stored_again(store, held):
    await save(store, Note(ONE, ["a"]), Note(TWO))
    unit = begin(store, held)
    unit.delete_by_id(Note, ONE)
    unit.delete(Note(TWO))
    assert await unit.load_many(Note, [ONE, TWO]) == []
    unit.store(Note(TWO, ["again"]))
    assert await unit.load_many(Note, [ONE, TWO]) == [Note(TWO, ["again"])]
    assert await written(unit) == {ONE: None, TWO: f'{{"id":"{TWO}","lines":["again"]}}'}


async def test_the_next_span_gets_objects_of_its_own(store, held, reads):
    first = begin(store, held)
    note = Note(ONE, ["a"])
    first.store(note)
    await first.write_out()
    note.lines.append("too late")
    second = begin(store, held)
    assert await second.load(Note, ONE) == Note(ONE, ["a"])
    assert reads == []


async def test_tenants_and_classes_have_documents_of_their_own(held):
    store = MemoryEventStore(StoreOptions(tenancy="conjoined"))
    unit = store.projection_session("a")
    unit.keep(OpenDocuments(held))
    unit.store(Note(ONE, ["of a"]), Numbered(1))
    other = unit.for_tenant("b")
    assert await other.load_many(Note, [ONE]) == []
    other.store(Note(ONE, ["of b"]))
    found = [(each.tenant, each.kind.type) for each in (await unit.write_out()).queue().operations]
    assert found == [("a", Note), ("a", Numbered), ("b", Note)]


@pytest.mark.parametrize("wrong", [True, "1", UUID(int=1)])
async def test_an_identity_of_another_type_is_refused_although_it_equals_one(store, held, wrong):
    unit = begin(store, held)
    unit.store(Numbered(1))
    with pytest.raises(InvalidDocumentError, match="can't be the id of a Numbered"):
        await unit.load(Numbered, wrong)
    with pytest.raises(InvalidDocumentError, match="can't be the id of a Numbered"):
        unit.store(Numbered(wrong))
    with pytest.raises(InvalidDocumentError, match="can't be the id of a Numbered"):
        unit.delete_by_id(Numbered, wrong)


async def test_a_number_is_no_uuid(store, held):
    unit = begin(store, held)
    unit.store(Note(ONE))
    with pytest.raises(InvalidDocumentError, match="can't be the id of a Note"):
        await unit.load(Note, 1)


@pytest.mark.parametrize(
    "queue",
    [
        lambda unit: unit.store(Other(ONE)),
        lambda unit: unit.delete_by_id(Other, ONE),
        lambda unit: unit.after_commit(print),
    ],
)
async def test_what_others_may_write_or_wait_for_is_refused(store, held, queue):
    unit = begin(store, held)
    queue(unit)
    with pytest.raises(FlowstoreError, match="page by page"):
        await unit.write_out()


def begun(store, held):
    documents = OpenDocuments(held)
    unit = store.projection_session()
    unit.keep(documents)
    return documents, unit


async def test_documents_may_have_grown_by_all_that_events_said(store, held):
    documents, unit = begun(store, held)
    unit.store(Note(ONE))
    unit.weigh(5_000)
    assert documents.size >= 5_000


async def test_what_one_event_has_put_into_many_documents_counts_before_they_are_written(
    store, held
):
    documents, unit = begun(store, held)
    notes = [Note(UUID(int=number)) for number in range(300)]
    for times in (1, 2, 3):
        for note in notes:
            note.lines.append("x" * 1_000)
            unit.store(note)
        unit.weigh(1_000)
        assert 300_000 * times <= documents.size <= 300_000 * times + 500_000


async def test_what_was_read_counts_and_what_can_not_be_written_yet_does_no_harm(store, held):
    await save(store, Note(ONE, ["x" * 5_000]))
    documents, unit = begun(store, held)
    note = await unit.load(Note, ONE)
    assert documents.size >= 5_000
    note.lines.append("\0")
    unit.store(note)
    unit.weigh(10)
    note.lines.pop()
    assert list(await written(unit)) == [ONE]


async def test_an_identity_that_cannot_be_stored_is_refused_where_it_is_given(store, held):
    unit = begin(store, held)
    with pytest.raises(InvalidDocumentError, match="can't be the id of a Named"):
        unit.store(Named("a\0b"))
