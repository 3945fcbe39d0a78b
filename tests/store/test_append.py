"""Appending: places, expectations and refusals."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import attrs
import pytest
import trio

from flowstore.errors import (
    ConcurrencyError,
    EmptyStreamError,
    InvalidEventError,
    StreamArchivedError,
    StreamCollisionError,
    StreamNotFoundError,
)
from flowstore.events import NO_STREAM, NewEvent


@attrs.frozen
class Happened:
    what: str


def happened(*names):
    return [Happened(name) for name in names]


async def append(store, stream_id, *names, **asked):
    async with store.session() as session:
        action = session.events.append(stream_id, *happened(*names), **asked)
        await session.save_changes()
    return action


async def stored(store, stream_id):
    async with store.session() as session:
        return [event.data.what for event in await session.events.fetch_stream(stream_id)]


async def test_an_action_has_ids_before_and_places_after_the_commit(store):
    async with store.session() as session:
        action = session.events.start_stream(uuid4(), *happened("a", "b"))
        before = [(event.version, event.sequence) for event in action.events]
        ids = [event.id for event in action.events]
        await session.save_changes()
    assert before == [(0, 0), (0, 0)]
    assert [(event.version, event.sequence) for event in action.events] == [(1, 1), (2, 2)]
    assert [event.id for event in action.events] == ids
    assert action.is_committed


async def test_sequences_follow_the_order_of_appends_across_streams(store):
    low, high = sorted([uuid4(), uuid4()])
    async with store.session() as session:
        actions = [
            session.events.append(high, *happened("1")),
            session.events.append(low, *happened("2", "3")),
            session.events.append(high, *happened("4")),
        ]
        await session.save_changes()
    events = [event for action in actions for event in action.events]
    assert [event.sequence for event in events] == [1, 2, 3, 4]
    assert [event.version for event in events] == [1, 1, 2, 2]
    page = await store.fetch_page(0, 4)
    assert [event.data.what for event in page.events] == ["1", "2", "3", "4"]


async def test_versions_go_on_without_gaps_over_commits(store):
    stream_id = uuid4()
    await append(store, stream_id, "a", "b")
    action = await append(store, stream_id, "c")
    assert action.events[0].version == 3
    assert await stored(store, stream_id) == ["a", "b", "c"]


async def test_what_an_action_holds_after_the_commit_is_what_is_read(store):
    async with store.session(user_name="me", correlation_id="c", headers={"k": [1]}) as session:
        action = session.events.append(uuid4(), Happened("a"))
        await session.save_changes()
        assert await session.events.fetch_stream(action.stream_id) == list(action.events)


async def test_starting_a_stream_that_exists_is_a_collision(store):
    stream_id = uuid4()
    await append(store, stream_id, "a")
    async with store.session() as session:
        session.events.start_stream(stream_id, Happened("b"))
        with pytest.raises(StreamCollisionError) as caught:
            await session.save_changes()
    assert caught.value.stream_id == stream_id
    assert await stored(store, stream_id) == ["a"]


async def test_starting_a_stream_twice_in_one_session_is_a_collision(store):
    stream_id = uuid4()
    async with store.session() as session:
        session.events.start_stream(stream_id, Happened("a"))
        session.events.start_stream(stream_id, Happened("b"))
        with pytest.raises(StreamCollisionError):
            await session.save_changes()
    assert await stored(store, stream_id) == []


async def test_a_stream_at_the_expected_version_takes_the_events(store):
    stream_id = uuid4()
    await append(store, stream_id, "a", expected_version=NO_STREAM)
    await append(store, stream_id, "b", expected_version=1)
    assert await stored(store, stream_id) == ["a", "b"]


@pytest.mark.parametrize("expected", [0, 1, 3])
async def test_a_stream_at_another_version_refuses_and_tells_both(store, expected):
    stream_id = uuid4()
    await append(store, stream_id, "a", "b")
    with pytest.raises(ConcurrencyError, match=f"is at version 2, not {expected}") as caught:
        await append(store, stream_id, "c", expected_version=expected)
    assert (caught.value.stream_id, caught.value.expected, caught.value.found) == (
        stream_id,
        expected,
        2,
    )
    assert await stored(store, stream_id) == ["a", "b"]


async def test_a_negative_expectation_is_refused_where_it_is_queued(store):
    with pytest.raises(InvalidEventError, match="NO_STREAM"):
        store.session().events.append(uuid4(), Happened("a"), expected_version=-1)


async def test_an_unknown_stream_is_at_version_0(store):
    with pytest.raises(ConcurrencyError) as caught:
        await append(store, uuid4(), "a", expected_version=5)
    assert caught.value.found == 0


async def test_an_expected_version_counts_the_events_queued_before(store):
    stream_id = uuid4()
    async with store.session() as session:
        session.events.append(stream_id, *happened("a", "b"), expected_version=0)
        session.events.append(stream_id, *happened("c"), expected_version=2)
        await session.save_changes()
    assert await stored(store, stream_id) == ["a", "b", "c"]


async def test_two_appends_that_expect_the_same_version_contradict_each_other(store):
    stream_id = uuid4()
    await append(store, stream_id, "a")
    async with store.session() as session:
        session.events.append(stream_id, Happened("b"), expected_version=1)
        session.events.append(stream_id, Happened("c"), expected_version=1)
        with pytest.raises(ConcurrencyError) as caught:
            await session.save_changes()
    assert (caught.value.expected, caught.value.found) == (1, 2)


async def test_a_later_expectation_is_told_as_it_was_asked(store):
    stream_id = uuid4()
    await append(store, stream_id, "a")
    async with store.session() as session:
        session.events.append(stream_id, *happened("b", "c"))
        session.events.append(stream_id, Happened("d"), expected_version=9)
        with pytest.raises(ConcurrencyError) as caught:
            await session.save_changes()
    assert (caught.value.expected, caught.value.found) == (9, 3)


async def test_a_loser_leaves_no_hole(store):
    stream_id = uuid4()
    await append(store, stream_id, "a")
    for _ in range(3):
        with pytest.raises(ConcurrencyError):
            await append(store, stream_id, "x", expected_version=7)
    action = await append(store, stream_id, "b")
    assert action.events[0].sequence == 2


async def test_of_concurrent_appenders_with_one_expectation_one_wins(store):
    stream_id = uuid4()
    await append(store, stream_id, "a")
    won = []

    async def compete(name):
        try:
            await append(store, stream_id, name, expected_version=1)
        except ConcurrencyError:
            return
        won.append(name)

    async with trio.open_nursery() as nursery:
        for name in "bcdef":
            nursery.start_soon(compete, name)
    assert len(won) == 1
    assert await stored(store, stream_id) == ["a", *won]


async def test_sessions_with_the_same_streams_in_opposite_order_do_not_block_each_other(store):
    streams = [uuid4() for _ in range(20)]

    async def append_all(order):
        for round_ in range(15):
            async with store.session() as session:
                for stream_id in order:
                    session.events.append(stream_id, Happened(str(round_)))
                await session.save_changes()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(append_all, streams)
        nursery.start_soon(append_all, streams[::-1])
        nursery.start_soon(append_all, streams[10:] + streams[:10])
    assert await store.highest_sequence() == 20 * 15 * 3
    assert len(await stored(store, streams[0])) == 45


async def test_an_archived_stream_takes_no_events(store):
    stream_id = uuid4()
    await append(store, stream_id, "a")
    async with store.session() as session:
        session.events.archive_stream(stream_id)
        with pytest.raises(StreamArchivedError):
            session.events.append(stream_id, Happened("b"))
        await session.save_changes()
    with pytest.raises(StreamArchivedError) as caught:
        await append(store, stream_id, "b")
    assert caught.value.stream_id == stream_id


async def test_no_events_are_an_error_where_they_are_queued(store):
    async with store.session() as session:
        with pytest.raises(EmptyStreamError):
            session.events.start_stream(uuid4())
        with pytest.raises(EmptyStreamError):
            session.events.append(uuid4())
        assert session.events.pending == ()


async def test_an_identity_of_the_wrong_kind_is_refused_where_it_is_queued(store):
    async with store.session() as session:
        with pytest.raises(InvalidEventError, match="stream_identity"):
            session.events.append("project-1", Happened("a"))


async def test_streams_can_be_known_by_text(opening):
    async with opening(stream_identity="string") as store:
        await append(store, 'we"ird, {id} \\ 100%', "a")
        assert await stored(store, 'we"ird, {id} \\ 100%') == ["a"]
        async with store.session() as session:
            for wrong in (uuid4(), " ", "nul\0"):
                with pytest.raises(InvalidEventError):
                    session.events.append(wrong, Happened("a"))


async def test_an_event_brings_its_own_time_id_and_headers(store):
    when = datetime(2020, 2, 29, 12, 30, 15, 123456, tzinfo=UTC) - timedelta(days=1)
    event_id = uuid4()
    async with store.session(headers={"a": 1, "b": 1}, correlation_id="session") as session:
        action = session.events.append(
            uuid4(),
            NewEvent(Happened("a"), id=event_id, timestamp=when, headers={"b": 2}),
            NewEvent(Happened("b"), correlation_id="own", causation_id="cause"),
        )
        await session.save_changes()
        first, second = await session.events.fetch_stream(action.stream_id)
    assert (first.id, first.timestamp, first.headers) == (event_id, when, {"a": 1, "b": 2})
    assert (first.correlation_id, first.causation_id) == ("session", None)
    assert (second.correlation_id, second.causation_id) == ("own", "cause")
    assert second.headers == {"a": 1, "b": 1}
    assert second.timestamp > when
    assert action.events == (first, second)


async def test_what_the_metadata_leave_out_is_not_recorded(opening):
    async with opening() as store:
        events = store.options.events
        events.metadata = attrs.evolve(events.metadata, headers=False, user_name=False)
        marks = {"user_name": "me", "headers": {"a": 1}, "correlation_id": "c"}
        async with store.session(**marks) as session:
            action = session.events.append(uuid4(), Happened("a"))
            await session.save_changes()
            (event,) = await session.events.fetch_stream(action.stream_id)
    assert (event.user_name, event.headers, event.correlation_id) == (None, {}, "c")


async def test_a_stream_type_is_recorded_and_may_be_mandatory(opening):
    async with opening(mandatory_stream_types=True) as store:
        stream_id = uuid4()
        async with store.session() as session:
            with pytest.raises(InvalidEventError, match="stream type"):
                session.events.start_stream(stream_id, Happened("a"))
            with pytest.raises(StreamNotFoundError):
                await append(store, stream_id, "a")
            session.events.start_stream(stream_id, Happened("a"), stream_type=Happened)
            await session.save_changes()
            await append(store, stream_id, "b")
            state = await session.events.fetch_stream_state(stream_id)
    assert (state.stream_type, state.version) == ("Happened", 2)


async def test_an_event_that_cannot_be_stored_fails_the_commit_and_keeps_the_queue(store):
    async with store.session() as session:
        session.events.append(uuid4(), Happened("nul\0"))
        with pytest.raises(InvalidEventError, match="NUL"):
            await session.save_changes()
        assert len(session.events.pending) == 1


async def test_a_thousand_events_over_a_hundred_streams_go_in_one_commit(store):
    streams = [uuid4() for _ in range(100)]
    async with store.session() as session:
        for number in range(1000):
            session.events.append(streams[number * 7 % 100], Happened(str(number)))
        await session.save_changes()
    page = await store.fetch_page(0, 1000, limit=1000)
    assert [event.data.what for event in page.events] == [str(n) for n in range(1000)]
    assert all(event.version == number // 100 + 1 for number, event in enumerate(page.events))
