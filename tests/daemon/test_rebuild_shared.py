"""A projection is rebuilt while the daemons of several processes share its shard."""

from contextlib import aclosing

import pytest
import trio

from flowstore.daemon import DaemonSettings, open_store
from flowstore.errors import RebuildError
from flowstore.projections import AsyncOptions
from flowstore.store import StoreOptions
from tests.daemon.totals import Total, expected, fill, gate_of, spoil, totals

HOT_COLD = DaemonSettings(mode="hot_cold", lease_time=2.0)
PATIENCE = 60


def registered_in(options):
    options.projections.aggregate_streams_with(Total, async_options=AsyncOptions(page_size=4))
    return options


@pytest.fixture
def options(options):
    return registered_in(options)


@pytest.fixture
async def other(store):
    """The same store as another process has it open."""
    options = registered_in(StoreOptions(schema=store.options.schema))
    async with open_store(store.dsn, options) as opened:
        yield opened


async def note_states(daemon, seen, task_status):
    async with aclosing(daemon.watch()) as statuses:
        task_status.started()
        async for status in statuses:
            seen.add(status.state)


async def renewals(store, count):
    """Wait until the shard's lease was renewed so often, always by the same session."""
    owner = f"select pid, renewed from {store.options.schema}.shard_owners".encode()
    seen = []
    with trio.fail_after(PATIENCE):
        while len(seen) <= count:
            async with store.connection() as connection:
                cursor = await connection.execute(owner)
                (row,) = await cursor.fetchall()
            if row not in seen:
                seen.append(row)
            await trio.sleep(0.02)
    assert len({pid for pid, _ in seen}) == 1


def state(daemon):
    (status,) = daemon.statuses()
    return status.state


async def test_a_swap_where_the_shard_runs_gives_it_to_nobody_else(store, other):
    await fill(store, *range(12))
    seen = set()
    async with (
        store.build_projection_daemon(HOT_COLD) as hot,
        other.build_projection_daemon(HOT_COLD) as cold,
        trio.open_nursery() as nursery,
    ):
        await hot.start_all()
        await hot.wait_for_non_stale_results(PATIENCE)
        await cold.start_all()
        await nursery.start(note_states, cold, seen)
        await spoil(store)
        for _ in range(3):
            await hot.rebuild(Total, swap=True)
            assert await totals(store) == await expected(store)
            await spoil(store)
        await hot.rebuild(Total, swap=True)
        await fill(store, *range(12, 15))
        await hot.wait_for_non_stale_results(PATIENCE)
        assert (state(hot), state(cold), seen) == ("running", "starting", {"starting"})
        nursery.cancel_scope.cancel()
    assert await totals(store) == await expected(store)


async def test_a_paused_shard_that_is_swapped_stays_paused_and_is_given_to_nobody(store, other):
    await fill(store, *range(12))
    seen = set()
    async with (
        store.build_projection_daemon(HOT_COLD) as hot,
        other.build_projection_daemon(HOT_COLD) as cold,
        trio.open_nursery() as nursery,
    ):
        await hot.start_all()
        await hot.wait_for_non_stale_results(PATIENCE)
        await cold.start_all()
        await nursery.start(note_states, cold, seen)
        await hot.pause(Total)
        await spoil(store)
        await hot.rebuild(Total, swap=True)
        assert await totals(store) == await expected(store)
        await hot.rewind(Total, 12)
        await fill(store, *range(12, 15))
        await renewals(store, 3)  # in which another one has looked for it, too
        assert (state(hot), state(cold), seen) == ("paused", "starting", {"starting"})
        assert await store.progress(Total) == 12
        await hot.start(Total)
        await hot.wait_for_non_stale_results(PATIENCE)
        nursery.cancel_scope.cancel()
    assert await totals(store) == await expected(store)


async def test_a_lease_is_renewed_for_as_long_as_its_shard_stands_aside(store, other, until):
    async with (
        store.build_projection_daemon(HOT_COLD) as hot,
        other.build_projection_daemon(HOT_COLD) as cold,
    ):
        await hot.start_all()
        await fill(store, *range(1))
        await hot.wait_for_non_stale_results(PATIENCE)
        await cold.start_all()
        async with hot._starter.aside(hot._shards["Total"]):
            assert state(hot) == "stopped"
            await renewals(store, 3)
        assert (state(hot), state(cold)) == ("running", "starting")
        await hot.stop(Total)
        await until(cold, lambda status: status.state == "running")


async def test_a_swap_from_a_process_that_stands_by(store, other, until):
    await fill(store, *range(12))
    async with (
        store.build_projection_daemon(HOT_COLD) as hot,
        other.build_projection_daemon(HOT_COLD) as cold,
    ):
        await hot.start_all()
        await hot.wait_for_non_stale_results(PATIENCE)
        await cold.start_all()
        await spoil(store)
        with trio.fail_after(PATIENCE):
            await cold.rebuild(Total, swap=True)
        assert await totals(store) == await expected(store)
        await fill(store, *range(12, 17))
        await hot.wait_for_non_stale_results(PATIENCE)
        await cold.wait_for_non_stale_results(PATIENCE)
        assert "failed" not in {state(hot), state(cold)}
    assert await totals(store) == await expected(store)


@pytest.mark.parametrize("swap", [True, False])
async def test_a_rebuild_alone_beside_daemons_that_share_is_let_through(store, other, until, swap):
    await fill(store, *range(12))
    async with (
        other.build_projection_daemon(HOT_COLD) as hot,
        store.build_projection_daemon() as alone,
    ):
        await hot.start_all()
        await hot.wait_for_non_stale_results(PATIENCE)
        await spoil(store)
        gate = gate_of(store, beside_only=False).gate
        alone._shards["Total"].registration = store.options.projections._registered[0]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: alone.rebuild("Total", swap=swap))
            await gate.entered.wait()
            if not swap:
                await until(hot, lambda status: status.state != "running")
                await until(hot, has_tried)
                assert state(hot) == "starting"
            gate.opened.set()
        assert await totals(store) == await expected(store)
        await fill(store, *range(12, 17))
        await hot.wait_for_non_stale_results(PATIENCE)
        await until(hot, lambda status: status.state == "running")
    assert await totals(store) == await expected(store)


def has_tried(status):
    """Whether it has the shard again, or finds that another has."""
    return status.state == "running" or "another process runs it" in status.reason


async def test_catching_up_alone_beside_daemons_that_share(store, other, until):
    await fill(store, *range(12))
    async with (
        other.build_projection_daemon(HOT_COLD) as hot,
        store.build_projection_daemon() as alone,
    ):
        await hot.start_all()
        await hot.wait_for_non_stale_results(PATIENCE)
        await hot.pause(Total)
        await fill(store, *range(12, 17))
        await alone.catch_up()
        assert await totals(store) == await expected(store)


async def test_whoever_takes_the_shard_ends_a_rebuild_in_place_with_a_clear_error(store, other):
    await fill(store, *range(12))
    async with store.build_projection_daemon() as alone, trio.open_nursery() as nursery:
        gate = gate_of(store, beside_only=False).gate
        alone._shards["Total"].registration = store.options.projections._registered[0]

        async def rebuild():
            with pytest.raises(RebuildError, match="another process has begun to run it"):
                await alone.rebuild("Total")

        nursery.start_soon(rebuild)
        await gate.entered.wait()
        async with other.build_projection_daemon() as later:
            await later.start_all()
            gate.opened.set()
            await later.wait_for_non_stale_results(PATIENCE)
    assert await totals(store) == await expected(store)
