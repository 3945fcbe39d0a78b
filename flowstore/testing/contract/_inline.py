# pyright: basic, reportOptionalMemberAccess=false, reportArgumentType=false
# pyright: reportAttributeAccessIssue=false, reportCallIssue=false
"""Projections that commit with the events."""

from typing import Any
from uuid import UUID, uuid4

import attrs
import pytest
import trio

from flowstore.daemon import Store
from flowstore.errors import ConcurrencyError
from flowstore.events import Event
from flowstore.projections import AsyncOptions, Lifecycle
from flowstore.store import StoreOptions
from flowstore.testing.contract._domain import (
    Account,
    Closed,
    Deposited,
    Note,
    Opened,
    Withdrawn,
    commit,
    get,
    values,
)


@attrs.define
class Receipt:
    """A document made of one event."""

    id: UUID
    amount: int


def receipt(deposited: Deposited, event: Event) -> Receipt | None:
    """Give a receipt for what is worth one."""
    return Receipt(event.id, deposited.amount) if deposited.amount else None


@attrs.define
class OwnerTotal:
    """A document of many streams."""

    id: str
    accounts: int = 0

    def apply_opened(self, _: Opened) -> None:
        """Count."""
        self.accounts += 1


class Failing:
    """A projection that can't."""

    name = "failing"
    consumes = (Withdrawn,)
    produces = None
    async_options = AsyncOptions()

    def apply(self, session: Any, streams: Any) -> None:
        """Fail, having written."""
        session.store(Note("written", "in vain"))
        raise ValueError("no withdrawals today")


class TestInlineProjections:
    @pytest.fixture
    def options(self) -> StoreOptions:
        options = StoreOptions()
        options.projections.aggregate_streams_with(Account, lifecycle=Lifecycle.INLINE)
        options.projections.transform(receipt, lifecycle=Lifecycle.INLINE)
        options.projections.aggregate_across_streams(
            OwnerTotal,
            group_by={Opened: lambda event: event.data.owner},
            lifecycle=Lifecycle.INLINE,
        )
        return options

    async def test_the_document_is_there_after_the_commit(self, store: Store) -> None:
        stream = uuid4()
        await commit(store, stream, Opened("Ada"), Deposited(5))
        assert await get(store, Account, stream) == Account(stream, "Ada", 5, 2)

    async def test_later_commits_go_on_with_it(self, store: Store) -> None:
        stream = uuid4()
        await commit(store, stream, Opened("Ada"), Deposited(5))
        await commit(store, stream, Withdrawn(2))
        assert await get(store, Account, stream) == Account(stream, "Ada", 3, 3)

    async def test_several_streams_in_one_commit(self, store: Store) -> None:
        streams = [uuid4() for _ in range(5)]
        async with store.session() as session:
            for amount, stream in enumerate(streams):
                session.events.append(stream, Deposited(amount))
            await session.save_changes()
        for amount, stream in enumerate(streams):
            assert (await get(store, Account, stream)).balance == amount

    async def test_two_appends_of_one_session_are_applied_once_each(self, store: Store) -> None:
        stream = uuid4()
        async with store.session() as session:
            session.events.append(stream, Deposited(1))
            session.events.append(stream, Deposited(2))
            await session.save_changes()
        assert await get(store, Account, stream) == Account(stream, "", 3, 2)

    async def test_should_delete_deletes(self, store: Store) -> None:
        stream = uuid4()
        await commit(store, stream, Opened("Ada"))
        await commit(store, stream, Closed())
        assert await get(store, Account, stream) is None

    async def test_a_transform_makes_a_document_of_each_event(self, store: Store) -> None:
        action = await commit(store, uuid4(), Deposited(5), Deposited(0), Opened("Ada"))
        first, second, _ = action.events
        assert await get(store, Receipt, first.id) == Receipt(first.id, 5)
        assert await get(store, Receipt, second.id) is None

    async def test_across_streams(self, store: Store) -> None:
        for _ in range(3):
            await commit(store, uuid4(), Opened("Ada"))
        assert await get(store, OwnerTotal, "Ada") == OwnerTotal("Ada", 3)

    async def test_a_failed_commit_leaves_no_document(self, store: Store) -> None:
        stream = uuid4()
        await commit(store, stream, Deposited(1))
        async with store.session() as session:
            session.events.append(stream, Deposited(2), expected_version=7)
            with pytest.raises(ConcurrencyError):
                await session.save_changes()
        assert (await get(store, Account, stream)).balance == 1

    async def test_a_failing_projection_fails_the_commit(self, store: Store) -> None:
        store.options.projections.add(Failing(), lifecycle=Lifecycle.INLINE)
        stream = uuid4()
        await commit(store, stream, Deposited(1))
        with pytest.raises(Exception, match="no withdrawals today"):
            await commit(store, stream, Withdrawn(1))
        assert await values(store, stream) == [Deposited(1)]
        assert await get(store, Note, "written") is None

    async def test_progress_of_an_inline_projection_is_zero(self, store: Store) -> None:
        await commit(store, uuid4(), Deposited(1))
        assert await store.progress(Account) == 0

    async def test_no_concurrent_update_is_lost(self, store: Store) -> None:
        stream = uuid4()

        async def deposit() -> None:
            while True:
                try:
                    await commit(store, stream, Deposited(1))
                except ConcurrencyError:
                    continue
                return

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                for _ in range(10):
                    nursery.start_soon(deposit)
        assert await get(store, Account, stream) == Account(stream, "", 10, 10)
        assert len(await values(store, stream)) == 10

    async def test_no_concurrent_update_across_streams_is_lost(self, store: Store) -> None:
        async def begin() -> None:
            while True:
                try:
                    await commit(store, uuid4(), Opened("Ada"))
                except ConcurrencyError:
                    continue
                return

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                for _ in range(10):
                    nursery.start_soon(begin)
        assert (await get(store, OwnerTotal, "Ada")).accounts == 10
