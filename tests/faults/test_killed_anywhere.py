"""A process that is killed at any moment loses nothing, doubles nothing, and keeps the order."""

import logging
import random
import signal
import time
from collections import Counter

import attrs
import pytest
import trio
from psycopg.conninfo import conninfo_to_dict

LOG = logging.getLogger("faults")
LEASE_TIME = 1.0


@pytest.fixture
def told(tmp_path):
    """The file that acknowledged appends are written to."""
    path = tmp_path / "told"
    path.touch()
    return str(path)


async def test_kills_at_random_moments(victim, lives, forge, dsn, told, soak):
    """Each life goes on where the one before was killed; the last one is let live."""
    dice = random.Random(7)
    await victim.prepare(dsn)
    begun = time.monotonic()
    kills = 0
    # On a slow machine many are killed before they have done anything.
    while kills < soak(30, 500) or len(lives.read_told(told)) <= 2 * soak(30, 500):
        life, kills = kills, kills + 1
        assert life < 10 * soak(30, 500)
        await forge.start(dsn=dsn, life=f"life {life}", told=told)
        if dice.random() < 0.8:  # else it may be killed before it has begun
            await forge.running()
        await trio.sleep(dice.uniform(0, 0.5))
        forge.kill(signal.SIGKILL)
        assert await forge.ended() == -signal.SIGKILL
    seconds, came_to = time.monotonic() - begun, await victim.progress(dsn)
    await forge.start(dsn=dsn, life="the last", told=told, count=10)
    assert await forge.ended() == 0
    verdict = await victim.judge(dsn, lives.read_told(told))
    LOG.info("%s kills in %.0f s, shards came to %s: %s", kills, seconds, came_to, verdict)
    verdict.check()
    assert verdict.stored > 2 * soak(30, 500)


# -- at every step -------------------------------------------------------------------------------

STEPS = {
    "taking the lease": "take_shard",
    "renewing the lease": "renew_shards",
    "claiming the shard": "claim_shard",
    "looking for the mark, and reading the page": "select e.sequence, e.id",
    "appending": "append(",
    "beginning": "begin",
    "moving the progress": "advance",
    "the handler's statement": "insert into faults.seen",
    "writing documents": '"doc_total" as d',
    "setting aside": "dead_letters as d",
    "committing": "commit",
}
"""The steps that a CI run dies at, with a part of their statement; a soak dies at every statement."""
TRIES = 20


@attrs.frozen
class Death:
    """A place to die at.

    Attributes:
        label: a message that a process sends.
        is_sent: once the server has answered, and nobody hears that; else before it hears of it.
        occurrence: which message of that label, the first being 1.
    """

    label: str
    is_sent: bool
    occurrence: int = 1


@attrs.define
class Executioner:
    """Watches what a process sends, and kills it at a place."""

    forge: object
    death: Death | None
    earlier: frozenset
    seen: Counter = attrs.field(factory=Counter)
    has_struck: bool = False

    async def on_message(self, link, message):
        if link in self.earlier or self.has_struck:
            return
        self.seen[message.label] += 1
        death = self.death
        if death is None or (message.label, self.seen[message.label]) != (
            death.label,
            death.occurrence,
        ):
            return
        if not death.is_sent:
            self.strike()
            link.reset()
            await trio.sleep_forever()  # what it was about to send never leaves
        else:
            link.deaf = True

    def on_unheard(self, link):
        if link not in self.earlier:
            self.strike()

    def strike(self):
        if not self.has_struck:
            self.has_struck = True
            self.forge.kill(signal.SIGKILL)


def deaths(seen, occurrences):
    """List the places to die at, of what an unharmed life has sent."""
    for label, count in seen.items():
        kind = label.partition(":")[0]
        if kind == "terminate":  # the process has nothing to do any more, and may be gone
            continue
        for occurrence in range(1, min(count, occurrences) + 1):
            yield Death(label, is_sent=False, occurrence=occurrence)
            if kind in {"sync", "query"}:  # only those are answered
                yield Death(label, is_sent=True, occurrence=occurrence)


async def what_is_sent(live_until):
    """Live unharmed until each step was made: how long one lives, and what it does, is luck."""
    seen = Counter()
    for number in range(TRIES):
        seen |= (await live_until(None, f"unharmed {number}")).seen
        if all(any(part in label for label in seen) for part in STEPS.values()):
            break
    return seen


async def strikes(live_until, place, number):
    """Tell whether somebody has died at a place, of as many as it may take to come there."""
    for attempt in range(TRIES):
        if (await live_until(place, f"life {number} {attempt}")).has_struck:
            return True
    return False


async def test_death_before_and_after_each_step(
    victim, lives, networks, forge, dsn, told, soak, nursery
):
    info = conninfo_to_dict(dsn)
    await victim.prepare(dsn)
    network = networks.Network.to(info)
    await nursery.start(network.serve)
    order = {"dsn": network.dsn(info), "told": told, "count": 2, "mode": "hot_cold", "poison": 0.3}

    async def live_until(death, name):
        executioner = Executioner(forge, death, frozenset(network.links))
        network.on_message, network.on_unheard = executioner.on_message, executioner.on_unheard
        await forge.start(life=name, **order)
        status = await forge.ended()
        assert status == (-signal.SIGKILL if executioner.has_struck else 0), executioner
        return executioner

    places = list(deaths(await what_is_sent(live_until), soak(1, 2)))
    wanted = [
        place for place in places if any(part in place.label for part in soak(STEPS.values(), [""]))
    ]
    for name, part in STEPS.items():
        assert any(part in place.label for place in wanted), name
    struck = [
        place for number, place in enumerate(wanted) if await strikes(live_until, place, number)
    ]
    assert len(struck) > 0.9 * len(wanted)
    for number in range(soak(3, 20)):
        died = Death("after_commit", is_sent=True, occurrence=1 + number % 3)
        await forge.start(life=f"callback {number}", dies_after_commit=died.occurrence, **order)
        if await forge.ended() == -signal.SIGKILL:
            struck.append(died)
    for name, part in {**STEPS, "after a commit": "after_commit"}.items():
        assert any(part in place.label for place in struck), name
    await live_until(None, "the last")
    verdict = await victim.judge(dsn, lives.read_told(told))
    LOG.info("died %s times: %s", len(struck), verdict)
    verdict.check()
    nursery.cancel_scope.cancel()


# -- frozen --------------------------------------------------------------------------------------


async def until_moved(victim, dsn, places, seconds):
    """Wait until every shard is beyond its place; tells how long that took."""
    begun, patience = trio.current_time(), victim.Patience(seconds)
    while patience.is_left():
        now = await victim.progress(dsn)
        if all(now.get(shard, 0) > place for shard, place in places.items()):
            return trio.current_time() - begun
        await trio.sleep(0.05)
    raise AssertionError((places, now, await victim.sessions(dsn)))


async def test_owners_frozen_at_random_moments(victim, lives, dsn, told, soak):
    """Two processes append, and one of them runs the shards; either is frozen, and comes back."""
    dice = random.Random(3)
    await victim.prepare(dsn)
    longest = 0.0
    rounds = soak(3, 40)
    async with lives.forging() as one, lives.forging() as other:
        for name, each in (("one", one), ("other", other)):
            await each.start(dsn=dsn, life=name, told=told, mode="hot_cold", lease_time=LEASE_TIME)
        await until_moved(victim, dsn, dict.fromkeys(victim.SHARD_NAMES, 0), 20)
        for _ in range(rounds):
            frozen = dice.choice([one, other])
            await trio.sleep(dice.uniform(0.1, 0.6))
            frozen.kill(signal.SIGSTOP)
            await trio.sleep(0.2)  # what it had sent is carried out
            took = await until_moved(
                victim, dsn, await victim.progress(dsn), LEASE_TIME + victim.SOON
            )
            longest = max(longest, took)
            frozen.kill(signal.SIGCONT)
        for each in (one, other):
            each.kill(signal.SIGKILL)
            assert await each.ended() == -signal.SIGKILL
        await one.start(dsn=dsn, life="the last", told=told, count=2)
        assert await one.ended() == 0
    verdict = await victim.judge(dsn, lives.read_told(told))
    LOG.info("%s times frozen, longest standstill %.1f s: %s", rounds, longest, verdict)
    verdict.check()
