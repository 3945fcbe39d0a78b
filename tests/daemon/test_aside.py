"""A shard that stood aside goes on as it was before, however what it stood aside for has ended."""

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from flowstore.errors import DatabaseError, RebuildError
from flowstore.projections import AsyncOptions
from tests.daemon.totals import (
    POISON,
    Total,
    expected,
    fill,
    gate_of,
    leftovers,
    totals,
)

PATIENCE = 60


@pytest.fixture
def options(options):
    options.projections.aggregate_streams_with(Total, async_options=AsyncOptions(page_size=4))
    return options


@attrs.define(eq=False)
class CancelAtStep(trio.abc.Instrument):
    """Cancels a scope when a task is about to make its so-and-so-manieth step."""

    task: trio.lowlevel.Task
    step: int
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    steps: int = 0

    def before_task_step(self, task):
        if task is self.task:
            self.steps += 1
            if self.steps == self.step:
                self.scope.cancel()

    async def doing(self, work):
        """Do the work; tells whether it was through before that step."""
        trio.lowlevel.add_instrument(self)
        try:
            with self.scope:
                await work()
        finally:
            trio.lowlevel.remove_instrument(self)
        return self.steps < self.step


async def until_state(daemon, until, state):
    return await until(daemon, lambda status: status.state == state)


VERBS = {
    "swap": lambda daemon: daemon.rebuild(Total, swap=True),
    "rewind": lambda daemon: daemon.rewind(Total, 3),
    "catch up": lambda daemon: daemon.catch_up(),
    "restart": lambda daemon: daemon.restart(Total),
}


CASES = [(verb, before) for verb in VERBS for before in ("running", "paused")]
CASES.remove(("restart", "paused"))  # which it isn't meant to stay


@pytest.mark.parametrize(("verb", "before"), CASES)
async def test_cancelled_at_any_step_it_goes_on_as_it_was(store, until, verb, before):
    await fill(store, *range(1, 10))
    async with store.build_projection_daemon() as daemon:
        await daemon.start_all()
        step, is_through = 0, False
        while not is_through:
            if before == "paused":
                await daemon.pause(Total)
            await fill(store, 100 + step)
            step += 1
            cancelling = CancelAtStep(trio.lowlevel.current_task(), step)
            is_through = await cancelling.doing(lambda: VERBS[verb](daemon))
            await until_state(daemon, until, before)
            if before == "paused":
                await daemon.start(Total)
            await fill(store, 200 + step)
            await daemon.wait_for_non_stale_results(PATIENCE)
    assert step > 3
    if verb != "rewind":
        assert await totals(store) == await expected(store)


async def test_a_swap_cancelled_at_any_step_leaves_no_shadow_and_starts_nothing(store):
    await fill(store, *range(1, 10))
    async with store.build_projection_daemon() as daemon:
        step, is_through = 0, False
        while not is_through:
            step += 1
            cancelling = CancelAtStep(trio.lowlevel.current_task(), step)
            is_through = await cancelling.doing(lambda: daemon.rebuild(Total, swap=True))
            assert (step, await leftovers(store)) == (step, [])
            assert [status.state for status in daemon.statuses()] == ["stopped"]
    assert await totals(store) == await expected(store)


async def test_a_swap_that_fails_while_its_shard_stands_aside_lets_it_go_on(store, until):
    gate = gate_of(store).gate
    await fill(store, 1, 2, 3)
    async with store.build_projection_daemon() as daemon:
        await daemon.start_all()
        await daemon.wait_for_non_stale_results(PATIENCE)
        async with trio.open_nursery() as nursery:

            async def rebuild():
                with pytest.raises(RebuildError, match="sequence 4: ValueError: poison"):
                    await daemon.rebuild("Total", swap=True)

            nursery.start_soon(rebuild)
            await gate.entered.wait()
            # A single event more is left for the moment in which the shard stands aside.
            await fill(store, POISON)
            await daemon.wait_for_non_stale_results(PATIENCE)
            gate.opened.set()
        await until_state(daemon, until, "running")
        await fill(store, 5)
        await daemon.wait_for_non_stale_results(PATIENCE)
    assert [letter.sequence for letter in await store.dead_letters()] == [4]
    assert sum(total.number for total in await totals(store)) == 11


async def test_a_rebuild_that_fails_before_it_deletes_anything_lets_its_shard_go_on(store, until):
    await fill(store, 1, 2, 3)
    async with store.build_projection_daemon() as daemon:
        await daemon.start_all()
        await daemon.wait_for_non_stale_results(PATIENCE)
        async with store.connection() as connection:
            events = f"{store.options.schema}.events"
            await connection.execute(f"alter table {events} rename to elsewhere".encode())
        with pytest.raises(DatabaseError):
            await daemon.rebuild(Total)
        async with store.connection() as connection:
            elsewhere = f"{store.options.schema}.elsewhere"
            await connection.execute(f"alter table {elsewhere} rename to events".encode())
        await until_state(daemon, until, "running")
        await fill(store, 4)
        await daemon.wait_for_non_stale_results(PATIENCE)
    assert await totals(store) == await expected(store)


async def test_a_shard_is_started_although_somebody_is_just_stopping_it(store, until):
    gate = gate_of(store, beside_only=False).gate
    await fill(store, 1)
    async with store.build_projection_daemon() as daemon, trio.open_nursery() as nursery:
        await daemon.start_all()
        await gate.entered.wait()
        nursery.start_soon(daemon.stop, "Total")
        await wait_all_tasks_blocked()
        nursery.start_soon(daemon.start, "Total")
        await wait_all_tasks_blocked()
        gate.opened.set()
        await until_state(daemon, until, "running")
        await daemon.wait_for_non_stale_results(PATIENCE)
        await fill(store, 2)
        await daemon.wait_for_non_stale_results(PATIENCE)


async def test_a_rebuild_in_place_that_is_cut_off_does_not_go_on_by_itself(store):
    await fill(store, *range(1, 10))
    registered = store.options.projections._registered
    async with store.build_projection_daemon() as daemon:
        await daemon.start_all()
        await daemon.wait_for_non_stale_results(PATIENCE)
        # Registered too: whoever looks for the shard's progress asks the store by its projection.
        gated = gate_of(store, beside_only=False)
        daemon._shards["Total"].registration = registered[0]
        scope = trio.CancelScope()

        async def rebuild():
            with scope:
                await daemon.rebuild("Total")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(rebuild)
            await gated.gate.entered.wait()
            scope.cancel()
        gated.gate.opened.set()
        await wait_all_tasks_blocked()
        (status,) = daemon.statuses()
        assert (status.state, status.progress) == ("stopped", 0)
        step, is_through = 0, False
        while not is_through:
            step += 1
            cancelling = CancelAtStep(trio.lowlevel.current_task(), step)
            is_through = await cancelling.doing(lambda: daemon.rewind("Total", 0))
            await wait_all_tasks_blocked()
            assert daemon.statuses()[0].state == "stopped"
        await daemon.start("Total")
        await daemon.wait_for_non_stale_results(PATIENCE)
    assert await totals(store) == await expected(store)


async def test_a_catch_up_that_fails_leaves_a_running_shard_failed_before_the_event(store):
    await fill(store, 1, 2)
    async with store.build_projection_daemon() as daemon:
        await daemon.start_all()
        await daemon.wait_for_non_stale_results(PATIENCE)
        await daemon.pause(Total)
        await fill(store, POISON)
        with pytest.raises(ExceptionGroup):
            await daemon.catch_up()
        await wait_all_tasks_blocked()
        (status,) = daemon.statuses()
        assert (status.state, status.progress) == ("failed", 2)
    assert await store.dead_letters() == []
