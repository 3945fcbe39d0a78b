# pyright: basic, reportOptionalMemberAccess=false, reportArgumentType=false
# pyright: reportAttributeAccessIssue=false, reportCallIssue=false
"""What a user sees of the daemon: catching up, rebuilding, waiting, subscriptions."""

from contextlib import aclosing
from typing import Any
from uuid import UUID, uuid4

import attrs
import pytest
import trio

from flowstore.daemon import Store
from flowstore.errors import (
    StaleResultsError,
    UnknownProjectionError,
)
from flowstore.events import Event
from flowstore.projections import AsyncOptions, Composite, FlatTable
from flowstore.store import StoreOptions
from flowstore.testing.contract._archiving import archive
from flowstore.testing.contract._domain import (
    Account,
    Closed,
    Deposited,
    Opened,
    Withdrawn,
    commit,
    get,
)
from flowstore.testing.contract._fixtures import Capability, needs

PATIENCE = 60


@attrs.define
class Total:
    """A document of all streams."""

    id: str
    amount: int = 0

    def apply_deposited(self, deposited: Deposited) -> None:
        """Add."""
        self.amount += deposited.amount


@attrs.define
class Receipt:
    """A document made of one event."""

    id: UUID
    amount: int


def receipt(deposited: Deposited, event: Event) -> Receipt:
    """Give a receipt."""
    return Receipt(event.id, deposited.amount)


def told(error: BaseException) -> str:
    """Say what an error and all it holds and follows from say."""
    held = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    causes = [error.__cause__] if error.__cause__ else []
    return " ".join([str(error), *map(told, held), *map(told, causes)])


async def catch_up(store: Store) -> None:
    """Apply everything that there is."""
    with trio.fail_after(PATIENCE):
        async with store.build_projection_daemon() as daemon:
            await daemon.catch_up()


@needs(Capability.DAEMON)
class TestDaemon:
    @pytest.fixture
    def options(self) -> StoreOptions:
        options = StoreOptions()
        options.projections.aggregate_streams_with(Account)
        options.projections.aggregate_across_streams(Total, group_by={Deposited: lambda _: "all"})
        options.projections.transform(receipt)
        return options

    async def test_catching_up_applies_everything(self, store: Store) -> None:
        stream = uuid4()
        action = await commit(store, stream, Opened("Ada"), Deposited(5), Withdrawn(1))
        await catch_up(store)
        assert await get(store, Account, stream) == Account(stream, "Ada", 4, 3)
        assert await get(store, Total, "all") == Total("all", 5)
        deposited = action.events[1].id
        assert await get(store, Receipt, deposited) == Receipt(deposited, 5)
        for projection in (Account, Total, Receipt):
            assert await store.progress(projection) == action.events[-1].sequence

    async def test_catching_up_again_applies_nothing_twice(self, store: Store) -> None:
        stream = uuid4()
        await commit(store, stream, Deposited(5))
        await catch_up(store)
        await catch_up(store)
        await commit(store, stream, Deposited(1))
        await catch_up(store)
        assert (await get(store, Total, "all")).amount == 6

    async def test_an_empty_store_is_caught_up(self, store: Store) -> None:
        await catch_up(store)
        assert await store.progress(Account) == 0

    async def test_running_shards_follow(self, store: Store) -> None:
        with trio.fail_after(PATIENCE):
            async with store.build_projection_daemon() as daemon:
                await daemon.start_all()
                for number in range(5):
                    await commit(store, uuid4(), Deposited(number))
                await daemon.wait_for_non_stale_results()
        assert (await get(store, Total, "all")).amount == 10

    async def test_waiting_for_a_sequence(self, store: Store) -> None:
        with trio.fail_after(PATIENCE):
            async with store.build_projection_daemon() as daemon:
                await daemon.start_all()
                action = await commit(store, uuid4(), Deposited(3))
                await daemon.wait_for(Total, action.events[0].sequence)
                assert (await get(store, Total, "all")).amount == 3

    async def test_waiting_runs_out_with_every_shards_place(self, store: Store) -> None:
        await commit(store, uuid4(), Deposited(3))
        async with store.build_projection_daemon() as daemon:
            with pytest.raises(StaleResultsError, match="Total"):
                await daemon.wait_for_non_stale_results(timeout=0.05)

    async def test_starting_and_stopping_twice_is_no_error(self, store: Store) -> None:
        with trio.fail_after(PATIENCE):
            async with store.build_projection_daemon() as daemon:
                await daemon.start(Account)
                await daemon.start("Account")
                await daemon.stop(Account)
                await daemon.stop(Account)
                await daemon.start_all()
                await daemon.stop_all()
                await daemon.stop_all()

    async def test_a_stopped_shard_goes_on_where_it_was(self, store: Store) -> None:
        with trio.fail_after(PATIENCE):
            async with store.build_projection_daemon() as daemon:
                await daemon.start_all()
                await commit(store, uuid4(), Deposited(1))
                await daemon.wait_for_non_stale_results()
                await daemon.stop_all()
                await commit(store, uuid4(), Deposited(2))
                await daemon.start_all()
                await daemon.wait_for_non_stale_results()
        assert (await get(store, Total, "all")).amount == 3

    async def test_unknown_names_are_errors(self, store: Store) -> None:
        async with store.build_projection_daemon() as daemon:
            for verb in (daemon.start, daemon.stop, daemon.rebuild):
                with pytest.raises(UnknownProjectionError, match="Account"):
                    await verb("Acount")

    async def test_rebuilding_gives_the_same_documents(self, store: Store) -> None:
        streams = [uuid4() for _ in range(5)]
        for stream in streams:
            await commit(store, stream, Opened("Ada"), Deposited(5))
        await commit(store, streams[0], Closed())
        await catch_up(store)
        before = [await get(store, Account, stream) for stream in streams]
        with trio.fail_after(PATIENCE):
            async with store.build_projection_daemon() as daemon:
                await daemon.rebuild(Account)
                await daemon.rebuild_all()
        assert [await get(store, Account, stream) for stream in streams] == before
        assert before[0] is None
        assert (await get(store, Total, "all")).amount == 25

    async def test_rebuilding_removes_what_should_not_be_there(self, store: Store) -> None:
        await commit(store, uuid4(), Deposited(5))
        async with store.session() as session:
            session.store(Total("stray", 1), Total("all", 1000))
            await session.save_changes()
        with trio.fail_after(PATIENCE):
            async with store.build_projection_daemon() as daemon:
                await daemon.rebuild(Total)
        assert await get(store, Total, "stray") is None
        assert (await get(store, Total, "all")).amount == 5

    async def test_rebuilding_under_a_running_daemon(self, store: Store) -> None:
        await commit(store, uuid4(), Deposited(5))
        with trio.fail_after(PATIENCE):
            async with store.build_projection_daemon() as daemon:
                await daemon.start_all()
                await daemon.rebuild(Total)
                await commit(store, uuid4(), Deposited(1))
                await daemon.wait_for_non_stale_results()
        assert (await get(store, Total, "all")).amount == 6

    async def test_rewinding_delivers_again_from_there(self, store: Store) -> None:
        first = await commit(store, uuid4(), Deposited(5))
        await commit(store, uuid4(), Deposited(1))
        await catch_up(store)
        with trio.fail_after(PATIENCE):
            async with store.build_projection_daemon() as daemon:
                await daemon.rewind(Total, first.events[0].sequence)
                assert await store.progress(Total) == first.events[0].sequence
                await daemon.catch_up()
        assert (await get(store, Total, "all")).amount == 7

    async def test_statuses_tell_of_every_shard(self, store: Store) -> None:
        action = await commit(store, uuid4(), Deposited(5))
        with trio.fail_after(PATIENCE):
            async with store.build_projection_daemon() as daemon:
                assert {status.name for status in daemon.statuses()} == {
                    "Account",
                    "Total",
                    "receipt",
                } or len(daemon.statuses()) == 3
                await daemon.start_all()
                await daemon.wait_for_non_stale_results()
                for status in daemon.statuses():
                    assert status.state == "running"
                    assert status.progress == action.events[0].sequence
                    assert status.lag == 0
                    assert status.error is None
                assert daemon.high_water_mark == action.events[0].sequence

    async def test_watching_tells_the_present_first(self, store: Store) -> None:
        with trio.fail_after(PATIENCE):
            async with (
                store.build_projection_daemon() as daemon,
                aclosing(daemon.watch()) as statuses,
            ):
                names = {(await anext(statuses)).name for _ in range(3)}
        assert len(names) == 3

    async def test_archived_events_are_passed_over(self, store: Store) -> None:
        stream = uuid4()
        action = await commit(store, stream, Opened("Ada"), Deposited(5))
        await archive(store, stream)
        await catch_up(store)
        assert await get(store, Account, stream) is None
        assert await store.progress(Account) == action.events[-1].sequence


@needs(Capability.DAEMON)
class TestSubscriptions:
    async def test_events_come_in_sequence_order_once(self, store: Store) -> None:
        seen: list[Event] = []

        async def note(_: Any, events: Any) -> None:
            seen.extend(events)

        store.options.projections.subscribe("notes", note)
        streams = [uuid4(), uuid4()]
        recorded: list[Event] = []
        for number in range(10):
            recorded += (await commit(store, streams[number % 2], Deposited(number))).events
        await catch_up(store)
        await catch_up(store)
        assert seen == recorded

    async def test_a_failing_subscription_holds_its_shard(self, store: Store) -> None:
        async def fail(_: Any, __: Any) -> None:
            raise ValueError("not now")

        store.options.projections.subscribe("notes", fail)
        await commit(store, uuid4(), Deposited(1))
        with pytest.raises(Exception) as caught:
            await catch_up(store)
        assert "not now" in told(caught.value)
        assert await store.progress("notes") == 0
        assert await store.dead_letters() == []

    async def test_starting_now_leaves_the_past_out(self, store: Store) -> None:
        seen: list[Any] = []

        async def note(_: Any, events: Any) -> None:
            seen.extend(event.data for event in events)

        await commit(store, uuid4(), Deposited(1))
        store.options.projections.subscribe(
            "notes", note, async_options=AsyncOptions(start_from="now")
        )
        with trio.fail_after(PATIENCE):
            async with store.build_projection_daemon() as daemon:
                await daemon.start_all()
                await commit(store, uuid4(), Deposited(2))
                await daemon.wait_for_non_stale_results()
        assert seen == [Deposited(2)]


@attrs.define
class Reader:
    """A later stage that reads an earlier one's documents."""

    name: str = "reader"
    consumes: tuple[type, ...] = (Deposited,)
    produces: type | None = Total
    async_options: AsyncOptions = attrs.field(factory=AsyncOptions)

    async def apply(self, session: Any, streams: Any) -> None:
        """Copy the account's balance."""
        for stream in streams:
            account = await session.load(Account, stream.id)
            session.store(Total(str(stream.id), account.balance))


@needs(Capability.DAEMON)
class TestComposites:
    async def test_a_later_stage_sees_what_an_earlier_one_wrote(self, store: Store) -> None:
        composite = Composite("both").stage(Account).stage(Reader())
        store.options.projections.add(composite)
        stream = uuid4()
        await commit(store, stream, Opened("Ada"), Deposited(5))
        await catch_up(store)
        assert await get(store, Total, str(stream)) == Total(str(stream), 5)


@needs(Capability.DAEMON, Capability.FLAT_TABLES, Capability.SQL)
class TestFlatTables:
    async def test_rows_are_set_increased_and_deleted(self, store: Store) -> None:
        table = (
            FlatTable("balances", key="account", key_type=UUID, columns={"owner": str, "sum": int})
            .on(Opened, set={"owner": "owner", "sum": lambda _: 0})
            .on(Deposited, increment={"sum": "amount"})
            .on(Withdrawn, decrement={"sum": "amount"})
            .delete_on(Closed)
        )
        store.options.projections.add(table)
        one, other = uuid4(), uuid4()
        await commit(store, one, Opened("Ada"), Deposited(5), Withdrawn(2))
        await commit(store, other, Opened("Bob"), Closed())
        await catch_up(store)
        async with store.connection() as connection:
            cursor = await connection.execute(
                f'select account, owner, sum from "{store.options.schema}".balances'
            )
            assert await cursor.fetchall() == [(one, "Ada", 3)]
