# pyright: basic, reportOptionalMemberAccess=false, reportArgumentType=false
# pyright: reportAttributeAccessIssue=false, reportCallIssue=false
"""What streams are known by."""

from typing import Any
from uuid import UUID, uuid4

import pytest

from flowstore.daemon import Store
from flowstore.errors import FlowstoreError
from flowstore.store import StoreOptions
from flowstore.testing.contract._domain import Deposited, Ledger, Opened, commit, read, values
from flowstore.testing.contract._fixtures import Capability, OpenStore, needs


class TestUuidIdentity:
    async def test_a_stream_is_known_by_its_uuid(self, store: Store) -> None:
        stream = uuid4()
        await commit(store, stream, Opened("Ada"))
        [event] = await read(store, stream)
        assert event.stream_id == stream
        assert isinstance(event.stream_id, UUID)

    @pytest.mark.parametrize("wrong", ["project-1", 7, None])
    async def test_anything_else_is_refused(self, store: Store, wrong: Any) -> None:
        async with store.session() as session:
            with pytest.raises((FlowstoreError, TypeError, ValueError)):
                session.events.append(wrong, Opened("Ada"))
                await session.save_changes()

    async def test_reading_by_another_kind_is_refused(self, store: Store) -> None:
        with pytest.raises((FlowstoreError, TypeError, ValueError)):
            await read(store, "project-1")


class TestTextIdentity:
    @pytest.fixture
    def options(self) -> StoreOptions:
        return StoreOptions(stream_identity="string")

    @pytest.mark.parametrize("stream", ["project-1", "ünï ☃", "a'b\"c%s\\", "x" * 200])
    async def test_a_stream_is_known_by_its_text(self, store: Store, stream: str) -> None:
        await commit(store, stream, Deposited(1))
        [event] = await read(store, stream)
        assert event.stream_id == stream

    async def test_case_and_blanks_matter(self, store: Store) -> None:
        for number, stream in enumerate(["a", "A", " a", "a "]):
            await commit(store, stream, Deposited(number))
        for number, stream in enumerate(["a", "A", " a", "a "]):
            assert await values(store, stream) == [Deposited(number)]

    async def test_a_text_that_looks_like_a_uuid_stays_text(self, store: Store) -> None:
        stream = str(uuid4())
        await commit(store, stream, Deposited(1))
        [event] = await read(store, stream)
        assert event.stream_id == stream
        assert isinstance(event.stream_id, str)

    @pytest.mark.parametrize("wrong", [uuid4(), 7, None, "a\0b"])
    async def test_anything_else_is_refused(self, store: Store, wrong: Any) -> None:
        async with store.session() as session:
            with pytest.raises((FlowstoreError, TypeError, ValueError)):
                session.events.append(wrong, Opened("Ada"))
                await session.save_changes()

    async def test_an_aggregate_has_the_text_as_its_identity(self, store: Store) -> None:
        await commit(store, "ledger", Deposited(2), Deposited(3))
        async with store.session() as session:
            ledger = await session.events.aggregate_stream(Ledger, "ledger")
        assert ledger == Ledger("ledger", 5)


@needs(Capability.REOPENING)
class TestIdentityStays:
    async def test_the_kind_of_identity_can_not_change(self, open_store_for: OpenStore) -> None:
        async with open_store_for(StoreOptions()) as store:
            await commit(store, uuid4(), Opened("Ada"))
        with pytest.raises(FlowstoreError):
            async with open_store_for(StoreOptions(stream_identity="string")):
                pass
