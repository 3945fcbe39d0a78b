"""A subscription is handed every event in sequence order, and what fails holds it."""

import traceback
from uuid import uuid4

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowstore.blocks import run
from flowstore.daemon import event_source, group_by_stream, projection_sink
from flowstore.errors import FlowstoreError, RegistrationError
from flowstore.events import group_by_stream_id
from flowstore.projections import AsyncOptions, IProjection, Projections, apply_projection


@attrs.frozen
class Said:
    word: str


@attrs.frozen
class Left:
    pass


@attrs.define
class Word:
    id: str


def subscribed(receive, **more):
    return Projections().subscribe("heard", receive, **more)


@given(which=st.lists(st.integers(0, 2), min_size=1, max_size=12))
async def test_events_of_all_streams_come_in_sequence_order(stream_of, memory_session, which):
    heard = []

    async def receive(_session, events):
        heard.extend(event.sequence for event in events)

    events = [
        attrs.evolve(stream_of(str(stream), Said("x")).events[0], sequence=sequence)
        for sequence, stream in enumerate(which, 1)
    ]
    await apply_projection(subscribed(receive), memory_session(), group_by_stream_id(events))
    assert heard == list(range(1, len(which) + 1))


async def test_a_plain_function_will_do(stream_of, memory_session):
    heard = []
    subscription = subscribed(lambda _, events: heard.extend(event.data for event in events))
    await apply_projection(subscription, memory_session(), [stream_of("s", Said("x"))])
    assert heard == [Said("x")]


@pytest.mark.parametrize(
    "options",
    [None, AsyncOptions(page_size=7), AsyncOptions(on_rebuild_error="dead_letter", page_size=7)],
)
def test_no_event_of_it_is_ever_set_aside(options):
    kept = subscribed(lambda _session, _events: None, async_options=options).async_options
    assert (kept.on_error, kept.on_rebuild_error) == ("stop", "stop")
    assert kept.page_size == (AsyncOptions() if options is None else options).page_size


async def test_what_it_queues_is_committed_with_its_progress(opening, followed):
    async def receive(session, events):
        for event in events:
            session.store(Word(event.data.word))
            if event.data.word == "stop":
                raise ZeroDivisionError

    projections = Projections()
    subscription = projections.subscribe("heard", receive, consumes=[Said])
    async with opening(projections) as store:
        async with store.session() as session:
            for event in (Said("a"), Left(), Said("b"), Said("stop"), Said("c")):
                session.events.append(uuid4(), event)
            await session.save_changes()
        with pytest.raises(ZeroDivisionError):
            await followed(store, subscription, [1])
        assert await store.progress("heard") == 3
        assert [word.id for word in await store.session().find(Word)] == ["a", "b"]


async def test_an_exception_holds_the_shard_before_the_event(opening):
    heard = []

    def receive(_session, events):
        for event in events:
            if event.data.word == "stop":
                raise ZeroDivisionError
        heard.extend(event.data.word for event in events)

    projections = Projections()
    subscription = projections.subscribe("heard", receive, async_options=AsyncOptions())
    async with opening(projections) as store:
        async with store.session() as session:
            for word in ("a", "b", "stop", "c"):
                session.events.append(uuid4(), Said(word))
            await session.save_changes()
        # Whatever was raised comes out in the form that the blocks give it.
        with pytest.raises((FlowstoreError, ExceptionGroup)) as caught:
            await run(
                event_source(store, follow=False),
                group_by_stream(),
                projection_sink(store, subscription),
            )
        assert "sequence 3" in "".join(traceback.format_exception(caught.value))
        assert await store.progress("heard") == 2
        assert heard == ["a", "b"]
        assert await store.dead_letters() == []


def test_it_is_an_iprojection_found_by_its_function():
    def receive(_session, _events): ...

    projections = Projections()
    subscription = projections.subscribe("heard", receive, version=2, consumes=(Said,))
    assert isinstance(subscription, IProjection)
    assert (subscription.consumes, subscription.produces) == ((Said,), None)
    assert projections.find(receive).shard == "heard:v2"
    assert subscribed(receive).consumes == ()


async def one(session): ...


@pytest.mark.parametrize(
    ("name", "receive", "more", "words"),
    [
        ("heard", None, {}, ["'heard'", "is None"]),
        ("heard", Word, {}, ["'heard'", "Word"]),
        ("heard", one, {}, ["'heard'", "(session, events)"]),
        ("", lambda _session, _events: None, {}, ["''", "name"]),
        ("heard", lambda _session, _events: None, {"consumes": "Said"}, ["'Said'"]),
        ("heard", lambda _session, _events: None, {"consumes": ["Said"]}, ["'Said'"]),
        ("heard", lambda _session, _events: None, {"consumes": Said}, ["consumes", "Said"]),
        ("heard", lambda _session, _events: None, {"version": 0}, ["0"]),
        ("taken", lambda _session, _events: None, {}, ["'taken'", "already"]),
    ],
)
def test_a_subscription_that_cannot_work_is_refused(name, receive, more, words):
    projections = Projections()
    projections.subscribe("taken", lambda _session, _events: None)
    with pytest.raises(RegistrationError) as caught:
        projections.subscribe(name, receive, **more)
    assert all(word in str(caught.value) for word in words), str(caught.value)
