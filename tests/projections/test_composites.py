"""A composite's stages see the same events and each other's writes, and commit together."""

import itertools
from typing import Any
from uuid import UUID, uuid4

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flowstore.errors import RegistrationError
from flowstore.events import Compacted, EventStream
from flowstore.projections import (
    AsyncOptions,
    Composite,
    FlatTable,
    IProjection,
    Lifecycle,
    Projections,
    across_streams_projection,
    aggregate_projection,
    transform_projection,
)


@attrs.frozen
class Started:
    driver: str


@attrs.frozen
class Driven:
    miles: int


@attrs.frozen
class Unrelated:
    pass


@attrs.define
class Trip:
    id: UUID
    driver: str = ""
    miles: int = 0

    def apply_started(self, started: Started) -> None:
        self.driver = started.driver

    def apply_driven(self, driven: Driven) -> None:
        self.miles += driven.miles


@attrs.define
class Driver:
    id: str
    miles: int = 0

    def apply_driven(self, driven: Driven) -> None:
        self.miles += driven.miles


@attrs.frozen
class Start:
    id: UUID
    driver: str


async def by_driver(session, event):
    """The event doesn't name the driver: the trip of the first stage does."""
    trip = await session.load(Trip, event.stream_id)
    return trip.driver


def drivers():
    return across_streams_projection(Driver, group_by={Driven: by_driver})


def trips(**more):
    return Composite("trips", **more).stage(aggregate_projection(Trip)).stage(drivers())


def registered(composite, **more):
    projections = Projections()
    projections.add(composite, **more)
    return projections


async def append(store, *happened):
    async with store.session() as session:
        for stream_id, event in happened:
            session.events.append(stream_id, event)
        await session.save_changes()


async def miles_of(store):
    return {driver.id: driver.miles for driver in await store.session().find(Driver)}


@attrs.define
class Recorder:
    name: str
    consumes: Any = ()
    produces: Any = None
    async_options: Any = attrs.field(factory=AsyncOptions)
    seen: list = attrs.field(factory=list)
    torn: list = attrs.field(factory=list)

    def apply(self, session, streams):
        self.seen.append([(s.id, [event.sequence for event in s.events]) for s in streams])

    async def teardown(self, session):
        self.torn.append(self.name)


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    happened=st.lists(st.tuples(st.integers(0, 3), st.integers(1, 9)), max_size=15),
    sizes=st.lists(st.integers(1, 6), min_size=1, max_size=4),
)
async def test_a_later_stage_sees_what_an_earlier_one_queued_whatever_the_page_sizes(
    opening, followed, happened, sizes
):
    composite, ids, names = trips(), [uuid4() for _ in range(4)], "abab"
    async with opening(registered(composite)) as store:
        await store.teardown(composite)  # of the example before, in the same schema
        floor = await store.high_water()
        await store.commit_batch(store.projection_session(), shard="trips", floor=0, ceiling=floor)
        started = [(ids[which], Started(names[which])) for which in range(4)]
        driven = [(ids[which], Driven(miles)) for which, miles in happened]
        await append(store, *started, *driven)
        await followed(store, composite, sizes)
        expected: dict[str, int] = {}
        for which, miles in happened:
            expected[names[which]] = expected.get(names[which], 0) + miles
        assert await miles_of(store) == expected


async def test_an_inline_composite_commits_with_the_events(opening):
    async with opening(registered(trips(), lifecycle=Lifecycle.INLINE)) as store:
        await append(store, (key := uuid4(), Started("ada")), (key, Driven(3)))
        assert await miles_of(store) == {"ada": 3}


async def test_a_failing_member_keeps_all_effects_back(opening, followed):
    class Failing(Recorder):
        def apply(self, session, streams):
            raise ZeroDivisionError

    composite = Composite("all").stage(Trip).stage(Failing("failing"))
    async with opening(registered(composite)) as store:
        await append(store, (uuid4(), Started("ada")))
        with pytest.raises(ZeroDivisionError):
            await followed(store, composite)
        assert await store.session().find(Trip) == []
        assert await store.progress(composite) == 0


async def test_teardown_takes_all_members_back_to_nothing(opening, followed):
    table = FlatTable("starts", key="id", key_type=UUID, columns={"n": int})
    recorder = Recorder("recorder", consumes=(Started,))
    composite = trips().stage(table.on(Started, increment="n"), recorder)
    async with opening(registered(composite)) as store:
        await append(store, (uuid4(), Started("ada")))
        for _ in range(2):
            await followed(store, composite)
            assert len(await store.session().find(Trip)) == 1
            async with store.connection() as connection:
                query = f'select n from "{store.options.schema}".starts'
                assert await (await connection.execute(query)).fetchall() == [(1,)]
            await store.teardown(composite)
            assert await store.session().find(Trip) == []
            assert await store.progress("trips") == 0
    assert recorder.torn == ["recorder", "recorder"]


async def test_each_member_gets_the_events_that_it_consumes(stream_of, memory_session):
    some, every = Recorder("some", consumes=(Driven,)), Recorder("every")
    idle = Recorder("idle", consumes=(Unrelated,))
    composite = Composite("c").stage(some, every, idle)
    streams = [
        stream_of("a", Started("x")),
        EventStream("b", stream_of("b", Started("x"), Started("x"), Driven(1), first=3).events),
        stream_of("c", Driven(2), first=4),
    ]
    await composite.apply(memory_session(), streams)
    assert some.seen == [[("c", [4]), ("b", [5])]]
    assert every.seen == [[("a", [1]), ("b", [3, 4, 5]), ("c", [4])]]
    assert idle.seen == []


def test_it_consumes_what_any_member_does():
    composite = trips()
    assert isinstance(composite, IProjection)
    assert set(composite.consumes) == {Started, Driven, Compacted}
    assert trips().stage(Recorder("every")).consumes == ()
    every = registered(trips().stage(Recorder("every")))
    assert set(every.event_types()) == {Started, Driven, Compacted}


def test_it_is_found_by_its_members_too():
    composite = trips()
    projections = registered(composite)
    for asked in ("trips", "Trip", Trip, Driver, composite, composite.members[0], Composite):
        assert projections.find(asked).projection is composite
    assert projections.producing(Driver) is projections.find("trips")
    assert projections.produced() == {Trip: 1, Driver: 1}


async def test_documents_follow_their_members_versions(opening, followed):
    composite = Composite("c").stage(aggregate_projection(Trip, version=3))
    async with opening(registered(composite)) as store:
        await append(store, (key := uuid4(), Started("ada")))
        await followed(store, composite)
        async with store.connection() as connection:
            schema = store.options.schema
            cursor = await connection.execute(f'select id from "{schema}".doc_trip_v3')
            assert await cursor.fetchall() == [(key,)]


@attrs.define
class Shadow(Recorder):
    produces: Any = Trip


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Projections().add(Composite("c")), ["'c' has no stages"]),
        (lambda: Composite("c").stage(), ["'c', stage 1 is empty"]),
        (lambda: Composite(""), ["''", "name"]),
        (lambda: Composite("c", version=0), ["0", "version"]),
        (lambda: trips().stage(Unrelated), ["Unrelated"]),
        (lambda: trips().stage(Recorder), ["Recorder"]),
        (lambda: trips().stage(5), ["int is no projection"]),
        (lambda: trips().stage(Trip), ["'trips', stage 3", "'Trip'", "there already"]),
        (lambda: trips().stage(Shadow("s")), ["'s'", "Trip as 'Trip' does"]),
        (
            lambda: Composite("c").stage(trips()),
            ["'c', stage 1", "'trips', which is of kind Composite"],
        ),
        (
            lambda: Composite("c").stage(Projections().subscribe("s", lambda _s, _e: None)),
            ["'s', which is of kind Subscription"],
        ),
        (
            lambda: Composite("c").stage(
                FlatTable("t", key="id", key_type=UUID, columns={"n": int})
            ),
            ["'t' has no rules"],
        ),
        (lambda: registered(trips()).aggregate_streams_with(Trip), ["'Trip'", "already"]),
        (lambda: registered(trips()).add(Shadow("s")), ["Trip is produced by 'trips' already"]),
        (lambda: registered(trips(), lifecycle=Lifecycle.LIVE), ["'trips' can't be live"]),
    ],
    ids=itertools.count(),
)
def test_a_composite_that_cannot_work_is_refused(make, words):
    with pytest.raises(RegistrationError) as caught:
        make()
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_a_stage_may_hold_transforms():
    def begun(started: Started) -> Start: ...

    composite = Composite("c").stage(transform_projection(begun))
    assert registered(composite).find(begun).projection is composite
