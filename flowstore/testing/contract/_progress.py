# pyright: basic, reportOptionalMemberAccess=false, reportArgumentType=false
# pyright: reportAttributeAccessIssue=false, reportCallIssue=false
"""Effects and progress in one commit: what an effect exactly once rests on."""

from typing import Any
from uuid import uuid4

import pytest
import trio
import trio.testing

from flowstore.daemon import Store
from flowstore.errors import FlowstoreError, ProgressConflictError, UnknownProjectionError
from flowstore.projections import AsyncOptions, Lifecycle
from flowstore.store import StoreOptions
from flowstore.testing.contract._domain import Account, Deposited, Note, Tally, commit, get


class Counter:
    """A projection that counts events in a document."""

    name = "counter"
    consumes = (Deposited,)
    produces = Tally
    async_options = AsyncOptions()

    async def apply(self, session: Any, streams: Any) -> None:
        """Count."""
        tally = await session.load(Tally, 1) or Tally(1)
        tally.count += sum(len(stream.events) for stream in streams)
        session.store(tally)


class TestProgress:
    @pytest.fixture
    def options(self) -> StoreOptions:
        options = StoreOptions()
        options.projections.add(Counter(), lifecycle=Lifecycle.ASYNC)
        options.projections.aggregate_streams_with(Account)
        return options

    async def test_it_is_zero_before_the_first_commit(self, store: Store) -> None:
        assert await store.progress("counter") == 0

    async def test_it_is_asked_for_by_name_document_class_or_projection(self, store: Store) -> None:
        unit = store.projection_session()
        await store.commit_batch(unit, shard="counter", floor=0, ceiling=7)
        for name in ("counter", Tally, Counter):
            assert await store.progress(name) == 7

    async def test_an_unknown_one_is_an_error_that_lists_the_known(self, store: Store) -> None:
        with pytest.raises(UnknownProjectionError, match="counter") as caught:
            await store.progress("conuter")
        assert "counter" in caught.value.known

    async def test_effects_and_progress_commit_together(self, store: Store) -> None:
        unit = store.projection_session()
        unit.store(Note("a", "effect"))
        await store.commit_batch(unit, shard="counter", floor=0, ceiling=3)
        assert await store.progress("counter") == 3
        assert await get(store, Note, "a") == Note("a", "effect")

    async def test_from_another_floor_nothing_is_written(self, store: Store) -> None:
        await store.commit_batch(store.projection_session(), shard="counter", floor=0, ceiling=3)
        for floor in (0, 2, 4):
            unit = store.projection_session()
            unit.store(Note("a"))
            with pytest.raises(ProgressConflictError) as caught:
                await store.commit_batch(unit, shard="counter", floor=floor, ceiling=9)
            assert (caught.value.expected, caught.value.found) == (floor, 3)
        assert await get(store, Note, "a") is None
        assert await store.progress("counter") == 3

    async def test_of_two_owners_one_wins(self, store: Store) -> None:
        won, lost = [], []

        async def own(number: int) -> None:
            unit = store.projection_session()
            unit.store(Note("winner", str(number)))
            try:
                await store.commit_batch(unit, shard="counter", floor=0, ceiling=3)
            except ProgressConflictError:
                lost.append(number)
            else:
                won.append(number)

        async with trio.open_nursery() as nursery:
            for number in range(5):
                nursery.start_soon(own, number)
        assert (len(won), len(lost)) == (1, 4)
        assert await get(store, Note, "winner") == Note("winner", str(won[0]))

    async def test_each_shard_has_its_own(self, store: Store) -> None:
        await store.commit_batch(store.projection_session(), shard="counter", floor=0, ceiling=3)
        assert await store.progress(Account) == 0

    async def test_a_projections_session_does_not_commit_by_itself(self, store: Store) -> None:
        unit = store.projection_session()
        unit.store(Note("a"))
        with pytest.raises(FlowstoreError):
            await unit.save_changes()
        assert await get(store, Note, "a") is None

    async def test_after_commit_runs_after_a_batch(self, store: Store) -> None:
        calls: list[str] = []
        unit = store.projection_session()
        unit.after_commit(lambda: calls.append("called"))
        await store.commit_batch(unit, shard="counter", floor=0, ceiling=3)
        assert calls == ["called"]

    async def test_teardown_removes_documents_and_progress(self, store: Store) -> None:
        unit = store.projection_session()
        unit.store(Tally(1, 5), Note("a"))
        await store.commit_batch(unit, shard="counter", floor=0, ceiling=3)
        await store.teardown(store.options.projections.find("counter").projection)
        assert await store.progress("counter") == 0
        assert await get(store, Tally, 1) is None
        assert await get(store, Note, "a") == Note("a")

    async def test_waiting_for_appends_returns_when_somebody_appends(self, store: Store) -> None:
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(store.wait_for_appends, 1000)
                await trio.testing.wait_all_tasks_blocked()
                await commit(store, uuid4(), Deposited(1))

    async def test_waiting_for_appends_ends_after_its_time(self, store: Store) -> None:
        with trio.fail_after(20):
            await store.wait_for_appends(0.01)
