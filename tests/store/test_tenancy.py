"""Tenants share the tables and see nothing of each other."""

from uuid import uuid4

import attrs
import pytest

from flowstore.errors import EventIdConflictError, InvalidTenantError
from flowstore.events import NewEvent
from flowstore.projections import Lifecycle


@attrs.frozen
class Counted:
    by: int = 1


@attrs.define
class Total:
    id: str
    number: int = 0

    def apply(self, counted: Counted) -> None:
        self.number += counted.by


@pytest.fixture
async def store(opening):
    async with opening(tenancy="conjoined", stream_identity="string") as opened:
        opened.options.projections.aggregate_streams_with(Total, lifecycle=Lifecycle.INLINE)
        yield opened


async def count(store, tenant, by, **more):
    async with store.session(tenant_id=tenant) as session:
        action = session.events.append("s", NewEvent(Counted(by), **more))
        await session.save_changes()
    return action


async def test_tenants_have_streams_of_their_own_under_one_identity(store):
    for tenant, by in (("a", 1), ("b", 10), ("a", 2), (None, 100)):
        await count(store, tenant, by)
    for tenant, numbers in (("a", [1, 2]), ("b", [10]), (None, [100]), ("c", [])):
        events = store.session(tenant_id=tenant).events
        found = await events.fetch_stream("s")
        assert [event.data.by for event in found] == numbers
        assert all(event.tenant_id == tenant for event in found)
        state = await events.fetch_stream_state("s")
        assert (state and (state.version, state.tenant_id)) == (
            (len(numbers), tenant) if numbers else None
        )


async def test_documents_belong_to_their_tenant(store):
    await count(store, "a", 1)
    await count(store, "b", 10)
    for tenant, number in (("a", 1), ("b", 10)):
        session = store.session(tenant_id=tenant)
        assert (await session.load(Total, "s")).number == number
        assert [total.number for total in await session.find(Total)] == [number]
        assert [t.number for t in await session.query(Total, "true or true")] == [number]
    async with store.session(tenant_id="a") as session:
        session.delete_by_id(Total, "s")
        session.events.archive_stream("s")
        await session.save_changes()
    session = store.session(tenant_id="b")
    assert await session.load(Total, "s")
    assert await session.events.fetch_stream("s")


async def test_an_event_of_another_tenant_is_not_loaded(store):
    action = await count(store, "a", 1)
    event_id = action.events[0].id
    assert await store.session(tenant_id="a").events.load(event_id) == action.events[0]
    assert await store.session(tenant_id="b").events.load(event_id) is None
    with pytest.raises(EventIdConflictError):
        await count(store, "b", 1, id=event_id)


async def test_the_feed_reads_all_tenants(store):
    for tenant in ("a", "b", None):
        await count(store, tenant, 1)
    page = await store.fetch_page(0, 3)
    assert [event.tenant_id for event in page.events] == ["a", "b", None]


async def test_a_projections_unit_of_work_spans_tenants(store):
    unit = store.projection_session("a")
    unit.store(Total("x", 1))
    other = unit.for_tenant("b")
    other.store(Total("x", 2))
    assert (await unit.load(Total, "x")).number == 1
    assert (await other.load(Total, "x")).number == 2
    await store.commit_batch(unit, shard="s", floor=0, ceiling=1)
    assert (await store.session(tenant_id="a").load(Total, "x")).number == 1
    assert (await store.session(tenant_id="b").load(Total, "x")).number == 2


async def test_a_store_of_a_single_tenant_refuses_to_name_one(opening):
    async with opening() as single:
        with pytest.raises(InvalidTenantError, match="conjoined") as caught:
            single.session(tenant_id=str(uuid4()))
        assert isinstance(caught.value, ValueError)
        assert single.session().tenant_id is None
