# pyright: basic, reportOptionalMemberAccess=false, reportArgumentType=false
# pyright: reportAttributeAccessIssue=false, reportCallIssue=false
"""Tenants that share a store."""

from uuid import uuid4

import pytest

from flowstore.daemon import Store
from flowstore.errors import ConcurrencyError, FlowstoreError, InvalidTenantError
from flowstore.events import NewEvent
from flowstore.projections import Lifecycle
from flowstore.store import StoreOptions
from flowstore.testing.contract._domain import (
    Account,
    Deposited,
    Note,
    Opened,
    commit,
    get,
    put,
)
from flowstore.testing.contract._fixtures import Capability, OpenStore, needs


async def of(store: Store, tenant: str, stream: object) -> list[object]:
    """List a stream's events as a tenant sees them."""
    async with store.session(tenant_id=tenant) as session:
        events = await session.events.fetch_stream(stream)
    return [event.data for event in events]


class TestConjoinedTenancy:
    @pytest.fixture
    def options(self) -> StoreOptions:
        return StoreOptions(tenancy="conjoined")

    async def test_one_identity_is_two_streams(self, store: Store) -> None:
        stream = uuid4()
        await commit(store, stream, Opened("Ada"), tenant_id="a")
        await commit(store, stream, Opened("Bob"), tenant_id="b")
        assert await of(store, "a", stream) == [Opened("Ada")]
        assert await of(store, "b", stream) == [Opened("Bob")]

    async def test_events_and_states_name_their_tenant(self, store: Store) -> None:
        stream = uuid4()
        action = await commit(store, stream, Opened("Ada"), tenant_id="a")
        assert action.events[0].tenant_id == "a"
        async with store.session(tenant_id="a") as session:
            [event] = await session.events.fetch_stream(stream)
            state = await session.events.fetch_stream_state(stream)
        assert (event.tenant_id, state.tenant_id) == ("a", "a")

    async def test_a_tenant_sees_no_streams_of_another(self, store: Store) -> None:
        stream = uuid4()
        await commit(store, stream, Opened("Ada"), tenant_id="a")
        async with store.session(tenant_id="b") as session:
            assert await session.events.fetch_stream(stream) == []
            assert await session.events.fetch_stream_state(stream) is None
            assert await session.events.aggregate_stream(Account, stream) is None

    async def test_a_tenant_loads_no_event_of_another(self, store: Store) -> None:
        action = await commit(store, uuid4(), Opened("Ada"), tenant_id="a")
        async with store.session(tenant_id="b") as session:
            assert await session.events.load(action.events[0].id) is None

    async def test_versions_are_each_tenants_own(self, store: Store) -> None:
        stream = uuid4()
        await commit(store, stream, Opened("Ada"), Deposited(1), tenant_id="a")
        async with store.session(tenant_id="b") as session:
            session.events.append(stream, Opened("Bob"), expected_version=0)
            await session.save_changes()
        async with store.session(tenant_id="a") as session:
            session.events.append(stream, Deposited(1), expected_version=0)
            with pytest.raises(ConcurrencyError):
                await session.save_changes()

    async def test_documents_are_each_tenants_own(self, store: Store) -> None:
        await put(store, Note("n", "of a"), tenant_id="a")
        await put(store, Note("n", "of b"), tenant_id="b")
        assert (await get(store, Note, "n", tenant_id="a")).text == "of a"
        assert (await get(store, Note, "n", tenant_id="b")).text == "of b"
        assert await get(store, Note, "n", tenant_id="c") is None

    async def test_find_and_load_many_stay_with_the_tenant(self, store: Store) -> None:
        await put(store, Note("n", "x"), tenant_id="a")
        await put(store, Note("m", "x"), tenant_id="b")
        async with store.session(tenant_id="a") as session:
            assert await session.find(Note, text="x") == [Note("n", "x")]
            assert await session.load_many(Note, ["n", "m"]) == [Note("n", "x")]

    async def test_deleting_stays_with_the_tenant(self, store: Store) -> None:
        for tenant in "ab":
            await put(store, Note("n", "x"), tenant_id=tenant)
        async with store.session(tenant_id="a") as session:
            session.delete_by_id(Note, "n")
            await session.save_changes()
        assert await get(store, Note, "n", tenant_id="a") is None
        assert await get(store, Note, "n", tenant_id="b") == Note("n", "x")

    async def test_archiving_stays_with_the_tenant(self, store: Store) -> None:
        stream = uuid4()
        for tenant in "ab":
            await commit(store, stream, Opened("x"), tenant_id=tenant)
        async with store.session(tenant_id="a") as session:
            session.events.archive_stream(stream)
            await session.save_changes()
        assert await of(store, "a", stream) == []
        assert await of(store, "b", stream) == [Opened("x")]

    async def test_the_feed_has_all_tenants(self, store: Store) -> None:
        for tenant in "ab":
            await commit(store, uuid4(), Opened("x"), tenant_id=tenant)
        page = await store.fetch_page(0, await store.high_water())
        assert [event.tenant_id for event in page.events] == ["a", "b"]

    async def test_an_event_id_of_another_tenant_is_not_overwritten(self, store: Store) -> None:
        event, stream = NewEvent(Deposited(1), id=uuid4()), uuid4()
        await commit(store, stream, event, tenant_id="a")
        with pytest.raises(FlowstoreError):
            await commit(store, stream, event, tenant_id="b")

    async def test_a_session_needs_a_tenant_or_has_the_default(self, store: Store) -> None:
        stream = uuid4()
        await commit(store, stream, Opened("Ada"), tenant_id="a")
        try:
            async with store.session() as session:
                found = await session.events.fetch_stream(stream)
        except FlowstoreError:
            found = []
        assert found == []

    async def test_inline_documents_are_each_tenants_own(self, open_store_for: OpenStore) -> None:
        options = StoreOptions(tenancy="conjoined")
        options.projections.aggregate_streams_with(Account, lifecycle=Lifecycle.INLINE)
        stream = uuid4()
        async with open_store_for(options, storage="inline") as store:
            await commit(store, stream, Deposited(1), tenant_id="a")
            await commit(store, stream, Deposited(2), tenant_id="b")
            assert (await get(store, Account, stream, tenant_id="a")).balance == 1
            assert (await get(store, Account, stream, tenant_id="b")).balance == 2

    @needs(Capability.SQL)
    async def test_queries_stay_with_the_tenant(self, store: Store) -> None:
        await put(store, Note("n", "x"), tenant_id="a")
        await put(store, Note("m", "x"), tenant_id="b")
        async with store.session(tenant_id="a") as session:
            found = await session.query(Note, "data ->> 'text' = %s or true", "x")
        assert found == [Note("n", "x")]


class TestSingleTenancy:
    async def test_a_session_of_a_tenant_is_refused(self, store: Store) -> None:
        with pytest.raises(InvalidTenantError, match="tenan"):
            async with store.session(tenant_id="a") as session:
                session.store(Note("n"))
                await session.save_changes()
