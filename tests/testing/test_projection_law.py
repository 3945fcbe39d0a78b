"""Projections that keep their promises pass in every way they can run, and others are found."""

import re
import threading
from typing import ClassVar
from uuid import UUID, uuid4

import attrs
import pytest
import trio
from hypothesis import Phase, settings

from flowstore.errors import RegistrationError
from flowstore.projections import (
    AsyncOptions,
    Composite,
    FlatTable,
    Lifecycle,
    across_streams_projection,
    aggregate_rule,
    event_process,
    transform_projection,
)
from flowstore.store import StoreOptions
from flowstore.store.memory import MemoryEventStore
from flowstore.testing import RecordingProjection, check_projection, commit_schedules

FEW = settings(max_examples=5, deadline=None, database=None)
STREAM = "00000000-0000-0000-0000-000000000001"


@attrs.frozen
class Ordered:
    price: int


@attrs.frozen
class Cancelled:
    pass


@attrs.define
class Basket:
    id: UUID
    total: int = 0
    version: int = 0

    def apply_ordered(self, ordered: Ordered) -> None:
        self.total += ordered.price

    def should_delete(self, _: Cancelled) -> bool:
        return True


@attrs.define
class Bill:
    id: UUID
    total: int = 0


def bill_of(ordered: Ordered) -> Bill | None:
    return Bill(UUID(int=abs(ordered.price) % 3), ordered.price)


class Bills:
    name = "bills"
    consumes: ClassVar = (Ordered,)
    produces = Bill
    async_options = AsyncOptions()

    async def apply(self, session, streams):
        for stream in streams:
            bill = await session.load(Bill, stream.id) or Bill(stream.id)
            await trio.sleep(1)
            session.store(self.added(bill, [event.data.price for event in stream.events]))

    def added(self, bill, prices):
        return attrs.evolve(bill, total=bill.total + sum(prices))


@attrs.define
class Boxed:
    prices: list[int]


class Sorting(Bills):
    """Changes an event that others read too; its own documents are right."""

    consumes: ClassVar = (Boxed,)

    def added(self, bill, boxes):
        return attrs.evolve(bill, total=bill.total + sum(price % 9 for price in boxes))

    async def apply(self, session, streams):
        for stream in streams:
            bill = await session.load(Bill, stream.id) or Bill(stream.id)
            for event in stream.events:
                event.data.prices.sort()
                bill = self.added(bill, event.data.prices)
            session.store(bill)


class SortingCopies(Sorting):
    async def apply(self, session, streams):
        for stream in streams:
            bill = await session.load(Bill, stream.id) or Bill(stream.id)
            for event in stream.events:
                bill = self.added(bill, sorted(event.data.prices))
            session.store(bill)


def make_bills():
    return Bills()


def prices_table():
    return FlatTable("prices", key="id", key_type=UUID, columns={"total": int, "orders": int}).on(
        Ordered, increment={"total": lambda ordered: ordered.price % 100, "orders": 1}
    )


async def every_second(events):
    orders = 0
    async for event in events:
        orders += 1
        if orders % 2 == 0:
            yield Bill(event.id, event.data.price)


SOUND = {
    "an aggregate": Basket,
    "its rule": aggregate_rule(Basket),
    "a projection": Bills(),
    "its class": Bills,
    "a function that makes one": make_bills,
    "a transform": bill_of,
    "its projection": transform_projection(bill_of),
    "across streams": across_streams_projection(
        Basket,
        group_by={
            Ordered: lambda event: UUID(int=event.version % 2),
            Cancelled: lambda _: UUID(int=0),
        },
    ),
    "a flat table": prices_table(),
    "a composite": Composite("both").stage(Basket).stage(prices_table()),
    "one that copies what it changes": SortingCopies,
    "a process": event_process("pairs", every_second, produces=Bill, consumes=[Ordered]),
}


@pytest.mark.parametrize("kind", SOUND)
def test_a_sound_projection_passes(kind):
    check_projection(SOUND[kind], settings=FEW)


async def test_an_async_test_may_ask_too():
    check_projection(Bills, settings=FEW)
    await trio.lowlevel.checkpoint()


# The planted bugs


@attrs.define(slots=False)
class Dearest:
    """Remembers outside of its fields, where no store keeps it."""

    id: UUID
    price: int = 0

    def apply(self, ordered: Ordered) -> None:
        self._highest = max(getattr(self, "_highest", 0), ordered.price)
        self.price = self._highest


class Cached(Bills):
    """Takes what it has in memory for what is committed."""

    def __init__(self):
        self.bills = {}

    def apply(self, session, streams):
        for stream in streams:
            bill = self.bills.setdefault(stream.id, Bill(stream.id))
            bill.total += sum(event.data.price for event in stream.events)
            session.store(bill)


class Forgetful(Bills):
    """Begins anew with every page."""

    def added(self, bill, prices):
        return Bill(bill.id, sum(prices))


class ByStream(Bills):
    """Goes by streams where the order of all events matters."""

    def apply(self, session, streams):
        for stream in streams:
            for event in stream.events:
                session.store(Bill(UUID(int=1), str(event.stream_id)))


class Backwards(Bills):
    def added(self, bill, prices):
        return attrs.evolve(bill, total=prices[0])


class Unstable(Bills):
    """Names its documents otherwise each time."""

    def apply(self, session, streams):
        session.store(*(Bill(uuid4()) for _ in streams))


class Ownerless(Bills):
    """Doesn't say what it produces, so that a rebuild leaves it there."""

    produces = None


class Greedy(Bills):
    """Can't have more than one at a time, which a daemon would then try."""

    def added(self, bill, prices):
        [price] = prices
        return attrs.evolve(bill, total=bill.total + price)


class Once(Bills):
    """Takes an event that comes again, after a failure, for a fault."""

    def __init__(self):
        self.seen = set()

    async def apply(self, session, streams):
        for event in (event for stream in streams for event in stream.events):
            if event.sequence in self.seen:
                raise ValueError("seen already")
            self.seen.add(event.sequence)
        await super().apply(session, streams)

    async def teardown(self, _session):
        self.seen.clear()


class Stubborn(Once):
    async_options = AsyncOptions(on_error="stop")


class Gapless(Bills):
    """Takes versions to have no holes, though it doesn't consume every event."""

    async def apply(self, session, streams):
        for stream in streams:
            bill = await session.load(Bill, stream.id) or Bill(stream.id)
            for event in stream.events:
                if event.version != bill.total + 1:
                    raise ValueError(f"version {bill.total + 1} is missing")
                bill.total = event.version
            session.store(bill)


class Committing(Bills):
    """Commits before the progress is."""

    async def apply(self, session, streams):
        await super().apply(session, streams)
        await session.save_changes()


BUGS = [
    (Dearest, [Lifecycle.LIVE], r"price is \S+ one at a time, \S+ live"),
    (Dearest, [Lifecycle.ASYNC], r"price is \S+ one at a time, \S+ in"),
    (Cached(), None, r"total is \S+ one at a time, \S+ in"),
    (Cached, [Lifecycle.INLINE], r"total is \S+ one at a time, \S+ inline"),
    (Forgetful, [Lifecycle.ASYNC], r"total is \S+ one at a time, \S+ in"),
    (ByStream, [Lifecycle.ASYNC], r"total is \S+ one at a time, \S+ in"),
    (Backwards, [Lifecycle.ASYNC], r"total is \S+ one at a time, \S+ in"),
    (Unstable, None, r"Bill '\S+' exists"),
    (Ownerless, None, "exists in a rebuild only"),
    (Greedy, [Lifecycle.INLINE], "inline it fails an append .*: ValueError: too many"),
    (Once, [Lifecycle.ASYNC], r"ValueError: seen already"),
    (Stubborn, None, "ValueError: seen already"),
    (Committing, None, "can't apply an event: FlowstoreError: a projection can't commit"),
    (Sorting, [Lifecycle.ASYNC], r"changes an event's data.*\n.*Boxed.*\n  was stored as"),
    (Gapless, None, "can't apply an event: ValueError: version . is missing"),
]
FINDING = settings(max_examples=300, phases=[Phase.generate], deadline=None, database=None)


@pytest.mark.parametrize(
    ("bug", "ways", "story"), BUGS, ids=lambda value: getattr(value, "__name__", "")
)
def test_a_planted_bug_is_found(bug, ways, story):
    with pytest.raises(AssertionError, match=story):
        check_projection(bug, lifecycles=ways, settings=FINDING)


def test_the_story_is_the_shortest_there_is():
    with pytest.raises(AssertionError) as caught:
        check_projection(Forgetful, lifecycles=[Lifecycle.ASYNC])
    lines = str(caught.value).splitlines()
    assert re.fullmatch(r"projection 'bills': up to sequence \d the documents differ", lines[0])
    assert re.fullmatch(
        rf"  Bill '{STREAM}': total is -?1 one at a time, 0 in (the daemon|a rebuild)"
        rf"|  Bill '{STREAM}': total is 0 one at a time, -?1 in (the daemon|a rebuild)",
        lines[1],
    )
    assert len([line for line in lines if "Ordered(price=" in line]) == 2
    assert len(lines) <= 7


# Stores that break their promises


def test_a_mark_that_passes_open_appends_is_found(monkeypatch):
    """Progress goes beyond an event that is committed later, which is never applied."""

    async def visible(store, **_):
        return await store.highest_sequence()

    monkeypatch.setattr(MemoryEventStore, "high_water", visible)
    with pytest.raises(AssertionError, match=r"exists one at a time only|one at a time, .* in the"):
        check_projection(Bills, lifecycles=[Lifecycle.ASYNC], settings=FINDING)


def test_effects_that_are_committed_before_the_progress_are_found(monkeypatch):
    """They happen again when the process dies in between."""
    commit = MemoryEventStore.commit_batch

    async def in_two(store, session, *, floor, ceiling, **rest):
        await commit(store, session, floor=floor, ceiling=floor, **rest)
        empty = store.projection_session()
        await commit(store, empty, floor=floor, ceiling=ceiling, **rest)

    monkeypatch.setattr(MemoryEventStore, "commit_batch", in_two)
    with pytest.raises(AssertionError, match=r"in the daemon|in a rebuild"):
        check_projection(Bills, lifecycles=[Lifecycle.ASYNC], settings=FINDING)


# What may be asked


@attrs.frozen
class Opened:
    owner: str


@attrs.define
class Account:
    id: UUID
    owner: str
    total: int = 0

    @classmethod
    def create(cls, opened: Opened) -> "Account":
        return cls(UUID(int=0), opened.owner)

    def apply(self, ordered: Ordered) -> None:
        self.total += ordered.price


def test_an_event_that_never_comes_there_is_told_and_can_be_avoided():
    with pytest.raises(AssertionError, match=r"where an application never appends that.*first="):
        check_projection(Account, settings=FINDING)
    check_projection(Account, Ordered, first=Opened, settings=FEW)


def test_schedules_may_be_ones_own():
    check_projection(Basket, schedules=commit_schedules(Ordered, min_steps=6), settings=FEW)


def test_options_say_how_streams_are_known_and_whose_they_are():
    @attrs.define
    class Note:
        id: str
        orders: int = 0

        def apply(self, _: Ordered) -> None:
            self.orders += 1

    def options():
        return StoreOptions(stream_identity="string", tenancy="conjoined")

    check_projection(Note, options=options, settings=FEW)


def test_documents_of_tenants_are_told_apart():
    class Mixed(Bills):
        """Remembers what it has seen of any tenant."""

        def __init__(self):
            self.totals = {}

        def apply(self, session, streams):
            for stream in streams:
                total = self.totals.get(stream.id, 0) + len(stream.events)
                self.totals[stream.id] = total
                session.store(Bill(stream.id, total))

    with pytest.raises(AssertionError, match=r"of tenant '[ab]': total is"):
        check_projection(
            Mixed,
            options=lambda: StoreOptions(tenancy="conjoined"),
            lifecycles=[Lifecycle.ASYNC],
            settings=FINDING,
        )


@pytest.mark.parametrize(
    ("subject", "more", "error", "story"),
    [
        (RecordingProjection(), {}, ValueError, "name those to draw"),
        (RecordingProjection(consumes=(Ordered,)), {}, ValueError, "wrote nothing in any run"),
        (
            RecordingProjection(consumes=(Ordered,), async_options=AsyncOptions(start_from="now")),
            {},
            ValueError,
            "starts from 'now'",
        ),
        (SOUND["a process"], {"lifecycles": [Lifecycle.INLINE]}, ValueError, "can't be inline"),
        (Bill, {}, RegistrationError, "Bill"),
        (3, {}, TypeError, "no projection"),
    ],
)
def test_what_can_not_be_checked_is_refused(subject, more, error, story):
    with pytest.raises(error, match=story):
        check_projection(subject, settings=FEW, **more)


def test_what_can_not_be_copied_is_to_be_made():
    class Connected(Bills):
        def __init__(self):
            self.lock = threading.Lock()

    with pytest.raises(TypeError, match=r"can't be copied for each process.*give its class"):
        check_projection(Connected(), settings=FEW)
    check_projection(Connected, settings=FEW)
