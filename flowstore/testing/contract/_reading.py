# pyright: basic, reportOptionalMemberAccess=false, reportArgumentType=false
# pyright: reportAttributeAccessIssue=false, reportCallIssue=false
"""Fetching streams and single events."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from flowstore.daemon import Store
from flowstore.errors import FlowstoreError, InvalidEventError
from flowstore.events import Event, NewEvent
from flowstore.testing.contract._domain import Deposited, Opened, commit, read, values

NOON = datetime(2020, 1, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


async def five(store: Store) -> UUID:
    """Commit a stream of five."""
    stream = uuid4()
    await commit(store, stream, *(Deposited(number) for number in range(1, 6)))
    return stream


def versions(events: list[Event]) -> list[int]:
    """List the versions."""
    return [event.version for event in events]


class TestReading:
    async def test_an_unknown_stream_is_empty(self, store: Store) -> None:
        assert await read(store, uuid4()) == []

    async def test_a_stream_is_a_list_in_version_order(self, store: Store) -> None:
        events = await read(store, await five(store))
        assert isinstance(events, list)
        assert versions(events) == [1, 2, 3, 4, 5]

    async def test_what_is_read_is_what_the_action_says(self, store: Store) -> None:
        stream = uuid4()
        action = await commit(store, stream, Opened("Ada"), Deposited(1))
        assert await read(store, stream) == list(action.events)

    async def test_from_version_is_inclusive(self, store: Store) -> None:
        assert versions(await read(store, await five(store), from_version=4)) == [4, 5]

    async def test_version_is_inclusive(self, store: Store) -> None:
        assert versions(await read(store, await five(store), version=2)) == [1, 2]

    async def test_both_bounds(self, store: Store) -> None:
        stream = await five(store)
        assert versions(await read(store, stream, from_version=2, version=4)) == [2, 3, 4]
        assert versions(await read(store, stream, from_version=3, version=3)) == [3]

    async def test_from_behind_the_end_is_empty(self, store: Store) -> None:
        assert await read(store, await five(store), from_version=6) == []

    async def test_a_version_above_the_end_is_the_whole_stream(self, store: Store) -> None:
        assert len(await read(store, await five(store), version=100)) == 5

    async def test_from_version_zero_and_one_are_the_whole_stream(self, store: Store) -> None:
        stream = await five(store)
        assert len(await read(store, stream, from_version=0)) == 5
        assert len(await read(store, stream, from_version=1)) == 5

    async def test_as_of_a_time_is_inclusive(self, store: Store) -> None:
        stream = uuid4()
        times = [NOON, NOON + HOUR, NOON + 2 * HOUR]
        await commit(store, stream, *(NewEvent(Deposited(1), timestamp=time) for time in times))
        assert versions(await read(store, stream, as_of=NOON + HOUR)) == [1, 2]
        assert await read(store, stream, as_of=NOON - HOUR) == []

    async def test_a_time_without_a_zone_is_refused(self, store: Store) -> None:
        with pytest.raises((FlowstoreError, ValueError)):
            await read(store, await five(store), as_of=datetime(2020, 1, 1))  # noqa: DTZ001

    @pytest.mark.parametrize(
        "asked",
        [{"version": "1"}, {"version": 1.5}, {"from_version": None}, {"as_of": "2020-01-01"}],
        ids=str,
    )
    async def test_what_is_no_version_or_time_is_refused(
        self, store: Store, asked: dict[str, Any]
    ) -> None:
        with pytest.raises(InvalidEventError, match=next(iter(asked))):
            await read(store, await five(store), **asked)

    async def test_streams_do_not_mix(self, store: Store) -> None:
        one, other = uuid4(), uuid4()
        for number in range(3):
            await commit(store, one, Deposited(number))
            await commit(store, other, Deposited(number + 10))
        assert [value.amount for value in await values(store, one)] == [0, 1, 2]
        assert [value.amount for value in await values(store, other)] == [10, 11, 12]

    async def test_one_event_is_loaded_by_its_id(self, store: Store) -> None:
        action = await commit(store, uuid4(), Opened("Ada"), Deposited(7))
        async with store.session() as session:
            assert await session.events.load(action.events[1].id) == action.events[1]

    async def test_an_unknown_event_loads_as_none(self, store: Store) -> None:
        async with store.session() as session:
            assert await session.events.load(uuid4()) is None

    async def test_a_session_does_not_read_its_own_queued_events(self, store: Store) -> None:
        stream = uuid4()
        async with store.session() as session:
            session.events.append(stream, Deposited(1))
            assert await session.events.fetch_stream(stream) == []

    async def test_a_session_reads_what_others_committed_meanwhile(self, store: Store) -> None:
        stream = uuid4()
        async with store.session() as session:
            assert await session.events.fetch_stream(stream) == []
            await commit(store, stream, Deposited(1))
            assert len(await session.events.fetch_stream(stream)) == 1

    async def test_an_event_can_not_be_changed(self, store: Store) -> None:
        [event] = (await commit(store, uuid4(), Deposited(1))).events
        with pytest.raises(AttributeError):
            event.version = 7
