"""Tenants share the tables: one shard folds the streams of all, each into its own documents."""

from collections import defaultdict

import attrs
import pytest

from flowstore.projections import AsyncOptions


@attrs.frozen
class Counted:
    by: int = 1


@attrs.define
class Total:
    id: str
    number: int = 0

    def apply(self, counted: Counted) -> None:
        if counted.by == 13:
            raise ZeroDivisionError
        self.number += counted.by


@pytest.fixture
async def shared(opening):
    async with opening(tenancy="conjoined", stream_identity="string") as store:
        options = AsyncOptions(page_size=4)
        store.options.projections.aggregate_streams_with(Total, async_options=options)
        yield store


async def count(store, tenant, stream_id, *numbers):
    async with store.session(tenant_id=tenant) as session:
        session.events.append(stream_id, *map(Counted, numbers))
        await session.save_changes()


async def load(store, tenant, stream_id):
    found = await store.session(tenant_id=tenant).load(Total, stream_id)
    return found and found.number


async def test_the_same_identity_in_two_tenants_is_two_documents(shared):
    for tenant, by in (("a", 1), ("b", 10), ("a", 2), (None, 100), ("b", 20)):
        await count(shared, tenant, "s", by)
    async with shared.build_projection_daemon() as daemon:
        await daemon.start_all()
        await daemon.wait_for_non_stale_results()
        numbers = {tenant: await load(shared, tenant, "s") for tenant in ("a", "b", None, "c")}
        assert numbers == {"a": 3, "b": 30, None: 100, "c": None}
        await daemon.rebuild(Total)
        assert {tenant: await load(shared, tenant, "s") for tenant in numbers} == numbers


async def test_poison_of_one_tenant_leaves_the_others_of_its_page_alone(shared):
    for tenant, by in (("a", 1), ("b", 13), ("a", 2), ("b", 3)):
        await count(shared, tenant, "s", by)
    async with shared.build_projection_daemon() as daemon:
        await daemon.start_all()
        await daemon.wait_for_non_stale_results()
    assert [letter.sequence for letter in await shared.dead_letters()] == [2]
    assert (await load(shared, "a", "s"), await load(shared, "b", "s")) == (3, 3)


async def test_a_projection_is_handed_one_tenants_streams_with_its_session(shared):
    handed = defaultdict(list)

    class Noting:
        name = "noting"
        consumes = (Counted,)
        produces = None
        async_options = AsyncOptions()

        def apply(self, session, streams):
            tenants = {event.tenant_id for stream in streams for event in stream.events}
            handed[session.tenant_id].append(tenants)

    shared.options.projections.add(Noting())
    for tenant in ("a", "b", None, "a"):
        await count(shared, tenant, "s", 1)
    async with shared.build_projection_daemon() as daemon:
        await daemon.start("noting")
        await daemon.wait_for("noting", 4)
    assert handed == {"a": [{"a"}], "b": [{"b"}], None: [{None}]}
