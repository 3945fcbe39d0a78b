"""A shard that stood aside goes on as it was before, however what it stood aside for has ended."""

from uuid import UUID

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from flowstore.errors import DatabaseError, RebuildError
from flowstore.projections import AsyncOptions

STREAMS = [UUID(int=number) for number in range(1, 4)]
PATIENCE = 20


@attrs.frozen
class Counted:
    by: int = 1


@attrs.define
class Total:
    id: UUID
    number: int = 0
    seen: list[int] = attrs.field(factory=list)

    def apply(self, counted: Counted) -> None:
        if counted.by == POISON:
            raise ValueError("poison")
        self.number += counted.by
        self.seen.append(counted.by)


POISON = -7


class Gate:
    """Stops whoever comes until it is opened: `entered` tells that somebody has."""

    def __init__(self):
        self.entered, self.opened = trio.Event(), trio.Event()

    async def wait(self):
        self.entered.set()
        await self.opened.wait()


@attrs.define(eq=False)
class Gated:
    """A projection's twin that waits at a gate before it applies; only a shadow's, unless told."""

    inner: object
    gate: Gate
    beside_only: bool = True

    def __getattr__(self, name):
        return getattr(self.inner, name)

    async def apply(self, session, streams):
        if type(session).__name__ == "ShadowUnit" or not self.beside_only:
            await self.gate.wait()
        await self.inner.apply(session, streams)


@pytest.fixture
def options(options):
    options.projections.aggregate_streams_with(Total, async_options=AsyncOptions(page_size=4))
    return options


async def fill(store, *numbers):
    for number in numbers:
        async with store.session() as session:
            session.events.append(STREAMS[number % len(STREAMS)], Counted(number))
            await session.save_changes()


async def expected(store):
    session = store.session()
    found = [await session.events.aggregate_stream(Total, stream) for stream in STREAMS]
    return [total for total in found if total is not None]


async def totals(store):
    return await store.session().query(Total, "true order by id")


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


async def leftovers(store):
    async with store.connection() as connection:
        cursor = await connection.execute(
            "select tablename from pg_tables where schemaname = %s and tablename like 'shadow%%'",
            (store.options.schema,),
        )
        tables = await cursor.fetchall()
        cursor = await connection.execute(
            f"select shard from {store.options.schema}.progress where shard like 'shadow%'".encode()
        )
        return tables + await cursor.fetchall()


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
    gate = Gate()
    await fill(store, 1, 2, 3)
    registered = store.options.projections._registered
    registered[0] = attrs.evolve(registered[0], projection=Gated(registered[0].projection, gate))
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
    gate = Gate()
    await fill(store, 1)
    registered = store.options.projections._registered
    gated = Gated(registered[0].projection, gate, beside_only=False)
    registered[0] = attrs.evolve(registered[0], projection=gated)
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
        gated = Gated(registered[0].projection, Gate(), beside_only=False)
        shard = daemon._shards["Total"]
        # Registered too: whoever looks for the shard's progress asks the store by its projection.
        registered[0] = shard.registration = attrs.evolve(registered[0], projection=gated)
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
