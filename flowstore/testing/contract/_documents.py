# pyright: basic, reportOptionalMemberAccess=false, reportArgumentType=false
# pyright: reportAttributeAccessIssue=false, reportCallIssue=false
"""Documents: storing, loading, deleting, finding by equal fields."""

from typing import Any
from uuid import UUID, uuid4

import attrs
import pytest

from flowstore.daemon import Store
from flowstore.errors import FlowstoreError, InvalidDocumentError, UnknownFieldError
from flowstore.testing.contract._domain import Deposited, Note, Tally, User, commit, get, put


@attrs.define
class Anonymous:
    """No document: it has no identity."""

    name: str


@attrs.define
class Address:
    """A part of a document."""

    street: str
    number: int | None = None


@attrs.define
class Customer:
    """A document of parts."""

    id: UUID
    home: Address
    others: dict[str, Address] = attrs.field(factory=dict[str, Address])


@attrs.define
class Patron(Customer):
    """A customer that has a field of its own."""

    level: int = 0


class TestDocuments:
    @pytest.mark.parametrize(
        "document", [User(uuid4(), "Ada", 36, ["x"]), Note("a", "text"), Tally(7, 1)]
    )
    async def test_a_stored_document_is_loaded_by_its_id(self, store: Store, document: Any) -> None:
        await put(store, document)
        assert await get(store, type(document), document.id) == document

    async def test_parts_are_kept(self, store: Store) -> None:
        customer = Customer(uuid4(), Address("Road", 1), {"work": Address("Street")})
        await put(store, customer)
        assert await get(store, Customer, customer.id) == customer

    async def test_an_unknown_document_is_none(self, store: Store) -> None:
        assert await get(store, User, uuid4()) is None

    async def test_storing_again_overwrites(self, store: Store) -> None:
        await put(store, Note("a", "one"))
        await put(store, Note("a", "two"))
        assert await get(store, Note, "a") == Note("a", "two")

    async def test_types_do_not_mix(self, store: Store) -> None:
        await put(store, Note("a", "one"))
        assert await get(store, Tally, 7) is None

    async def test_the_last_store_of_a_session_wins(self, store: Store) -> None:
        async with store.session() as session:
            session.store(Note("a", "one"))
            session.store(Note("a", "two"))
            await session.save_changes()
        assert await get(store, Note, "a") == Note("a", "two")

    async def test_store_then_delete_deletes(self, store: Store) -> None:
        await put(store, Note("a", "zero"))
        async with store.session() as session:
            session.store(Note("a", "one"))
            session.delete_by_id(Note, "a")
            await session.save_changes()
        assert await get(store, Note, "a") is None

    async def test_delete_then_store_stores(self, store: Store) -> None:
        await put(store, Note("a", "zero"))
        async with store.session() as session:
            session.delete_by_id(Note, "a")
            session.store(Note("a", "one"))
            await session.save_changes()
        assert await get(store, Note, "a") == Note("a", "one")

    async def test_deleting_by_document(self, store: Store) -> None:
        await put(store, Note("a"), Note("b"))
        async with store.session() as session:
            session.delete(Note("a"))
            await session.save_changes()
        assert await get(store, Note, "a") is None
        assert await get(store, Note, "b") is not None

    async def test_deleting_what_does_not_exist_is_no_error(self, store: Store) -> None:
        async with store.session() as session:
            session.delete_by_id(User, uuid4())
            await session.save_changes()

    async def test_a_session_sees_its_queued_stores(self, store: Store) -> None:
        async with store.session() as session:
            session.store(Note("a", "queued"))
            assert await session.load(Note, "a") == Note("a", "queued")
        assert await get(store, Note, "a") is None

    async def test_a_session_sees_its_queued_deletes(self, store: Store) -> None:
        await put(store, Note("a"))
        async with store.session() as session:
            session.delete_by_id(Note, "a")
            assert await session.load(Note, "a") is None
            assert await session.load_many(Note, ["a"]) == []
        assert await get(store, Note, "a") is not None

    async def test_load_many_keeps_the_order_asked_and_leaves_out_what_is_missing(
        self, store: Store
    ) -> None:
        await put(store, *(Note(name, name) for name in "abc"))
        async with store.session() as session:
            session.store(Note("d", "queued"))
            found = await session.load_many(Note, ["c", "x", "d", "a"])
        assert [note.id for note in found] == ["c", "d", "a"]

    async def test_load_many_of_nothing(self, store: Store) -> None:
        async with store.session() as session:
            assert await session.load_many(Note, []) == []

    async def test_load_many_of_one_twice(self, store: Store) -> None:
        await put(store, Note("a"))
        async with store.session() as session:
            found = await session.load_many(Note, ["a", "a"])
        assert found in ([Note("a")], [Note("a"), Note("a")])

    async def test_loaded_documents_are_not_watched(self, store: Store) -> None:
        await put(store, Note("a", "one"))
        async with store.session() as session:
            note = await session.load(Note, "a")
            note.text = "two"
            await session.save_changes()
        assert await get(store, Note, "a") == Note("a", "one")

    async def test_find_by_equal_fields(self, store: Store) -> None:
        ada, bob, eve = (User(uuid4(), name, age) for name, age in [("A", 1), ("B", 1), ("E", 2)])
        await put(store, ada, bob, eve)
        async with store.session() as session:
            assert {user.name for user in await session.find(User, age=1)} == {"A", "B"}
            assert await session.find(User, age=1, name="B") == [bob]
            assert await session.find(User, age=3) == []
            assert len(await session.find(User)) == 3

    async def test_find_compares_whole_values(self, store: Store) -> None:
        user = User(uuid4(), "Ada", 1, ["x", "y"])
        await put(store, user)
        async with store.session() as session:
            assert await session.find(User, tags=["x", "y"]) == [user]
            assert await session.find(User, tags=["x"]) == []

    async def test_find_by_none(self, store: Store) -> None:
        customer = Customer(uuid4(), Address("Road"))
        await put(store, customer)
        async with store.session() as session:
            assert await session.find(Customer, home=Address("Road", None)) == [customer]
            assert await session.find(Customer, home=None) == []

    @pytest.mark.parametrize("value", ["Road", None])
    @pytest.mark.parametrize("name", ["nothing", "home.street", "home__street", "Home", ""])
    async def test_find_by_a_field_that_does_not_exist_is_refused(
        self, store: Store, name: str, value: str | None
    ) -> None:
        await put(store, customer := Customer(uuid4(), Address("Road")))
        async with store.session() as session:
            with pytest.raises(UnknownFieldError, match="'home', 'id', 'others'") as caught:
                await session.find(Customer, id=customer.id, **{name: value})
        assert (caught.value.document, caught.value.field) == ("Customer", name)
        assert caught.value.known == ("home", "id", "others")

    async def test_find_by_a_field_of_another_class_of_the_family_is_refused(
        self, store: Store
    ) -> None:
        await put(store, Patron(uuid4(), Address("Road"), level=3))
        async with store.session() as session:
            assert len(await session.find(Patron, level=3, home=Address("Road"))) == 1
            with pytest.raises(UnknownFieldError, match="'level'"):
                await session.find(Customer, level=3)

    async def test_a_document_without_identity_is_refused(self, store: Store) -> None:
        async with store.session() as session:
            with pytest.raises(FlowstoreError):
                session.store(Anonymous("Ada"))

    async def test_an_identity_of_another_kind_is_refused(self, store: Store) -> None:
        async with store.session() as session:
            with pytest.raises(InvalidDocumentError):
                await session.load(User, "ada")
            with pytest.raises(InvalidDocumentError):
                session.delete_by_id(Note, uuid4())

    async def test_what_json_can_not_say_is_refused(self, store: Store) -> None:
        async with store.session() as session:
            with pytest.raises(FlowstoreError):
                session.store(Note("a", "nul \0"))
                await session.save_changes()
        assert await get(store, Note, "a") is None

    async def test_documents_and_events_commit_together(self, store: Store) -> None:
        stream = uuid4()
        await commit(store, stream, Deposited(1))
        async with store.session() as session:
            session.store(Note("a"))
            session.events.append(stream, Deposited(2), expected_version=0)
            with pytest.raises(FlowstoreError):
                await session.save_changes()
        assert await get(store, Note, "a") is None

    async def test_many_documents_in_one_commit(self, store: Store) -> None:
        await put(store, *(Tally(number, number) for number in range(2000)))
        async with store.session() as session:
            found = await session.load_many(Tally, range(2000))
        assert [tally.count for tally in found] == list(range(2000))

    async def test_ten_thousand_in_one_session_come_back_as_they_were(self, store: Store) -> None:
        users = [User(UUID(int=n), f'user {n} \\ " é', n, ["x"] * (n % 3)) for n in range(10_000)]
        async with store.session() as session:
            session.store(*users)
            session.store(*(Tally(user.age, 1) for user in users))
            session.delete_by_id(Tally, 17)
            session.store(User(UUID(int=5), "last"))
            await session.save_changes()
        async with store.session() as session:
            found = await session.load_many(User, [user.id for user in users])
            tallies = await session.load_many(Tally, range(10_000))
        assert found == [*users[:5], User(UUID(int=5), "last"), *users[6:]]
        assert tallies == [Tally(n, 1) for n in range(10_000) if n != 17]
