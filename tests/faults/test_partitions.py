"""The owner of shards is cut off by its network: another daemon takes them over, and it writes nothing."""

import logging
import random
import re
from contextlib import asynccontextmanager

import attrs
import pytest
import trio
from psycopg.conninfo import conninfo_to_dict

LOG = logging.getLogger("faults")
LEASE_TIME = 2.0
TAKEOVER = 3.0
"""Seconds after a lease has run out in which another daemon runs its shards."""
ADVANCES = re.compile(r'"faults"\.advance')


@pytest.fixture
async def network(victim, networks, dsn, nursery):
    """A network to the test's database, which has a store."""
    await victim.prepare(dsn)
    network = networks.Network.to(conninfo_to_dict(dsn))
    await nursery.start(network.serve)
    yield network
    nursery.cancel_scope.cancel()


@pytest.fixture
def settings(victim):
    return attrs.evolve(victim.SETTINGS, mode="hot_cold", lease_time=LEASE_TIME)


@pytest.fixture
def until(victim):
    """Wait until each of a daemon's shards is as it should be; gives the seconds that it took."""

    async def wait(daemon, is_it, seconds):
        begun, patience = trio.current_time(), victim.Patience(seconds)
        while not all(is_it(status) for status in daemon.statuses()):
            assert patience.is_left(), daemon.statuses()
            await trio.sleep(0.02)
        return trio.current_time() - begun

    return wait


def runs(status):
    return status.state == "running"


def stands_by(status):
    return status.state == "starting" and status.reason.startswith("another process runs it: pid")


@attrs.define
class Pair:
    """Two daemons: one behind the network, which runs the shards, and one that stands by."""

    owner: object
    other: object
    acknowledged: list
    writing: trio.CancelScope

    def moved(self):
        """Tell what a shard is like that runs, and has moved since now."""
        places = {status.name: status.progress for status in self.other.statuses()}
        return lambda status: runs(status) and status.progress > places[status.name]

    async def judge(self, victim, dsn, daemon):
        self.writing.cancel()
        with trio.fail_after(victim.PATIENCE):
            await daemon.wait_for_non_stale_results()
        (await victim.judge(dsn, self.acknowledged)).check()


@pytest.fixture
def pair(victim, network, dsn, settings, until):
    @asynccontextmanager
    async def opened():
        async with (
            victim.opened(network.dsn(conninfo_to_dict(dsn))) as behind,
            victim.opened(dsn) as beside,
            behind.build_projection_daemon(settings) as owner,
            beside.build_projection_daemon(settings) as other,
            trio.open_nursery() as nursery,
        ):
            acknowledged = []
            writer = victim.Writer("writer", random.Random(3), acknowledged.extend)
            await owner.start_all()
            await until(owner, runs, 20)
            await other.start_all()
            await until(other, stands_by, 20)
            writing = trio.CancelScope()

            async def write():
                with writing:
                    await writer.write(beside)

            nursery.start_soon(write)
            yield Pair(owner, other, acknowledged, writing)
            nursery.cancel_scope.cancel()

    return opened


async def test_another_daemon_takes_over_from_one_that_nobody_hears(
    victim, pair, network, dsn, soak, until
):
    async with pair() as daemons:
        owner, other = daemons.owner, daemons.other
        for _ in range(soak(1, 10)):
            links = list(network.links)
            network.swallows = True
            for link in links:
                link.is_mute = True
            took = await until(other, daemons.moved(), LEASE_TIME + TAKEOVER)
            lost = await until(owner, lambda status: not runs(status), 2 * LEASE_TIME)
            network.swallows = False
            back = await until(owner, stands_by, 5)
            await other.stop_all()
            again = await until(owner, runs, TAKEOVER)
            await other.start_all()
            LOG.info(
                "taken over after %.1f s, let go after %.1f s more; %.1f s after the network's"
                " return it stands by, and %.1f s after the other's end it runs",
                took,
                lost,
                back,
                again,
            )
        await daemons.judge(victim, dsn, owner)


async def test_what_a_former_owner_had_sent_arrives_and_changes_nothing(
    victim, pair, network, dsn, nursery, until
):
    """A commit is held back by the network, until after somebody else has taken over."""
    held, late = [], []

    async def hold(link, message):
        if not held and ADVANCES.search(message.statement):
            held.append(message.statement)
            network.hold()
            await network.passage()
            late.append(message.statement)

    async with pair() as daemons:
        network.on_message = hold
        with trio.fail_after(victim.PATIENCE):
            while not held:  # noqa: ASYNC110 - a list
                await trio.sleep(0.01)
        await until(daemons.other, daemons.moved(), LEASE_TIME + TAKEOVER)
        network.release()
        await until(daemons.owner, stands_by, 5)
        assert late == held
        await daemons.judge(victim, dsn, daemons.other)


@pytest.mark.parametrize("outage", [0.3, LEASE_TIME + 1])
async def test_a_lone_daemon_goes_on_when_its_lease_can_be_had(
    victim, network, dsn, settings, outage
):
    """The server holds a lease that was cut off for its owner, for as long as it may be silent."""
    behind = network.dsn(conninfo_to_dict(dsn))
    async with victim.scene(behind, dsn, settings) as at:
        for link in list(network.links):
            link.is_mute = True
        network.swallows = True
        await trio.sleep(outage)
        network.swallows = False
        took = await at.goes_on(victim.SOON + max(0.0, LEASE_TIME - outage))
        LOG.info("out for %.1f s: goes on %.1f s after the network's return", outage, took)
        (await at.end()).check()
