# pyright: basic, reportOptionalMemberAccess=false, reportArgumentType=false
# pyright: reportAttributeAccessIssue=false, reportCallIssue=false
"""What is recorded about events beside what they say."""

from datetime import UTC, datetime, timedelta, timezone
from uuid import uuid4

import pytest

from flowstore.codec import EventMetadata
from flowstore.daemon import Store
from flowstore.errors import FlowstoreError
from flowstore.events import NewEvent
from flowstore.store import StoreOptions
from flowstore.testing.contract._domain import Deposited, Opened, commit, read
from flowstore.testing.contract._fixtures import OpenStore


class TestMetadata:
    async def test_a_session_says_it_for_all_its_events(self, store: Store) -> None:
        stream = uuid4()
        about = {
            "correlation_id": "c",
            "causation_id": "b",
            "user_name": "ada",
            "headers": {"a": 1},
        }
        await commit(store, stream, Opened("Ada"), Deposited(1), **about)
        for event in await read(store, stream):
            assert event.correlation_id == "c"
            assert event.causation_id == "b"
            assert event.user_name == "ada"
            assert event.headers == {"a": 1}

    async def test_without_any_there_is_none(self, store: Store) -> None:
        stream = uuid4()
        await commit(store, stream, Opened("Ada"))
        [event] = await read(store, stream)
        assert event.headers == {}
        assert event.causation_id is None
        assert event.user_name is None
        assert event.tenant_id is None

    async def test_an_events_own_is_stronger(self, store: Store) -> None:
        stream = uuid4()
        own = NewEvent(Opened("Ada"), correlation_id="mine", causation_id="me", headers={"a": 2})
        await commit(store, stream, own, Deposited(1), correlation_id="c", headers={"a": 1, "b": 1})
        first, second = await read(store, stream)
        assert (first.correlation_id, first.causation_id) == ("mine", "me")
        assert first.headers == {"a": 2, "b": 1}
        assert second.correlation_id == "c"
        assert second.headers == {"a": 1, "b": 1}

    async def test_headers_may_be_any_json(self, store: Store) -> None:
        stream = uuid4()
        headers = {"list": [1, "two", None], "nested": {"deep": True}, "float": 1.5, "ü": "☃"}
        await commit(store, stream, NewEvent(Opened("Ada"), headers=headers))
        [event] = await read(store, stream)
        assert event.headers == headers

    async def test_the_action_has_it_too(self, store: Store) -> None:
        action = await commit(store, uuid4(), Opened("Ada"), correlation_id="c", headers={"a": 1})
        assert action.events[0].correlation_id == "c"
        assert action.events[0].headers == {"a": 1}

    async def test_the_time_is_now_and_aware(self, store: Store) -> None:
        stream = uuid4()
        await commit(store, stream, Opened("Ada"))
        [event] = await read(store, stream)
        assert event.timestamp.tzinfo is not None
        assert abs(datetime.now(UTC) - event.timestamp) < timedelta(minutes=1)

    async def test_events_of_one_stream_have_times_in_order(self, store: Store) -> None:
        stream = uuid4()
        for number in range(5):
            await commit(store, stream, Deposited(number))
        times = [event.timestamp for event in await read(store, stream)]
        assert times == sorted(times)

    async def test_a_time_of_ones_own_is_kept(self, store: Store) -> None:
        stream = uuid4()
        then = datetime(1999, 12, 31, 23, 59, 59, 123456, tzinfo=timezone(timedelta(hours=5)))
        await commit(store, stream, NewEvent(Opened("Ada"), timestamp=then))
        [event] = await read(store, stream)
        assert event.timestamp == then
        assert event.timestamp.utcoffset() == timedelta(0)

    def test_a_time_without_a_zone_is_refused(self) -> None:
        with pytest.raises((FlowstoreError, ValueError)):
            NewEvent(Opened("Ada"), timestamp=datetime(2020, 1, 1))  # noqa: DTZ001

    @pytest.mark.parametrize("left_out", ["headers", "correlation_id", "causation_id", "user_name"])
    async def test_what_is_switched_off_is_not_recorded(
        self, open_store_for: OpenStore, left_out: str
    ) -> None:
        options = StoreOptions()
        kept = dict.fromkeys(["headers", "correlation_id", "causation_id", "user_name"], True)
        options.events.metadata = EventMetadata(**{**kept, left_out: False})
        about = {"correlation_id": "c", "causation_id": "b", "user_name": "u", "headers": {"a": 1}}
        stream = uuid4()
        async with open_store_for(options) as store:
            await commit(store, stream, Opened("Ada"), **about)
            [event] = await read(store, stream)
        for name, value in about.items():
            assert getattr(event, name) == (
                ({} if name == "headers" else None) if name == left_out else value
            )

    async def test_every_event_has_an_identity_of_its_own(self, store: Store) -> None:
        action = await commit(store, uuid4(), *(Deposited(1) for _ in range(50)))
        assert len({event.id for event in action.events}) == 50

    async def test_the_type_name_is_recorded(self, store: Store) -> None:
        stream = uuid4()
        await commit(store, stream, Opened("Ada"))
        [event] = await read(store, stream)
        assert event.type_name == "opened"

    async def test_header_values_that_are_no_json_are_refused(self, store: Store) -> None:
        async with store.session() as session:
            with pytest.raises(FlowstoreError):
                session.events.append(uuid4(), NewEvent(Opened("A"), headers={"a": object()}))
                await session.save_changes()
