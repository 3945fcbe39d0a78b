"""Commits that rest on documents as they were kept: refused if one isn't so any more."""

from uuid import UUID

import attrs
import pytest

from flowstore.errors import DocumentsEditedError
from flowstore.store import HeldDocuments, OpenDocuments

MANY = [UUID(int=number) for number in range(1, 151)]
FEW = MANY[:3]


@attrs.define
class Note:
    id: UUID
    number: int = 0


@attrs.define
class Label:
    id: str
    number: int = 0


@attrs.define
class Shard:
    store: object
    held: HeldDocuments = attrs.field(
        factory=lambda: HeldDocuments(frozenset({Note, Label}), 1_000_000)
    )
    place: int = 0

    async def commit(self, *documents, looks_at=(), deletes=(), kind=Note):
        """Commit documents, having loaded them before."""
        unit = self.store.projection_session()
        unit.keep(OpenDocuments(self.held))
        wanted = [*[each.id for each in documents], *looks_at, *[each.id for each in deletes]]
        await unit.load_many(kind, wanted)
        unit.store(*documents)
        for each in deletes:
            unit.delete(each)
        committed = self.store.projection_session()
        committed.take_over(await unit.write_out())
        where = {"shard": "notes", "floor": self.place, "ceiling": self.place + 1}
        await self.store.commit_batch(committed, **where)
        self.held.confirm(committed.kept)
        self.place += 1
        return committed


@pytest.fixture
async def shard(store):
    await (made := Shard(store)).commit(*map(Note, FEW))
    return made


async def mend(store, identity):
    async with store.connection() as connection:
        table = f"{store.options.schema}.doc_note"
        query = f"update {table} set data = jsonb_set(data, '{{number}}', '7') where id = %s"
        await connection.execute(query.encode(), (identity,))


async def numbers(store, kind=Note, identities=FEW):
    async with store.session() as session:
        return [each.number for each in await session.load_many(kind, identities)]


async def test_nothing_is_refused_that_is_as_it_was(store, shard):
    for number in range(1, 4):
        await shard.commit(*[Note(each, number) for each in FEW])
    assert await numbers(store) == [3, 3, 3]


async def test_what_is_looked_at_and_not_written_has_to_be_as_it_was(store, shard):
    await shard.commit(Note(FEW[0], 1), looks_at=FEW[1:])
    await mend(store, FEW[2])
    with pytest.raises(DocumentsEditedError, match="'notes'"):
        await shard.commit(Note(FEW[0], 2), looks_at=FEW[1:])
    assert await numbers(store) == [1, 0, 7]


async def test_what_is_written_beside_one_that_was_mended_is_not_written(store, shard):
    await mend(store, FEW[1])
    with pytest.raises(DocumentsEditedError):
        await shard.commit(*[Note(each, 1) for each in FEW])
    assert await numbers(store) == [0, 7, 0]


async def test_what_was_read_afresh_is_written_as_ever(store, shard):
    shard.held = HeldDocuments(frozenset({Note}), 1_000_000)
    await mend(store, FEW[1])
    await shard.commit(*[Note(each, 1) for each in FEW])
    assert await numbers(store) == [1, 1, 1]


async def test_documents_that_are_new_stand_beside_those_that_are_kept(store, shard):
    await shard.commit(Note(FEW[0], 1), Note(MANY[10], 1))
    await shard.commit(Note(FEW[0], 2), Note(MANY[10], 2), Note(MANY[11], 2))
    assert await numbers(store, identities=[FEW[0], MANY[10], MANY[11]]) == [2, 2, 2]


async def test_many_documents_are_looked_at_before_they_are_written(store, shard):
    await shard.commit(*[Note(each, 1) for each in MANY])
    shard.held.forget_unstamped()
    for start in range(0, 150, 50):
        await shard.commit(*[Note(each, 2) for each in MANY[start : start + 50]])
    await shard.commit(*[Note(each, 3) for each in MANY])
    for start in range(0, 150, 50):
        await shard.commit(*[Note(each, 4) for each in MANY[start : start + 50]])
    await mend(store, MANY[140])
    with pytest.raises(DocumentsEditedError):
        await shard.commit(*[Note(each, 5) for each in MANY])
    assert await numbers(store, identities=MANY) == [4] * 140 + [7] + [4] * 9


async def test_one_that_is_deleted_has_to_be_as_it_was(store, shard):
    await mend(store, FEW[1])
    with pytest.raises(DocumentsEditedError):
        await shard.commit(Note(FEW[0], 1), deletes=[Note(FEW[1])])
    assert await numbers(store) == [0, 7, 0]


async def test_one_that_is_gone_is_not_put_back(store, shard):
    async with store.connection() as connection:
        await connection.execute(f"delete from {store.options.schema}.doc_note".encode())
    with pytest.raises(DocumentsEditedError):
        await shard.commit(Note(FEW[0], 1))
    assert await numbers(store) == []


@pytest.mark.parametrize("identity", ["plain", "a;b,{c}", 'quo"ted\\', "ünï"])
async def test_identities_that_are_text(store, shard, identity):
    for number in range(3):
        unit = await shard.commit(Label(identity, number), kind=Label)
        assert [each.text for each in unit.kept.values()] == [
            f'{{"id": {_json(identity)}, "number": {number}}}'
        ]
    assert await numbers(store, Label, [identity]) == [2]


def _json(text):
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


@attrs.define
class Texted:
    id: UUID
    text: str = ""


@attrs.define
class Labelled:
    id: str
    text: str = ""


@attrs.define
class Counted:
    id: int
    text: str = ""


TEXTS = ["", 'a "quoted" \\ text', "{},\n NULL", "é\u2028😀", "'", "\t%s $1"]


@pytest.mark.parametrize(
    ("kind", "identities"),
    [
        (Texted, MANY),
        (Labelled, [f"{text}{number}" for number in range(25) for text in TEXTS]),
        (Counted, range(-75, 75)),
    ],
)
async def test_many_documents_are_written_each_with_its_own_json(store, kind, identities):
    shard = Shard(store, HeldDocuments(frozenset({kind}), 1_000_000))
    for turn in range(2):  # as new ones, and over those
        wanted = [
            kind(identity, f"{turn}{TEXTS[number % 6]}")
            for number, identity in enumerate(identities)
        ]
        await shard.commit(*wanted, kind=kind)
        async with store.session() as session:
            assert await session.load_many(kind, identities) == wanted


@pytest.mark.parametrize("count", [3, 150])
@pytest.mark.parametrize(
    ("kind", "identities"),
    [
        (Texted, [UUID(int=number * 2**121 + 1) for number in range(75)]),
        (Labelled, [f"{text}{number}" for number in range(13) for text in TEXTS]),
        (Counted, [number * 2**55 - 1 for number in range(-75, 75)]),
    ],
)
async def test_a_span_reads_documents_whatever_their_identities(store, kind, identities, count):
    there = [kind(identity, f"of {identity}") for identity in identities[:count:2]]
    async with store.session() as session:
        session.store(*there)
        await session.save_changes()
    unit = store.projection_session()
    unit.keep(OpenDocuments(HeldDocuments(frozenset({kind}), 1_000_000)))
    assert await unit.load_many(kind, identities[:count]) == there
