# pyright: basic, reportOptionalMemberAccess=false, reportArgumentType=false
# pyright: reportAttributeAccessIssue=false, reportCallIssue=false
"""Reading everything in order: the mark, the pages, their ceilings."""

from uuid import uuid4

import attrs
import pytest
import trio

from flowstore.daemon import Store
from flowstore.errors import ConcurrencyError, UnknownEventTypeError
from flowstore.store import StoreOptions
from flowstore.testing.contract._domain import Deposited, Opened, Withdrawn, commit
from flowstore.testing.contract._fixtures import Capability, OpenStore, needs


@attrs.frozen
class Forgotten:
    """A type that a later program doesn't know."""

    number: int


async def everything(store: Store, limit: int = 7) -> list[object]:
    """Read page by page up to the mark."""
    floor, mark, found = 0, await store.high_water(), []
    while floor < mark:
        page = await store.fetch_page(floor, mark, limit=limit)
        assert page.floor == floor < page.ceiling <= mark
        assert all(floor < event.sequence <= page.ceiling for event in page.events)
        found += page.events
        floor = page.ceiling
    return found


class TestFeed:
    async def test_an_empty_store(self, store: Store) -> None:
        assert await store.high_water() == 0
        assert await store.highest_sequence() == 0
        page = await store.fetch_page(0, 0)
        assert (page.floor, page.ceiling, page.events, page.failures) == (0, 0, (), ())

    async def test_the_mark_is_the_last_sequence_when_nothing_is_under_way(
        self, store: Store
    ) -> None:
        action = await commit(store, uuid4(), Opened("Ada"), Deposited(1))
        assert await store.high_water() == action.events[-1].sequence
        assert await store.highest_sequence() == action.events[-1].sequence

    async def test_a_look_gives_the_mark_and_the_page_that_it_allows(self, store: Store) -> None:
        await commit(store, uuid4(), Opened("Ada"), *(Deposited(n) for n in range(5)))
        mark = await store.high_water()
        for floor in (0, 2, mark):
            page = await store.fetch_page(floor, mark, types=(Deposited,), limit=3)
            assert await store.look(floor, types=(Deposited,), limit=3) == (mark, page)

    async def test_everything_comes_in_sequence_order_with_its_place(self, store: Store) -> None:
        recorded = []
        for number in range(10):
            recorded += (await commit(store, uuid4(), Opened("x"), Deposited(number))).events
        assert await everything(store) == recorded

    @pytest.mark.parametrize("limit", [1, 2, 3, 20, 21, 1000])
    async def test_pages_of_any_size_are_the_same(self, store: Store, limit: int) -> None:
        stream = uuid4()
        await commit(store, stream, *(Deposited(number) for number in range(20)))
        found = await everything(store, limit)
        assert [event.data.amount for event in found] == list(range(20))

    async def test_a_full_page_ends_with_its_last_event(self, store: Store) -> None:
        action = await commit(store, uuid4(), *(Deposited(n) for n in range(5)))
        page = await store.fetch_page(0, await store.high_water(), limit=3)
        assert len(page.events) == 3
        assert page.ceiling == action.events[2].sequence

    async def test_a_page_that_is_not_full_ends_with_the_mark(self, store: Store) -> None:
        await commit(store, uuid4(), Deposited(1), Opened("Ada"))
        mark = await store.high_water()
        page = await store.fetch_page(0, mark, types=(Deposited,), limit=2)
        assert len(page.events) == 1
        assert page.ceiling == mark

    async def test_floor_is_exclusive_and_mark_inclusive(self, store: Store) -> None:
        events = (await commit(store, uuid4(), *(Deposited(n) for n in range(5)))).events
        page = await store.fetch_page(events[1].sequence, events[3].sequence)
        assert page.events == events[2:4]

    async def test_only_the_types_that_were_asked_for(self, store: Store) -> None:
        await commit(store, uuid4(), Opened("Ada"), Deposited(1), Withdrawn(1), Deposited(2))
        mark = await store.high_water()
        page = await store.fetch_page(0, mark, types=(Deposited, Opened))
        assert [event.data for event in page.events] == [Opened("Ada"), Deposited(1), Deposited(2)]

    async def test_when_all_is_filtered_out_the_page_still_moves_on(self, store: Store) -> None:
        await commit(store, uuid4(), Opened("Ada"))
        mark = await store.high_water()
        page = await store.fetch_page(0, mark, types=(Withdrawn,))
        assert (page.events, page.ceiling) == ((), mark)

    async def test_a_refused_commit_is_not_in_the_feed_and_holds_nothing(
        self, store: Store
    ) -> None:
        stream = uuid4()
        await commit(store, stream, Opened("Ada"))
        for _ in range(3):
            async with store.session() as session:
                session.events.append(stream, Deposited(1), expected_version=9)
                with pytest.raises(ConcurrencyError):
                    await session.save_changes()
        action = await commit(store, stream, Deposited(2))
        assert await store.high_water() == action.events[0].sequence
        assert [event.data for event in await everything(store)] == [Opened("Ada"), Deposited(2)]

    async def test_a_buffer_leaves_out_what_is_young(self, store: Store) -> None:
        await commit(store, uuid4(), Opened("Ada"))
        assert await store.high_water(leading_edge_buffer=3600) == 0
        assert await store.high_water(leading_edge_buffer=0) > 0

    async def test_a_reader_beside_many_writers_misses_nothing(self, store: Store) -> None:
        """Read as a daemon does, each page once, while twenty write."""
        seen: list[int] = []
        done = trio.Event()

        async def follow() -> None:
            floor = 0
            while True:
                finished = done.is_set()
                mark = await store.high_water()
                while floor < mark:
                    page = await store.fetch_page(floor, mark, limit=13)
                    seen.extend(event.sequence for event in page.events)
                    floor = page.ceiling
                if finished:
                    return
                await store.wait_for_appends(0.01)

        async def write() -> None:
            for number in range(5):
                await commit(store, uuid4(), Deposited(number), Deposited(number))

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(follow)
                async with trio.open_nursery() as writers:
                    for _ in range(20):
                        writers.start_soon(write)
                done.set()
        assert len(seen) == len(set(seen)) == 200
        assert seen == sorted(seen)

    async def test_a_streams_versions_rise_with_their_sequences(self, store: Store) -> None:
        streams = [uuid4() for _ in range(3)]
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                for number in range(30):
                    nursery.start_soon(commit, store, streams[number % 3], Deposited(number))
        found = await everything(store)
        for stream in streams:
            mine = [event.version for event in found if event.stream_id == stream]
            assert mine == list(range(1, 11))


@needs(Capability.REOPENING)
class TestUnknownTypesInTheFeed:
    @pytest.fixture
    async def later(self, open_store_for: OpenStore):
        async with open_store_for(StoreOptions()) as store:
            await commit(store, uuid4(), Forgotten(1), Deposited(2), Forgotten(3))
        options = StoreOptions()
        options.events.add_types(Deposited)
        async with open_store_for(options) as store:
            yield store

    async def test_they_stand_among_the_failures(self, later: Store) -> None:
        page = await later.fetch_page(0, await later.high_water())
        assert [event.data for event in page.events] == [Deposited(2)]
        assert [failure.type_name for failure in page.failures] == ["forgotten", "forgotten"]
        assert [failure.version for failure in page.failures] == [1, 3]
        assert all(isinstance(each.error, UnknownEventTypeError) for each in page.failures)

    async def test_they_are_passed_over_where_types_are_named(self, later: Store) -> None:
        page = await later.fetch_page(0, await later.high_water(), types=(Deposited,))
        assert [event.data for event in page.events] == [Deposited(2)]
        assert page.failures == ()
