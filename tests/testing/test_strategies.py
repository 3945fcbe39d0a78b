"""What is drawn is what a store may hold, in all its shapes."""

from datetime import timedelta
from itertools import pairwise
from uuid import UUID

import attrs
import pytest
import trio
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

from flowstore.events import Archived
from flowstore.store import StoreOptions, open_event_store
from flowstore.testing import RecordingProjection, crash_points, event_histories, page_sizes


@attrs.frozen
class Started:
    name: str


@attrs.frozen
class Place:
    name: str


@attrs.frozen
class Measured:
    value: float
    unit: str | None
    tags: list[str]
    at: Place


@attrs.frozen
class Odd:
    """What the codec has no rule for."""

    what: complex


FINDING = settings(phases=[Phase.generate], max_examples=10_000, database=None)
HISTORIES = event_histories(Started, Measured)


def streams(history):
    return {event.stream_id for event in history}


@given(history=HISTORIES)
def test_sequences_rise_and_versions_count_from_one_in_each_stream(history):
    sequences = [event.sequence for event in history]
    assert sequences == sorted(set(sequences))
    for stream in streams(history):
        versions = [event.version for event in history if event.stream_id == stream]
        assert versions == list(range(1, len(versions) + 1))


@pytest.mark.parametrize(
    "shape",
    [
        lambda h: len(streams(h)) == 3,
        lambda h: [e.stream_id.int for e in h[:3]] == [1, 2, 1],
        lambda h: any(b.sequence - a.sequence > 1 for a, b in pairwise(h)),
        lambda h: {type(e.data) for e in h} == {Started, Measured},
        lambda h: len(h) > 12,
    ],
    ids=["three streams", "interleaved", "a gap", "both types", "long"],
)
def test_histories_of_every_shape_are_drawn(shape):
    assert shape(find(HISTORIES, shape, settings=FINDING))


def test_a_history_shrinks_to_one_stream_without_gaps():
    shortest = find(event_histories(Place), lambda h: len(h) >= 3)
    assert [event.sequence for event in shortest] == [1, 2, 3]
    assert streams(shortest) == {UUID(int=1)}


@given(history=event_histories(Measured, first=Started, stream_identity="string"))
def test_each_stream_begins_with_what_it_begins_with(history):
    for event in history:
        assert isinstance(event.data, Started if event.version == 1 else Measured)
        assert event.stream_id.startswith("stream-")


CONSTANT = st.builds(Measured, st.just(1.5), st.none(), st.just([]), st.just(Place("x")))


@given(history=event_histories(CONSTANT, Odd, min_events=2))
def test_strategies_and_classes_without_a_codec_are_drawn_as_they_are(history):
    assert len(history) >= 2
    assert all(isinstance(event.data, (Measured, Odd)) for event in history)
    assert all(event.data.value == 1.5 for event in history if isinstance(event.data, Measured))


@given(sizes=page_sizes(max_size=4))
def test_page_sizes_can_be_used_over_and_over(sizes):
    assert sizes
    assert all(1 <= size <= 4 for size in sizes)


@pytest.mark.parametrize(("events", "most"), [((), 1), ((Started,), 0)])
def test_nothing_to_draw_from_is_refused(events, most):
    with pytest.raises(ValueError, match=r"no events|at least 1"):
        event_histories(*events, max_streams=most)


def test_too_short_a_pause_is_refused():
    with pytest.raises(ValueError, match="a second is the shortest"):
        event_histories(Place, longest_pause=timedelta(0))


def test_all_types_that_a_store_knows_are_drawn():
    options = StoreOptions()
    options.events.add_types(Started)
    options.projections.add(RecordingProjection(consumes=(Measured, Archived)))
    for source in (options, options.events):
        wanted = {Started, Measured} if source is options else {Started}
        seen = find(
            event_histories(source),
            lambda h, wanted=wanted: {type(e.data) for e in h} == wanted,
            settings=FINDING,
        )
        assert seen


def test_pauses_between_events_are_drawn():
    histories = event_histories(Place, longest_pause=timedelta(hours=1), min_events=2)
    first, second = find(histories, has_a_long_pause, settings=FINDING)[:2]
    assert second.timestamp > first.timestamp


def has_a_long_pause(history):
    return any(b.timestamp - a.timestamp > timedelta(minutes=30) for a, b in pairwise(history))


def test_tenants_have_streams_and_versions_of_their_own():
    histories = event_histories(Place, tenants=["a", "b"], max_streams=1)

    def both_begin(history):
        return {(e.tenant_id, e.version) for e in history} >= {("a", 1), ("b", 1)}

    assert len({e.stream_id for e in find(histories, both_begin, settings=FINDING)}) == 1


@given(points=crash_points(most=2))
def test_crash_points_are_steps_of_a_projections_commit(points):
    assert len(points) <= 2
    assert all(each.step in {"before commit", "committed"} for each in points)


def test_what_is_drawn_of_classes_can_be_stored_and_comes_back(pg_dsn, schema):
    @settings(max_examples=25, deadline=None)
    @given(history=HISTORIES)
    def stored(history):
        trio.run(append_and_read, pg_dsn, schema, history)

    stored()


async def append_and_read(dsn, schema, history):
    async with open_event_store(dsn, StoreOptions(schema=schema)) as store:
        offset = await store.highest_sequence()
        async with store.session() as session:
            for event in history:
                session.events.append(UUID(int=event.stream_id.int + offset * 8), event.data)
            await session.save_changes()
        page = await store.fetch_page(offset, await store.high_water(), limit=1000)
    assert not page.failures
    assert [event.data for event in page.events] == [event.data for event in history]
