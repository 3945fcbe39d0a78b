# pyright: basic, reportOptionalMemberAccess=false, reportArgumentType=false
# pyright: reportAttributeAccessIssue=false, reportCallIssue=false
"""What a user sees of the daemon: catching up, rebuilding, waiting, dead letters."""

from contextlib import aclosing
from typing import Any
from uuid import UUID, uuid4

import attrs
import pytest
import trio

from flowstore.daemon import Store
from flowstore.errors import (
    RebuildError,
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

PATIENCE = 30

LEAST = 0
"""What the picky aggregate takes; a test mends it."""


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


@attrs.define
class Picky:
    """An aggregate that can't take everything."""

    id: UUID
    count: int = 0

    def apply_deposited(self, deposited: Deposited) -> None:
        """Count, but not what is negative."""
        if deposited.amount < LEAST:
            raise ValueError("a negative deposit")
        self.count += 1


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
class TestPoison:
    @pytest.fixture(params=["dead_letter", "stop"])
    def policy(self, request: pytest.FixtureRequest) -> str:
        return request.param

    @pytest.fixture
    def options(self, policy: Any) -> StoreOptions:
        options = StoreOptions()
        options.projections.aggregate_streams_with(
            Picky, async_options=AsyncOptions(on_error=policy)
        )
        return options

    async def test_it_is_set_aside_or_holds_the_shard(self, store: Store, policy: str) -> None:
        stream = uuid4()
        action = await commit(store, stream, Deposited(1), Deposited(-1), Deposited(1))
        poison = action.events[1].sequence
        with trio.fail_after(PATIENCE):
            async with store.build_projection_daemon() as daemon:
                await daemon.start_all()
                if policy == "dead_letter":
                    await daemon.wait_for_non_stale_results()
                else:
                    async with aclosing(daemon.watch()) as statuses:
                        async for status in statuses:
                            if status.error is not None and status.state in {"failed", "paused"}:
                                break
        letters = await store.dead_letters(Picky)
        progress = await store.progress(Picky)
        if policy == "dead_letter":
            assert [(each.shard, each.sequence) for each in letters] == [("Picky", poison)]
            assert letters[0].error_type == "ValueError"
            assert "negative" in letters[0].message
            assert (await get(store, Picky, stream)).count == 2
            assert progress == action.events[2].sequence
        else:
            assert letters == []
            assert progress < poison

    async def test_catching_up_raises_what_a_handler_raised(
        self, store: Store, policy: str
    ) -> None:
        await commit(store, uuid4(), Deposited(-1))
        if policy == "stop":
            with pytest.raises(Exception) as caught:
                await catch_up(store)
            assert "a negative deposit" in told(caught.value)
        assert await store.progress(Picky) == 0

    async def test_rebuilding_stops_and_names_the_event(self, store: Store) -> None:
        action = await commit(store, uuid4(), Deposited(1), Deposited(-1))
        with trio.fail_after(PATIENCE):
            async with store.build_projection_daemon() as daemon:
                with pytest.raises(RebuildError) as caught:
                    await daemon.rebuild(Picky)
        assert caught.value.sequence == action.events[1].sequence
        assert str(action.events[1].sequence) in str(caught.value)


@needs(Capability.DAEMON)
class TestDeadLetters:
    @pytest.fixture
    def options(self) -> StoreOptions:
        options = StoreOptions()
        options.projections.aggregate_streams_with(Picky)
        return options

    async def set_one_aside(self, store: Store) -> Any:
        """Have the daemon set an event aside."""
        await commit(store, uuid4(), Deposited(-1))
        with trio.fail_after(PATIENCE):
            async with store.build_projection_daemon() as daemon:
                await daemon.start_all()
                await daemon.wait_for_non_stale_results()
        [letter] = await store.dead_letters()
        return letter

    async def test_a_letter_may_be_discarded(self, store: Store) -> None:
        await store.discard_dead_letter(await self.set_one_aside(store))
        assert await store.dead_letters() == []

    async def test_a_letter_whose_fault_is_still_there_stays(self, store: Store) -> None:
        letter = await self.set_one_aside(store)
        with pytest.raises(Exception, match="negative"):
            await store.retry_dead_letter(letter)
        assert await store.dead_letters() == [letter]

    async def test_a_letter_whose_fault_is_mended_is_applied_and_gone(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        letter = await self.set_one_aside(store)
        monkeypatch.setattr("flowstore.testing.contract._daemon.LEAST", -10)
        await store.retry_dead_letter(letter)
        assert await store.dead_letters() == []
        async with store.session() as session:
            assert [picky.count for picky in await session.find(Picky)] == [1]

    async def test_letters_of_a_shard(self, store: Store) -> None:
        letter = await self.set_one_aside(store)
        assert await store.dead_letters("Picky") == [letter]
        with pytest.raises(UnknownProjectionError):
            await store.dead_letters("nobody")

    async def test_rewinding_or_rebuilding_leaves_one_letter(self, store: Store) -> None:
        letter = await self.set_one_aside(store)
        with trio.fail_after(PATIENCE):
            async with store.build_projection_daemon() as daemon:
                await daemon.rewind(Picky, 0)
                await daemon.start_all()
                await daemon.wait_for_non_stale_results()
        assert [each.sequence for each in await store.dead_letters()] == [letter.sequence]


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
