# pyright: basic, reportOptionalMemberAccess=false, reportArgumentType=false
# pyright: reportAttributeAccessIssue=false, reportCallIssue=false
"""Documents that are refused when they have changed since they were loaded, and locks in order."""

from typing import Any
from uuid import uuid4

import pytest
import trio

from flowstore.daemon import Store
from flowstore.errors import ConcurrencyError
from flowstore.store import StoreOptions
from flowstore.testing.contract._domain import Deposited, Note, Tally, User, get, put, values


class TestOptimisticDocuments:
    @pytest.fixture
    def options(self) -> StoreOptions:
        options = StoreOptions()
        options.documents.type(Note, optimistic_concurrency=True)
        return options

    async def test_a_loaded_document_may_be_stored(self, store: Store) -> None:
        await put(store, Note("a", "one"))
        async with store.session() as session:
            note = await session.load(Note, "a")
            note.text = "two"
            session.store(note)
            await session.save_changes()
        assert (await get(store, Note, "a")).text == "two"

    async def test_one_that_changed_meanwhile_is_refused(self, store: Store) -> None:
        await put(store, Note("a", "one"))
        async with store.session() as mine, store.session() as yours:
            for session, text in ((mine, "mine"), (yours, "yours")):
                note = await session.load(Note, "a")
                note.text = text
                session.store(note)
            await mine.save_changes()
            with pytest.raises(ConcurrencyError):
                await yours.save_changes()
        assert (await get(store, Note, "a")).text == "mine"

    async def test_a_new_one_that_somebody_made_is_refused(self, store: Store) -> None:
        async with store.session() as session:
            session.store(Note("a", "mine"))
            await put(store, Note("a", "yours"))
            with pytest.raises(ConcurrencyError):
                await session.save_changes()
        assert (await get(store, Note, "a")).text == "yours"

    async def test_one_that_was_deleted_meanwhile_is_refused(self, store: Store) -> None:
        await put(store, Note("a", "one"))
        async with store.session() as mine, store.session() as yours:
            note = await mine.load(Note, "a")
            yours.delete_by_id(Note, "a")
            await yours.save_changes()
            mine.store(note)
            with pytest.raises(ConcurrencyError):
                await mine.save_changes()
        assert await get(store, Note, "a") is None

    async def test_a_session_may_store_again_what_it_stored(self, store: Store) -> None:
        async with store.session() as session:
            for text in ("one", "two", "three"):
                session.store(Note("a", text))
                await session.save_changes()
        assert (await get(store, Note, "a")).text == "three"

    async def test_found_documents_count_as_loaded(self, store: Store) -> None:
        await put(store, Note("a", "one"))
        async with store.session() as session:
            [note] = await session.find(Note, text="one")
            note.text = "two"
            session.store(note)
            await session.save_changes()
        assert (await get(store, Note, "a")).text == "two"

    async def test_a_refused_document_takes_events_and_others_with_it(self, store: Store) -> None:
        stream = uuid4()
        await put(store, Note("a", "one"))
        async with store.session() as session:
            session.store(Tally(1, 1), Note("a", "unseen"))
            session.events.append(stream, Deposited(1))
            with pytest.raises(ConcurrencyError):
                await session.save_changes()
        assert await get(store, Tally, 1) is None
        assert await values(store, stream) == []

    async def test_other_types_ask_nothing(self, store: Store) -> None:
        await put(store, Tally(1, 1))
        await put(store, Tally(1, 2))
        assert await get(store, Tally, 1) == Tally(1, 2)

    async def test_no_update_is_lost_when_everybody_tries_again(self, store: Store) -> None:
        await put(store, Note("a", "0"))

        async def increase() -> None:
            while True:
                async with store.session() as session:
                    note = await session.load(Note, "a")
                    session.store(Note("a", str(int(note.text) + 1)))
                    try:
                        await session.save_changes()
                    except ConcurrencyError:
                        continue
                    return

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                for _ in range(6):
                    nursery.start_soon(increase)
        assert (await get(store, Note, "a")).text == "6"


class TestLockOrder:
    """Sessions that write the same documents in different orders wait for each other in one."""

    @pytest.fixture
    def options(self) -> StoreOptions:
        options = StoreOptions()
        options.documents.type(Note, optimistic_concurrency=True)
        return options

    async def at_once(self, write: Any) -> None:
        """Write in both orders, again and again, with as many sessions as a pool has connections."""

        async def again(order: int) -> None:
            for _ in range(10):
                await write(order)

        with trio.fail_after(120):
            async with trio.open_nursery() as nursery:
                for number in range(10):
                    nursery.start_soon(again, -1 if number % 2 else 1)

    async def test_stores_in_opposite_orders_do_not_block_each_other(self, store: Store) -> None:
        tallies = [Tally(number) for number in range(40)]
        await self.at_once(lambda order: put(store, *tallies[::order]))
        assert await get(store, Tally, 39) == Tally(39)

    async def test_nor_do_stores_and_deletes(self, store: Store) -> None:
        tallies = [Tally(number) for number in range(40)]
        await put(store, *tallies)

        async def mix(order: int) -> None:
            async with store.session() as session:
                for number, tally in enumerate(tallies[::order]):
                    if number % 2:
                        session.delete(tally)
                    else:
                        session.store(tally)
                await session.save_changes()

        await self.at_once(mix)
        async with store.session() as session:
            assert len(await session.find(Tally)) == 20

    async def test_nor_do_documents_that_may_not_have_moved(self, store: Store) -> None:
        names = [str(number) for number in range(20)]
        await put(store, *(Note(name) for name in names))

        async def change(order: int) -> None:
            async with store.session() as session:
                for note in await session.load_many(Note, names[::order]):
                    note.text += "."
                    session.store(note)
                try:
                    await session.save_changes()
                except ConcurrencyError:
                    return
                changed.append(order)

        changed: list[int] = []
        await self.at_once(change)
        assert changed
        assert (await get(store, Note, "7")).text == "." * len(changed)

    async def test_nor_do_types_in_opposite_orders(self, store: Store) -> None:
        documents = [User(uuid4()), Tally(1)]
        await self.at_once(lambda order: put(store, *documents[::order]))
        assert await get(store, Tally, 1) == Tally(1)
