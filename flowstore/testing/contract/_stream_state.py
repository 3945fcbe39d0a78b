# pyright: basic, reportOptionalMemberAccess=false, reportArgumentType=false
# pyright: reportAttributeAccessIssue=false, reportCallIssue=false
"""How a stream stands, without its events."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from flowstore.daemon import Store
from flowstore.errors import FlowstoreError
from flowstore.events import NewEvent
from flowstore.store import StoreOptions
from flowstore.testing.contract._domain import Account, Deposited, Opened, commit
from flowstore.testing.contract._fixtures import OpenStore


async def state_of(store: Store, stream: Any) -> Any:
    """Fetch a stream's state."""
    async with store.session() as session:
        return await session.events.fetch_stream_state(stream)


class TestStreamState:
    async def test_an_unknown_stream_has_none(self, store: Store) -> None:
        assert await state_of(store, uuid4()) is None

    async def test_it_tells_the_version(self, store: Store) -> None:
        stream = uuid4()
        await commit(store, stream, Opened("Ada"), Deposited(1))
        assert (await state_of(store, stream)).version == 2
        await commit(store, stream, Deposited(1))
        state = await state_of(store, stream)
        assert (state.stream_id, state.version) == (stream, 3)

    async def test_it_tells_aware_times(self, store: Store) -> None:
        stream = uuid4()
        before = datetime.now(UTC) - timedelta(minutes=1)
        await commit(store, stream, Opened("Ada"))
        state = await state_of(store, stream)
        assert before < state.created <= state.last_timestamp
        assert state.last_timestamp < datetime.now(UTC) + timedelta(minutes=1)

    async def test_the_last_timestamp_moves_and_created_stays(self, store: Store) -> None:
        stream = uuid4()
        await commit(store, stream, Opened("Ada"))
        first = await state_of(store, stream)
        await commit(store, stream, Deposited(1))
        second = await state_of(store, stream)
        assert second.created == first.created
        assert second.last_timestamp >= first.last_timestamp

    async def test_the_last_timestamp_is_the_last_events(self, store: Store) -> None:
        stream = uuid4()
        action = await commit(store, stream, Opened("Ada"), Deposited(1))
        assert (await state_of(store, stream)).last_timestamp == action.events[-1].timestamp

    async def test_created_is_the_first_events_time(self, store: Store) -> None:
        stream = uuid4()
        then = datetime(2001, 2, 3, tzinfo=UTC)
        await commit(store, stream, NewEvent(Opened("Ada"), timestamp=then))
        assert (await state_of(store, stream)).created == then

    async def test_a_stream_begun_by_appending_has_no_type(self, store: Store) -> None:
        stream = uuid4()
        await commit(store, stream, Opened("Ada"))
        state = await state_of(store, stream)
        assert state.stream_type is None
        assert state.tenant_id is None
        assert state.archived is False

    async def test_a_type_may_be_a_name(self, store: Store) -> None:
        stream = uuid4()
        async with store.session() as session:
            session.events.start_stream(stream, Opened("Ada"), stream_type="account")
            await session.save_changes()
        assert (await state_of(store, stream)).stream_type == "account"

    async def test_appending_keeps_the_type(self, store: Store) -> None:
        stream = uuid4()
        async with store.session() as session:
            session.events.start_stream(stream, Opened("Ada"), stream_type=Account)
            await session.save_changes()
        await commit(store, stream, Deposited(1))
        assert (await state_of(store, stream)).stream_type == "Account"

    async def test_mandatory_types_refuse_a_stream_without_one(
        self, open_store_for: OpenStore
    ) -> None:
        async with open_store_for(StoreOptions(mandatory_stream_types=True)) as store:
            async with store.session() as session:
                with pytest.raises(FlowstoreError):
                    session.events.start_stream(uuid4(), Opened("Ada"))
                    await session.save_changes()
            with pytest.raises(FlowstoreError):
                await commit(store, uuid4(), Opened("Ada"))

    async def test_mandatory_types_let_an_existing_stream_go_on(
        self, open_store_for: OpenStore
    ) -> None:
        async with open_store_for(StoreOptions(mandatory_stream_types=True)) as store:
            stream = uuid4()
            async with store.session() as session:
                session.events.start_stream(stream, Opened("Ada"), stream_type=Account)
                await session.save_changes()
            await commit(store, stream, Deposited(1))
            assert (await state_of(store, stream)).version == 2
