"""A network that swallows, resets, delays, or drops the one reply that counts."""

import logging
import random
import re
from contextlib import nullcontext
from functools import partial
from uuid import UUID

import attrs
import pytest
import trio
from psycopg.conninfo import conninfo_to_dict

from flowstore import FlatTable, StoreOptions, apply_schema, open_store
from flowstore.errors import DatabaseUnavailableError
from flowstore.postgres import Connection
from flowstore.store._signals import Signals

LOG = logging.getLogger("faults")


@pytest.fixture
async def network(victim, networks, dsn, nursery):
    """A network to the test's database, which has a store."""
    await victim.prepare(dsn)
    network = networks.Network.to(conninfo_to_dict(dsn))
    await nursery.start(network.serve)
    yield network
    nursery.cancel_scope.cancel()


@pytest.fixture
def scene(victim, network, dsn):
    """A store behind the network, with writers and a daemon."""
    return victim.scene(network.dsn(conninfo_to_dict(dsn)), dsn)


async def cut(network, fault, seconds, dice):
    """Have the network out for some time."""
    links = list(network.links)
    if fault == "held":  # packets are lost, and sent again once the network is back
        network.hold()
    elif fault == "swallowed":  # a router that forgot its connections: they are mute for ever
        network.swallows = True
        for link in links:
            link.is_mute = True
    elif fault == "reset":
        network.is_out = True
        for link in links:
            link.reset()
    elif fault == "half-open":  # the server has ended some, and its word was lost
        for link in dice.sample(links, (len(links) + 1) // 2):
            link.is_mute = True
            await link.server.aclose()
    await trio.sleep(seconds)
    network.release()
    network.swallows = network.is_out = False


@pytest.mark.parametrize("fault", ["held", "swallowed", "reset", "half-open"])
async def test_the_daemon_goes_on_once_the_network_is_back(fault, scene, network, soak):
    dice = random.Random(fault)
    took = []
    async with scene as at:
        for _ in range(soak(1, 20)):
            await trio.sleep(dice.uniform(0.1, 0.5))
            await cut(network, fault, dice.uniform(*soak((1, 3), (0.5, 8))), dice)
            took.append(await at.goes_on())
        verdict = await at.end()
    LOG.info(
        "%s: %s times out, longest standstill %.1f s: %s", fault, len(took), max(took), verdict
    )
    verdict.check()


async def test_a_network_that_is_out_for_long_is_told(victim, scene, network):
    async with scene as at:
        network.hold()
        patience = victim.Patience(victim.SOON)
        while not any(status.reason for status in at.daemon.statuses()):
            assert patience.is_left(), at.daemon.statuses()
            await trio.sleep(0.05)
        network.release()
        await at.goes_on()
        (await at.end()).check()


async def test_a_slow_network_loses_nothing(scene, network, soak):
    network.delay = 0.03
    async with scene as at:
        await trio.sleep(soak(2, 30))
        network.delay = 0
        await at.goes_on()
        verdict = await at.end()
    LOG.info("delayed: %s", verdict)
    verdict.check()


async def test_who_listens_finds_out_that_nobody_can_be_heard(network, dsn):
    """A notification that doesn't come is nothing unusual; so it asks now and then."""
    lend = partial(nullcontext, None)  # it is for those who notify
    signals = Signals(network.dsn(conninfo_to_dict(dsn)), "channel", lend, silence=0.2)
    async with signals.listening(), await Connection.connect(dsn) as other:
        [link] = network.links
        link.is_mute = True
        with trio.fail_after(GIVEN_UP):
            while all(each.is_mute for each in network.links):  # noqa: ASYNC110 - a set
                await trio.sleep(0.02)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(signals.wait, 60)
                while nursery.child_tasks:
                    await other.execute("select pg_notify('channel', '')")
                    await trio.sleep(0.02)


LOSING = re.compile(r'^sync: (commit|.*"faults"\.append)')


async def test_replies_to_commits_are_lost(scene, network, soak):
    """Each was carried out; who asked for it is told that the connection was reset."""
    dice = random.Random(11)
    lost = 0

    async def lose(link, message):
        if LOSING.match(message.label) and dice.random() < 0.1:
            link.deaf = True

    def count(link):
        nonlocal lost
        lost += 1

    network.on_message, network.on_unheard = lose, count
    async with scene as at:
        with trio.fail_after(soak(300, 3600)):
            while lost < soak(40, 500):  # noqa: ASYNC110 - a count
                await trio.sleep(0.05)
        network.on_message = at.let_through
        await at.goes_on()
        verdict = await at.end()
    LOG.info("%s replies lost: %s", lost, verdict)
    verdict.check()


@attrs.frozen
class Noted:
    """An event of which a note is kept."""

    text: str


@attrs.define
class Note:
    """A document whose table somebody has to create."""

    id: UUID
    text: str = ""

    def apply(self, noted: Noted) -> None:
        self.text = noted.text


COUNTS = FlatTable("counts", key="stream", key_type=UUID, columns={"last": str}).on(
    Noted, set={"last": "text"}
)


def swallowing(network, pattern):
    """Have the network swallow the answer to a statement, once, and whatever comes after it."""
    swallowed = []

    async def on_message(link, message):
        if not swallowed and pattern.search(message.statement):
            swallowed.append(message.statement)
            link.is_mute = True

    network.on_message = on_message
    return swallowed


MAKES = re.compile(
    r'create (schema|table .*"(doc_note|counts|doc_loose|shadow_[0-9a-f]+)")', re.IGNORECASE
)
GIVEN_UP = 60
"""Seconds after which whoever waits for what is swallowed waits for ever, on a busy machine."""


@attrs.define
class Loose:
    """A document that nobody has registered."""

    id: UUID
    text: str = ""


def noting(schema):
    options = StoreOptions(schema=schema)
    options.projections.aggregate_streams_with(Note)
    options.projections.add(COUNTS)
    return options


@pytest.mark.parametrize("work", ["document", "rebuild"])
async def test_making_a_table_is_given_up_where_the_network_has_swallowed_it(network, dsn, work):
    behind = network.dsn(conninfo_to_dict(dsn))

    async def do(store, daemon):
        if work == "document":
            async with store.session() as session:
                session.store(Loose(UUID(int=2), "mine"))
                await session.save_changes()
        else:
            await daemon.rebuild(Note, swap=True)

    async with open_store(dsn, noting("tables")) as direct:
        async with direct.session() as session:
            session.events.append(UUID(int=1), Noted("kept"))
            await session.save_changes()
        async with direct.build_projection_daemon() as daemon:
            await daemon.catch_up()
    async with (
        open_store(behind, noting("tables")) as store,
        store.build_projection_daemon() as daemon,
    ):
        swallowed = swallowing(network, MAKES)
        with trio.fail_after(GIVEN_UP), pytest.raises(DatabaseUnavailableError):
            await do(store, daemon)
        assert len(swallowed) == 1
        with trio.fail_after(GIVEN_UP):
            await do(store, daemon)
        assert await store.session().find(Note) == [Note(UUID(int=1), "kept")]


@pytest.mark.parametrize("work", ["opening", "apply_schema", "registered", "flat table"])
async def test_making_a_schema_is_given_up_where_the_network_has_swallowed_it(network, dsn, work):
    behind = network.dsn(conninfo_to_dict(dsn))
    options = StoreOptions(schema="tables")
    async with open_store(dsn, options):
        pass  # has no tables of projections yet
    if work == "registered":
        options.projections.aggregate_streams_with(Note)
    elif work == "flat table":
        options.projections.add(COUNTS)
    else:
        options = noting("other")

    async def do():
        if work == "apply_schema":
            await apply_schema(behind, options)
            return
        async with open_store(behind, options) as store, store.build_projection_daemon() as daemon:
            await daemon.rebuild_all()

    swallowed = swallowing(network, MAKES)
    with trio.fail_after(GIVEN_UP), pytest.raises(DatabaseUnavailableError):
        await do()
    assert len(swallowed) == 1
    with trio.fail_after(GIVEN_UP):
        await do()
