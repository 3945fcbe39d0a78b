"""The laws of documents hold for what is the same, and tell in a line of what isn't."""

from uuid import UUID

import attrs
import pytest

from flowstore.projections import Lifecycle
from flowstore.store import StoreOptions
from flowstore.testing import (
    BrokenLawError,
    MemoryStore,
    check_effects,
    check_rebuild_equals_replay,
    check_ways_agree,
)
from flowstore.testing._placing import place

ONE, TWO = UUID(int=1), UUID(int=2)


@attrs.frozen
class Paid:
    amount: int


@attrs.define
class Spent:
    id: UUID
    total: int = 0
    times: int = 0


EVENTS = place([(ONE, Paid(1), 1), (TWO, Paid(2), 1), (ONE, Paid(3), 1)])


def test_the_same_documents_pass_in_any_order_and_as_values():
    spent = [Spent(ONE, 4, 2), Spent(TWO, 2, 1)]
    values = {(None, Spent, each.id): {**attrs.asdict(each), "id": str(each.id)} for each in spent}
    check_effects(spent, values, progress=3)
    check_rebuild_equals_replay(reversed(spent), spent)
    check_ways_agree({"live": spent, "inline": values, "async": iter(spent)})


def test_effects_are_told_by_their_document_and_the_events_it_comes_of():
    found, expected = [Spent(ONE, 1, 1), Spent(TWO, 4, 1)], [Spent(ONE, 1, 1), Spent(TWO, 2, 1)]
    with pytest.raises(BrokenLawError) as caught:
        check_effects(found, expected, progress=2, way="in the daemon", events=EVENTS)
    assert caught.value.law == "agreement"
    assert caught.value.key == (None, Spent, TWO)
    assert str(caught.value) == (
        "up to sequence 2 the documents differ\n"
        f"  Spent '{TWO}': total is 2 one at a time, 4 in the daemon\n"
        f"  sequence 2, version 1 of stream '{TWO}': Paid(amount=2)"
    )


def test_events_beyond_the_progress_are_not_told():
    with pytest.raises(BrokenLawError) as caught:
        check_effects([Spent(ONE, 4)], [Spent(ONE, 1)], progress=2, events=EVENTS)
    assert "Paid(amount=1)" in str(caught.value)
    assert "Paid(amount=3)" not in str(caught.value)


def test_a_rebuild_that_leaves_a_document_is_told():
    with pytest.raises(BrokenLawError) as caught:
        check_rebuild_equals_replay([Spent(ONE, 4), Spent(TWO, 2)], [Spent(ONE, 4)])
    assert str(caught.value) == (
        "a rebuild gives other documents than a replay\n"
        f"  Spent '{TWO}' exists rebuilt only: {{'id': '{TWO}', 'total': 2, 'times': 0}}"
    )


def test_the_first_way_that_differs_is_told_with_every_field():
    one, other = [Spent(ONE, 4, 2)], [Spent(ONE, 3, 1)]
    with pytest.raises(BrokenLawError) as caught:
        check_ways_agree({"live": one, "inline": one, "async": other})
    assert str(caught.value) == (
        "live and async give other documents\n"
        f"  Spent '{ONE}': total is 4 live, 3 async, times is 2 live, 1 async"
    )


def test_values_may_be_known_by_anything():
    check_ways_agree({"live": {"pen": 1}, "inline": {"pen": 1.0}})
    with pytest.raises(BrokenLawError, match="'pen': it is 1 live, True inline"):
        check_ways_agree({"live": {"pen": 1}, "inline": {"pen": True}})
    with pytest.raises(BrokenLawError, match="'ink' exists inline only: 2"):
        check_ways_agree({"live": {}, "inline": {"ink": 2}})


@pytest.mark.parametrize("ways", [{}, {"live": []}])
def test_one_way_agrees_with_nothing(ways):
    with pytest.raises(ValueError, match="nothing to compare"):
        check_ways_agree(ways)


# Over the store itself


@attrs.define
class Balance:
    id: UUID
    total: int = 0

    def apply(self, paid: Paid) -> None:
        self.total += paid.amount


@attrs.define
class Hasty(Balance):
    """Counts a page's events by how many there are of it: another way, another truth."""

    def apply(self, paid: Paid) -> None:
        PAGES.append(paid)
        self.total += paid.amount * len(PAGES)


PAGES = []


async def documents_in_every_way(aggregate):
    """Append in two sessions; give what each lifecycle makes of it, and what a rebuild does."""
    ways = {}
    for lifecycle in Lifecycle:
        PAGES.clear()
        options = StoreOptions()
        options.projections.aggregate_streams_with(aggregate, lifecycle=lifecycle)
        store = MemoryStore(options)
        for amount in (1, 2):
            async with store.session() as session:
                session.events.append(ONE, Paid(amount))
                await session.save_changes()
        if lifecycle is Lifecycle.LIVE:
            async with store.session() as session:
                PAGES.clear()
                ways["live"] = [await session.events.aggregate_stream(aggregate, ONE)]
            continue
        async with store.build_projection_daemon() as daemon, store.session() as session:
            await daemon.catch_up()
            ways[lifecycle.value] = [await session.load(aggregate, ONE)]
            if lifecycle is Lifecycle.ASYNC:
                await daemon.rebuild(aggregate)
                async with store.session() as fresh:
                    ways["rebuilt"] = [await fresh.load(aggregate, ONE)]
    return ways


async def test_a_sound_aggregate_comes_to_the_same_in_every_way():
    ways = await documents_in_every_way(Balance)
    rebuilt = ways.pop("rebuilt")
    check_rebuild_equals_replay(rebuilt, ways["async"])
    check_ways_agree(ways)


async def test_an_aggregate_that_counts_beside_its_fields_does_not():
    ways = await documents_in_every_way(Hasty)
    with pytest.raises(BrokenLawError, match="total is 5 replayed, 11 rebuilt"):
        check_rebuild_equals_replay(ways.pop("rebuilt"), ways["async"])
