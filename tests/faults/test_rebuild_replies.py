"""A rebuild whose last word the network has lost knows whether the new view is in place."""

import re
from contextlib import asynccontextmanager

import attrs
import pytest
import trio
from psycopg.conninfo import conninfo_to_dict

from flowstore import AsyncOptions, DaemonSettings, Lifecycle, StoreOptions, open_store
from flowstore.errors import RebuildError
from tests.daemon.totals import Total, expected, fill, leftovers, spoil, totals

SCHEMA = "replies"
PATIENCE = 60
SETTINGS = DaemonSettings(retry_time=0.01, notifications=False)
TAKES = re.compile(rf'delete from "{SCHEMA}"\.progress where shard = \$1 and sequence = \$2')
COMMITS = re.compile(r": commit$", re.IGNORECASE)
LOOKS = re.compile(rf'select sequence from "{SCHEMA}"\.progress where shard = \$1$')
TRIES = re.compile("set transaction isolation level read committed")


def options_of(lifecycle):
    options = StoreOptions(schema=SCHEMA)
    options.projections.aggregate_streams_with(
        Total, lifecycle=lifecycle, async_options=AsyncOptions(page_size=4)
    )
    return options


@attrs.define(eq=False)
class Loss:
    """Loses the end of the transaction that puts a shadow in place, once.

    Attributes:
        carried_out: the server hears COMMIT, and its reply is lost; else COMMIT itself is lost.
        between: is awaited before the next attempt is let through.
    """

    carried_out: bool
    between: object = None
    taking: object = None
    happened: int = 0

    async def __call__(self, link, message):
        if self.happened:
            if TRIES.match(message.statement) and self.between is not None:
                between, self.between = self.between, None
                await between()
        elif TAKES.match(message.statement):
            self.taking = link
        elif link is self.taking and COMMITS.search(message.label):
            self.happened += 1
            if self.carried_out:
                link.deaf = True
            else:
                link.reset()
                await trio.lowlevel.checkpoint()


@pytest.fixture
async def network(networks, dsn, nursery):
    network = networks.Network.to(conninfo_to_dict(dsn))
    await nursery.start(network.serve)
    yield network
    nursery.cancel_scope.cancel()


@asynccontextmanager
async def scene(dsn, network, lifecycle):
    """Open a store with a view that is wrong, twice: behind the network, and beside it."""
    async with open_store(dsn, options_of(lifecycle)) as direct:
        await fill(direct, *range(30))
        async with direct.build_projection_daemon() as daemon:
            await daemon.catch_up()
        await spoil(direct)
        behind = network.dsn(conninfo_to_dict(dsn))
        async with open_store(behind, options_of(lifecycle)) as store:
            with trio.fail_after(PATIENCE):
                yield store, direct


async def rebuild(store):
    async with store.build_projection_daemon(SETTINGS) as daemon:
        await daemon.start_all()
        await daemon.rebuild(Total, swap=True)
        assert {status.state for status in daemon.statuses()} <= {"running"}
        await fill(store, *range(30, 35))
        await daemon.wait_for_non_stale_results()


KINDS = [Lifecycle.ASYNC, Lifecycle.INLINE]


@pytest.mark.parametrize("carried_out", [True, False])
@pytest.mark.parametrize("lifecycle", KINDS)
async def test_a_rebuild_whose_end_was_lost_is_done_once(dsn, network, lifecycle, carried_out):
    async with scene(dsn, network, lifecycle) as (store, direct):
        loss = network.on_message = Loss(carried_out)
        await rebuild(store)
        assert loss.happened == 1
        assert await totals(direct) == await expected(direct)
        assert await direct.progress(Total) == (35 if lifecycle is Lifecycle.ASYNC else 0)
        assert await leftovers(direct) == []


@pytest.mark.parametrize("lifecycle", KINDS)
async def test_another_rebuild_after_it_takes_nothing_from_one_that_was_done(
    dsn, network, lifecycle
):
    async with scene(dsn, network, lifecycle) as (store, direct):

        async def between():
            assert await totals(direct) == await expected(direct)
            async with direct.build_projection_daemon() as other:
                await other.rebuild(Total, swap=True)

        network.on_message = loss = Loss(carried_out=True, between=between)
        await rebuild(store)
        assert (loss.happened, loss.between) == (1, None)
        assert await totals(direct) == await expected(direct)


@pytest.mark.parametrize("is_finished", [True, False])
@pytest.mark.parametrize("lifecycle", KINDS)
async def test_another_rebuild_is_told_where_the_end_was_really_lost(
    dsn, network, lifecycle, is_finished
):
    async with scene(dsn, network, lifecycle) as (store, direct):
        before = await totals(direct)

        async def between():
            if is_finished:
                async with direct.build_projection_daemon() as other:
                    await other.rebuild(Total, swap=True)
            else:
                projection = direct.options.projections.find(Total).projection
                await direct.rebuilding.open_shadow(projection)

        network.on_message = loss = Loss(carried_out=False, between=between)
        with pytest.raises(RebuildError, match="another rebuild of it has begun"):
            async with store.build_projection_daemon(SETTINGS) as daemon:
                await daemon.rebuild(Total, swap=True)
        assert (loss.happened, loss.between) == (1, None)
        assert await totals(direct) == (await expected(direct) if is_finished else before)
        assert await direct.progress(Total) == (30 if lifecycle is Lifecycle.ASYNC else 0)


async def test_a_shard_that_went_on_elsewhere_is_not_taken_back_to_one_that_was_done(dsn, network):
    """Progress is beyond what the rebuild has put in place, which then is no reason to go on."""
    async with scene(dsn, network, Lifecycle.ASYNC) as (store, direct):

        async def between():
            await fill(direct, *range(30, 33))
            async with direct.build_projection_daemon() as other:
                await other.catch_up()

        network.on_message = loss = Loss(carried_out=True, between=between)
        async with store.build_projection_daemon(SETTINGS) as daemon:
            await daemon.rebuild(Total, swap=True)
            assert [status.progress for status in daemon.statuses()] == [33]
        assert (loss.happened, loss.between) == (1, None)
        assert await totals(direct) == await expected(direct)


async def test_trouble_after_its_end_fails_nothing_that_is_done(dsn, network):
    """The view is in place; where the shard stands is looked up once more."""
    async with scene(dsn, network, Lifecycle.ASYNC) as (store, direct):
        loss = Loss(carried_out=True)
        losses = []

        async def lose(link, message):
            if TAKES.match(message.statement):
                loss.taking = link
            elif link is loss.taking and COMMITS.search(message.label):
                loss.happened = True
            elif loss.happened and not losses and LOOKS.match(message.statement):
                losses.append(message.label)
                link.reset()
                await trio.lowlevel.checkpoint()

        network.on_message = lose
        async with store.build_projection_daemon(SETTINGS) as daemon:
            await daemon.rebuild(Total, swap=True)
            assert [status.progress for status in daemon.statuses()] == [30]
        assert len(losses) == 1
        assert await totals(direct) == await expected(direct)
