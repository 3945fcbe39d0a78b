# pyright: basic, reportOptionalMemberAccess=false, reportArgumentType=false
# pyright: reportAttributeAccessIssue=false, reportCallIssue=false
"""Events that a projection fails on: set aside, or holding their shard."""

from contextlib import aclosing
from typing import Any
from uuid import UUID, uuid4

import attrs
import pytest
import trio

from flowstore.daemon import Store
from flowstore.errors import (
    RebuildError,
    UnknownProjectionError,
)
from flowstore.projections import AsyncOptions
from flowstore.store import StoreOptions
from flowstore.testing.contract._daemon import PATIENCE, catch_up, told
from flowstore.testing.contract._domain import (
    Deposited,
    commit,
    get,
    put,
)
from flowstore.testing.contract._fixtures import Capability, needs

LEAST = 0
"""What the picky aggregate takes; a test mends it."""


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


@attrs.define
class Sum:
    """An aggregate that can't take everything, and tells which event was its last."""

    id: UUID
    balance: int = 0
    version: int = 0

    def apply_deposited(self, deposited: Deposited) -> None:
        """Add, but not what is negative."""
        if deposited.amount < LEAST:
            raise ValueError("a negative deposit")
        self.balance += deposited.amount


@needs(Capability.DAEMON)
class TestTheLatestBesideDeadLetters:
    """A view that lacks an event is never handed out as what folding the stream would give."""

    @pytest.fixture
    def options(self) -> StoreOptions:
        options = StoreOptions()
        options.projections.aggregate_streams_with(Sum)
        return options

    async def daemon(self, store: Store) -> None:
        """Have the daemon set aside what it can't fold."""
        with trio.fail_after(PATIENCE):
            async with store.build_projection_daemon() as daemon:
                await daemon.start_all()
                await daemon.wait_for_non_stale_results()

    async def latest(self, store: Store, stream: UUID) -> Any:
        async with store.session() as session:
            return await session.events.fetch_latest(Sum, stream)

    async def live(self, store: Store, stream: UUID) -> Any:
        async with store.session() as session:
            return await session.events.aggregate_stream(Sum, stream)

    @pytest.mark.parametrize("amounts", [(1, -1, 2), (-1, 2), (1, -1), (-1,)], ids=str)
    async def test_it_raises_what_folding_raises(self, store: Store, amounts: Any) -> None:
        stream = uuid4()
        await commit(store, stream, *map(Deposited, amounts))
        await self.daemon(store)
        for _ in range(2):
            for read in (self.live, self.latest):
                with pytest.raises(ValueError, match="a negative deposit"):
                    await read(store, stream)
            await commit(store, stream, Deposited(5))

    async def test_other_streams_are_none_the_worse(self, store: Store) -> None:
        stream, other = uuid4(), uuid4()
        await commit(store, stream, Deposited(-1))
        await commit(store, other, Deposited(1))
        await self.daemon(store)
        await put(store, Sum(other, 70, 1))
        await commit(store, other, Deposited(3))
        assert await self.latest(store, other) == Sum(other, 73, 2)

    async def test_once_it_was_retried_it_is_what_folding_gives(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stream = uuid4()
        await commit(store, stream, Deposited(1), Deposited(-1), Deposited(2))
        await self.daemon(store)
        monkeypatch.setattr("flowstore.testing.contract._failures.LEAST", -10)
        assert await self.latest(store, stream) == await self.live(store, stream)
        [letter] = await store.dead_letters()
        await store.retry_dead_letter(letter)
        assert await self.latest(store, stream) == await self.live(store, stream)
        await commit(store, stream, Deposited(7))
        assert await self.latest(store, stream) == await self.live(store, stream)
        assert await self.live(store, stream) == Sum(stream, 9, 4)

    async def test_what_was_given_up_is_no_part_of_it_any_more(self, store: Store) -> None:
        stream = uuid4()
        await commit(store, stream, Deposited(1), Deposited(-1), Deposited(2))
        await self.daemon(store)
        [letter] = await store.dead_letters()
        await store.discard_dead_letter(letter)
        await commit(store, stream, Deposited(4))
        assert await self.latest(store, stream) == Sum(stream, 7, 4)


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
        monkeypatch.setattr("flowstore.testing.contract._failures.LEAST", -10)
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
