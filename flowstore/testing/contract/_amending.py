# pyright: basic, reportOptionalMemberAccess=false, reportArgumentType=false
# pyright: reportAttributeAccessIssue=false, reportCallIssue=false
"""What may be done to recorded events: compacting, masking, skipping."""

from uuid import uuid4

import attrs
import pytest

from flowstore.daemon import Store
from flowstore.errors import FlowstoreError
from flowstore.events import Compacted
from flowstore.store import StoreOptions
from flowstore.testing.contract._archiving import archive
from flowstore.testing.contract._domain import (
    Account,
    Deposited,
    Opened,
    Withdrawn,
    commit,
    read,
    values,
)


async def compact(store: Store, stream: object, **asked: int) -> None:
    """Compact a stream in a session of its own."""
    async with store.session() as session:
        await session.events.compact_stream(Account, stream, **asked)
        await session.save_changes()


class TestCompacting:
    async def test_one_event_stands_for_all(self, store: Store) -> None:
        stream = uuid4()
        await commit(store, stream, Opened("Ada"), Deposited(5), Withdrawn(2))
        await compact(store, stream)
        [event] = await read(store, stream)
        assert isinstance(event.data, Compacted)
        assert event.version == 3

    async def test_the_aggregate_is_what_it_was(self, store: Store) -> None:
        stream = uuid4()
        await commit(store, stream, Opened("Ada"), Deposited(5), Withdrawn(2))
        async with store.session() as session:
            before = await session.events.aggregate_stream(Account, stream)
        await compact(store, stream)
        async with store.session() as session:
            assert await session.events.aggregate_stream(Account, stream) == before

    async def test_the_stream_goes_on(self, store: Store) -> None:
        stream = uuid4()
        await commit(store, stream, Opened("Ada"), Deposited(5))
        await compact(store, stream)
        action = await commit(store, stream, Deposited(1))
        assert [event.version for event in action.events] == [3]
        async with store.session() as session:
            account = await session.events.aggregate_stream(Account, stream)
        assert account == Account(stream, "Ada", 6, 3)

    async def test_up_to_a_version(self, store: Store) -> None:
        stream = uuid4()
        await commit(store, stream, Opened("Ada"), Deposited(5), Deposited(6))
        await compact(store, stream, version=2)
        compacted, last = await read(store, stream)
        assert isinstance(compacted.data, Compacted)
        assert (compacted.version, last.version) == (2, 3)
        assert last.data == Deposited(6)

    async def test_the_state_is_untouched(self, store: Store) -> None:
        stream = uuid4()
        await commit(store, stream, Opened("Ada"), Deposited(5))
        await compact(store, stream)
        async with store.session() as session:
            assert (await session.events.fetch_stream_state(stream)).version == 2

    async def test_an_unknown_stream_is_left_alone(self, store: Store) -> None:
        stream = uuid4()
        await compact(store, stream)
        assert await read(store, stream) == []

    async def test_twice(self, store: Store) -> None:
        stream = uuid4()
        await commit(store, stream, Opened("Ada"), Deposited(5))
        await compact(store, stream)
        await commit(store, stream, Deposited(1))
        await compact(store, stream)
        assert len(await read(store, stream)) == 1
        async with store.session() as session:
            account = await session.events.aggregate_stream(Account, stream)
        assert account.balance == 6


class TestMasking:
    @pytest.fixture
    def options(self) -> StoreOptions:
        options = StoreOptions()
        options.events.mask(Opened, lambda opened: attrs.evolve(opened, owner="***"))
        return options

    async def test_a_streams_events_are_masked_by_their_rules(self, store: Store) -> None:
        stream = uuid4()
        await commit(store, stream, Opened("Ada"), Deposited(5))
        await store.mask_stream(stream)
        assert await values(store, stream) == [Opened("***"), Deposited(5)]

    async def test_what_they_are_beside_that_stays(self, store: Store) -> None:
        stream = uuid4()
        await commit(store, stream, Opened("Ada"), headers={"a": 1})
        [before] = await read(store, stream)
        await store.mask_stream(stream)
        assert await read(store, stream) == [attrs.evolve(before, data=Opened("***"))]

    async def test_other_streams_are_left_alone(self, store: Store) -> None:
        stream, other = uuid4(), uuid4()
        await commit(store, stream, Opened("Ada"))
        await commit(store, other, Opened("Grace"))
        await store.mask_stream(stream)
        assert await values(store, other) == [Opened("Grace")]

    async def test_archived_events_are_masked_too(self, store: Store) -> None:
        stream = uuid4()
        await commit(store, stream, Opened("Ada"))
        await archive(store, stream)
        await store.mask_stream(stream)
        assert await values(store, stream, include_archived=True) == [Opened("***")]

    async def test_masking_again_changes_nothing(self, store: Store) -> None:
        stream = uuid4()
        await commit(store, stream, Opened("Ada"))
        await store.mask_stream(stream)
        await store.mask_stream(stream)
        assert await values(store, stream) == [Opened("***")]


class TestSkipping:
    async def test_a_skipped_event_is_passed_over_by_live_aggregation(self, store: Store) -> None:
        stream = uuid4()
        action = await commit(store, stream, Opened("Ada"), Deposited(5), Deposited(7))
        await store.skip_event(action.events[1].id)
        async with store.session() as session:
            account = await session.events.aggregate_stream(Account, stream)
        assert account.balance == 7

    async def test_the_feed_passes_it_over(self, store: Store) -> None:
        action = await commit(store, uuid4(), Opened("Ada"), Deposited(5))
        await store.skip_event(action.events[0].id)
        page = await store.fetch_page(0, await store.high_water())
        assert [event.data for event in page.events] == [Deposited(5)]

    async def test_the_stream_keeps_its_version(self, store: Store) -> None:
        stream = uuid4()
        action = await commit(store, stream, Opened("Ada"), Deposited(5))
        await store.skip_event(action.events[1].id)
        more = await commit(store, stream, Deposited(7))
        assert more.events[0].version == 3

    async def test_skipping_twice_is_no_error(self, store: Store) -> None:
        action = await commit(store, uuid4(), Opened("Ada"))
        for _ in range(2):
            await store.skip_event(action.events[0].id)
        page = await store.fetch_page(0, await store.high_water())
        assert page.events == ()

    async def test_an_unknown_event_is_an_error(self, store: Store) -> None:
        with pytest.raises(FlowstoreError):
            await store.skip_event(uuid4())
