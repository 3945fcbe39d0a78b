# pyright: basic, reportOptionalMemberAccess=false, reportArgumentType=false
"""Storing many documents at once."""

from uuid import uuid4

import pytest

from flowstore.daemon import Store
from flowstore.errors import FlowstoreError
from flowstore.testing.contract._domain import Note, Tally, User, get, put
from flowstore.testing.contract._fixtures import Capability, needs


@needs(Capability.BULK)
class TestBulkInsert:
    async def test_many_documents_of_several_types(self, store: Store) -> None:
        user = User(uuid4(), "ünï ☃ \\ \t \n", 1, ["x"])
        tallies = [Tally(number, number) for number in range(5000)]
        assert await store.bulk_insert([user, *tallies, Note("a\\N", "\\N")]) == 5002
        assert await get(store, User, user.id) == user
        assert await get(store, Note, "a\\N") == Note("a\\N", "\\N")
        async with store.session() as session:
            assert await session.load_many(Tally, range(5000)) == tallies

    async def test_the_source_may_be_async(self, store: Store) -> None:
        async def source():
            for number in range(3):
                yield Tally(number)

        assert await store.bulk_insert(source()) == 3

    async def test_nothing_is_no_error(self, store: Store) -> None:
        assert await store.bulk_insert([]) == 0

    async def test_a_stored_one_is_refused_and_all_with_it(self, store: Store) -> None:
        await put(store, Note("b", "stored"))
        with pytest.raises(FlowstoreError, match="Note"):
            await store.bulk_insert([Note("a"), Note("b")])
        assert await get(store, Note, "a") is None
        assert await get(store, Note, "b") == Note("b", "stored")

    async def test_one_that_comes_twice_is_refused(self, store: Store) -> None:
        with pytest.raises(FlowstoreError):
            await store.bulk_insert([Note("a"), Note("a")])

    async def test_ignoring_keeps_the_stored_and_the_first(self, store: Store) -> None:
        await put(store, Note("b", "stored"))
        notes = [Note("a", "first"), Note("b", "new"), Note("a", "second")]
        assert await store.bulk_insert(notes, on_conflict="ignore") == 1
        assert await get(store, Note, "a") == Note("a", "first")
        assert await get(store, Note, "b") == Note("b", "stored")

    async def test_overwriting_keeps_the_last(self, store: Store) -> None:
        await put(store, Note("b", "stored"))
        notes = [Note("a", "first"), Note("b", "new"), Note("a", "second")]
        assert await store.bulk_insert(notes, on_conflict="overwrite") == 2
        assert await get(store, Note, "a") == Note("a", "second")
        assert await get(store, Note, "b") == Note("b", "new")

    async def test_a_failing_source_leaves_nothing(self, store: Store) -> None:
        def source():
            yield Note("a")
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await store.bulk_insert(source())
        assert await get(store, Note, "a") is None

    async def test_what_is_no_document_is_refused(self, store: Store) -> None:
        with pytest.raises(FlowstoreError):
            await store.bulk_insert([Note("a"), object()])

    async def test_another_way_of_conflicts_is_refused(self, store: Store) -> None:
        with pytest.raises((FlowstoreError, ValueError), match="overwrite"):
            await store.bulk_insert([Note("a")], on_conflict="merge")

    async def test_nothing_is_lost_of_ten_thousand(self, store: Store) -> None:
        notes = [Note(f"{number}", f"text {number}" * (number % 5)) for number in range(10_000)]
        assert await store.bulk_insert(reversed(notes)) == 10_000
        async with store.session() as session:
            found = await session.load_many(Note, [note.id for note in notes])
        assert found == notes
