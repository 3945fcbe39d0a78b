"""Grouping loses no event and keeps both orders."""

from datetime import UTC, datetime
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from flowstore.events import Event, group_by_stream_id, in_sequence


def make_event(sequence: int, stream_id: str, tenant_id: str | None = None) -> Event:
    return Event(
        data=sequence,
        sequence=sequence,
        id=UUID(int=sequence),
        stream_id=stream_id,
        version=sequence,
        type_name="counted",
        timestamp=datetime(2026, 1, 2, tzinfo=UTC),
        tenant_id=tenant_id,
    )


pages = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from([None, "t", "u"]))).map(
    lambda places: [make_event(number, *place) for number, place in enumerate(places, 1)]
)


@given(pages)
def test_grouped_events_are_the_same_events(events):
    assert in_sequence(group_by_stream_id(events)) == events


@given(pages)
def test_a_group_holds_one_stream_of_one_tenant(events):
    groups = group_by_stream_id(events)
    owners = [
        {(group.id, event.stream_id, event.tenant_id) for event in group.events} for group in groups
    ]
    assert all(len(owner) == 1 for owner in owners)
    assert len({frozenset(owner) for owner in owners}) == len(groups)


@given(pages)
def test_events_keep_their_order_within_a_stream(events):
    for group in group_by_stream_id(events):
        versions = [event.version for event in group.events]
        assert versions == sorted(versions)


@given(pages)
def test_streams_stand_in_the_order_of_their_first_event(events):
    firsts = [group.events[0].sequence for group in group_by_stream_id(events)]
    assert firsts == sorted(firsts)
