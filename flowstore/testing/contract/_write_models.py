# pyright: basic, reportOptionalMemberAccess=false, reportArgumentType=false
# pyright: reportAttributeAccessIssue=false, reportCallIssue=false
"""Aggregates to decide on: live, kept inline, kept by the daemon, always the same."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import attrs
import pytest

from flowstore.daemon import Store
from flowstore.errors import (
    ConcurrencyError,
    FlowstoreError,
    StreamArchivedError,
)
from flowstore.events import NewEvent
from flowstore.projections import Lifecycle
from flowstore.store import StoreOptions
from flowstore.testing.contract._archiving import archive
from flowstore.testing.contract._domain import (
    Account,
    Closed,
    Deposited,
    Opened,
    Withdrawn,
    commit,
    put,
    values,
)
from flowstore.testing.contract._fixtures import OpenStore


@attrs.frozen
class Unheard:
    """An event that the account has no handler for."""

    text: str


@attrs.define
class NoHandlers:
    """No aggregate: it takes no events."""

    id: object


class TestWriteModels:
    """Whatever the lifecycle, what a command decides on is the same."""

    @pytest.fixture(params=["unregistered", *Lifecycle], ids=str)
    def options(self, request: pytest.FixtureRequest) -> StoreOptions:
        """Register the aggregate in each way, or not at all."""
        options = StoreOptions()
        if request.param != "unregistered":
            options.projections.aggregate_streams_with(Account, lifecycle=request.param)
        return options

    async def test_all_three_agree(self, store: Store) -> None:
        stream = uuid4()
        await commit(store, stream, Opened("Ada"), Deposited(5))
        await commit(store, stream, Withdrawn(2))
        async with store.session() as session:
            live = await session.events.aggregate_stream(Account, stream)
            latest = await session.events.fetch_latest(Account, stream)
            handle = await session.events.fetch_for_writing(Account, stream)
        assert live == latest == handle.aggregate == Account(stream, "Ada", 3, 3)

    async def test_all_three_agree_wherever_the_view_stands(self, store: Store) -> None:
        stream, other = uuid4(), uuid4()

        async def agreed() -> Account | None:
            async with store.session() as session:
                live = await session.events.aggregate_stream(Account, stream)
                latest = await session.events.fetch_latest(Account, stream)
                handle = await session.events.fetch_for_writing(Account, stream)
            assert live == latest == handle.aggregate
            return latest

        async def both() -> tuple[Account | None, Account | None]:
            """See the same before and after the daemon has come along."""
            before = await agreed()
            async with store.build_projection_daemon() as daemon:
                await daemon.catch_up()
            return before, await agreed()

        await commit(store, other, Deposited(100))
        for events, expected in (
            ([Opened("Ada"), Deposited(5)], Account(stream, "Ada", 5, 2)),
            ([Unheard("by any handler")], Account(stream, "Ada", 5, 3)),
            ([Unheard("again"), Deposited(1), Unheard("again")], Account(stream, "Ada", 6, 6)),
            ([Closed()], None),
            ([Unheard("while there is none")], None),
            ([Deposited(7)], Account(stream, "", 7, 9)),
            ([Closed(), Deposited(8), Unheard("last")], Account(stream, "", 8, 12)),
        ):
            action = await commit(store, stream, *events)
            assert await both() == (expected, expected)
        await store.skip_event(action.events[1].id)
        assert await both() == (None, None)

    async def test_the_latest_is_what_is_left_of_amended_streams(
        self, open_store_for: OpenStore
    ) -> None:
        options = StoreOptions()
        options.projections.aggregate_streams_with(Account)
        options.events.mask(Opened, lambda _: Opened("somebody"))
        stream = uuid4()
        async with open_store_for(options) as store:
            await commit(store, stream, Opened("Ada"), Deposited(5), Deposited(6))
            async with store.build_projection_daemon() as daemon:
                await daemon.catch_up()
            await store.mask_stream(stream)
            async with store.session() as session:
                latest = await session.events.fetch_latest(Account, stream)
                assert latest == Account(stream, "somebody", 11, 3)
                await session.events.compact_stream(Account, stream, version=2)
                session.events.append(stream, Deposited(1))
                await session.save_changes()
                latest = await session.events.fetch_latest(Account, stream)
                assert latest == Account(stream, "somebody", 12, 4)
                session.events.archive_stream(stream)
                await session.save_changes()
                assert await session.events.fetch_latest(Account, stream) is None

    async def test_the_latest_begins_with_the_view_that_the_daemon_keeps(
        self, open_store_for: OpenStore
    ) -> None:
        options = StoreOptions()
        options.projections.aggregate_streams_with(Account)
        stream = uuid4()
        async with open_store_for(options) as store:
            await commit(store, stream, Opened("Ada"), Deposited(5))
            async with store.build_projection_daemon() as daemon:
                await daemon.catch_up()
            await put(store, Account(stream, "the view's", 5, 2))
            await commit(store, stream, Deposited(1))
            async with store.session() as session:
                latest = await session.events.fetch_latest(Account, stream)
        assert latest == Account(stream, "the view's", 6, 3)

    async def test_a_handle_tells_its_versions(self, store: Store) -> None:
        stream = uuid4()
        await commit(store, stream, Opened("Ada"), Deposited(5))
        async with store.session() as session:
            handle = await session.events.fetch_for_writing(Account, stream)
            assert (handle.starting_version, handle.current_version) == (2, 2)
            handle.append(Deposited(1), Deposited(2))
            assert (handle.starting_version, handle.current_version) == (2, 4)
            await session.save_changes()
        assert len(await values(store, stream)) == 4

    async def test_somebody_faster_is_noticed(self, store: Store) -> None:
        stream = uuid4()
        await commit(store, stream, Opened("Ada"))
        async with store.session() as session:
            handle = await session.events.fetch_for_writing(Account, stream)
            await commit(store, stream, Deposited(1))
            handle.append(Withdrawn(1))
            with pytest.raises(ConcurrencyError):
                await session.save_changes()
        assert await values(store, stream) == [Opened("Ada"), Deposited(1)]

    async def test_a_stream_that_does_not_exist_is_guarded_too(self, store: Store) -> None:
        stream = uuid4()
        async with store.session() as session:
            handle = await session.events.fetch_for_writing(Account, stream)
            assert handle.aggregate is None
            assert handle.starting_version == 0
            await commit(store, stream, Opened("Ada"))
            handle.append(Opened("Grace"))
            with pytest.raises(ConcurrencyError):
                await session.save_changes()

    async def test_a_stream_that_does_not_exist_is_begun(self, store: Store) -> None:
        stream = uuid4()
        async with store.session() as session:
            handle = await session.events.fetch_for_writing(Account, stream)
            handle.append(Opened("Ada"))
            await session.save_changes()
        assert await values(store, stream) == [Opened("Ada")]

    async def test_an_unknown_stream_has_no_aggregate(self, store: Store) -> None:
        async with store.session() as session:
            assert await session.events.aggregate_stream(Account, uuid4()) is None
            assert await session.events.fetch_latest(Account, uuid4()) is None

    async def test_after_its_own_commit_a_session_fetches_again(self, store: Store) -> None:
        stream = uuid4()
        await commit(store, stream, Opened("Ada"))
        async with store.session() as session:
            for amount in (1, 2):
                handle = await session.events.fetch_for_writing(Account, stream)
                handle.append(Deposited(amount))
                await session.save_changes()
            latest = await session.events.fetch_latest(Account, stream)
        assert latest == Account(stream, "Ada", 3, 3)

    async def test_a_handle_without_events_commits_nothing(self, store: Store) -> None:
        stream = uuid4()
        await commit(store, stream, Opened("Ada"))
        async with store.session() as session:
            await session.events.fetch_for_writing(Account, stream)
            await commit(store, stream, Deposited(1))
            await session.save_changes()
        assert len(await values(store, stream)) == 2

    async def test_consistency_can_be_enforced_without_events(self, store: Store) -> None:
        stream = uuid4()
        await commit(store, stream, Opened("Ada"))
        async with store.session() as session:
            await session.events.fetch_for_writing(Account, stream, enforce_consistency=True)
            await commit(store, stream, Deposited(1))
            with pytest.raises(ConcurrencyError):
                await session.save_changes()

    async def test_a_deleted_aggregate_is_none(self, store: Store) -> None:
        stream = uuid4()
        await commit(store, stream, Opened("Ada"), Closed())
        async with store.session() as session:
            handle = await session.events.fetch_for_writing(Account, stream)
            assert handle.aggregate is None
            assert handle.starting_version == 2
            assert await session.events.fetch_latest(Account, stream) is None

    async def test_an_archived_stream_is_refused(self, store: Store) -> None:
        stream = uuid4()
        await commit(store, stream, Opened("Ada"))
        await archive(store, stream)
        async with store.session() as session:
            with pytest.raises(StreamArchivedError):
                handle = await session.events.fetch_for_writing(Account, stream)
                handle.append(Deposited(1))
                await session.save_changes()

    async def test_two_handles_in_one_session(self, store: Store) -> None:
        one, other = uuid4(), uuid4()
        await commit(store, one, Opened("Ada"), Deposited(10))
        await commit(store, other, Opened("Bob"))
        async with store.session() as session:
            giver = await session.events.fetch_for_writing(Account, one)
            taker = await session.events.fetch_for_writing(Account, other)
            giver.append(Withdrawn(4))
            taker.append(Deposited(4))
            await session.save_changes()
            assert (await session.events.fetch_latest(Account, one)).balance == 6
            assert (await session.events.fetch_latest(Account, other)).balance == 4

    async def test_changing_an_aggregate_changes_nobody_elses(self, store: Store) -> None:
        stream = uuid4()
        await commit(store, stream, Opened("Ada"))
        async with store.session() as session:
            mine = await session.events.fetch_latest(Account, stream)
            mine.balance = 1000
            assert (await session.events.fetch_latest(Account, stream)).balance == 0


class TestLiveAggregation:
    async def test_up_to_a_version(self, store: Store) -> None:
        stream = uuid4()
        await commit(store, stream, Opened("Ada"), Deposited(5), Deposited(7))
        async with store.session() as session:
            account = await session.events.aggregate_stream(Account, stream, version=2)
        assert account == Account(stream, "Ada", 5, 2)

    async def test_as_of_a_time(self, store: Store) -> None:
        stream, noon = uuid4(), datetime(2020, 1, 1, 12, tzinfo=UTC)
        for hours in range(3):
            then = noon + timedelta(hours=hours)
            await commit(store, stream, NewEvent(Deposited(1), timestamp=then))
        async with store.session() as session:
            account = await session.events.aggregate_stream(
                Account, stream, as_of=noon + timedelta(minutes=90)
            )
            assert account.balance == 2
            before = noon - timedelta(hours=1)
            assert await session.events.aggregate_stream(Account, stream, as_of=before) is None

    async def test_a_class_without_handlers_is_an_error_that_names_it(self, store: Store) -> None:
        stream = uuid4()
        await commit(store, stream, Opened("Ada"))
        async with store.session() as session:
            with pytest.raises(FlowstoreError, match="NoHandlers"):
                await session.events.aggregate_stream(NoHandlers, stream)

    async def test_events_nobody_handles_raise_the_version_only(self, store: Store) -> None:
        @attrs.frozen
        class Remarked:
            text: str

        stream = uuid4()
        await commit(store, stream, Opened("Ada"), Remarked("x"))
        async with store.session() as session:
            account = await session.events.aggregate_stream(Account, stream)
        assert account == Account(stream, "Ada", 0, 2)
