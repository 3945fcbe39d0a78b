"""The active span as the correlation of events."""

from uuid import uuid4

import attrs
import pytest

from flowstore.events import NewEvent

trace = pytest.importorskip("opentelemetry.trace", reason="OpenTelemetry is not installed")

TRACE = 0x0AF7651916CD43DD8448EB211C80319C


@attrs.frozen
class Happened:
    pass


def in_a_span(trace_id=TRACE):
    context = trace.SpanContext(trace_id, 7, is_remote=False)
    return trace.use_span(trace.NonRecordingSpan(context))


async def correlations(store, *events, **marks):
    async with store.session(**marks) as session:
        action = session.events.append(uuid4(), *events)
        await session.save_changes()
        stored = await session.events.fetch_stream(action.stream_id)
    return [event.correlation_id for event in stored]


async def test_events_are_correlated_by_the_active_trace(store):
    with in_a_span():
        assert await correlations(store, Happened()) == [f"{TRACE:032x}"]


async def test_what_was_said_of_session_or_event_goes_first(store):
    own = NewEvent(Happened(), correlation_id="own")
    with in_a_span():
        assert await correlations(store, own, Happened()) == ["own", f"{TRACE:032x}"]
        assert await correlations(store, Happened(), correlation_id="said") == ["said"]


async def test_outside_of_any_span_there_is_no_correlation(store):
    assert await correlations(store, Happened()) == [None]
    with in_a_span(0):
        assert await correlations(store, Happened()) == [None]


async def test_the_trace_is_that_of_the_queueing_not_of_the_commit(store):
    async with store.session() as session:
        stream = uuid4()
        with in_a_span(1):
            session.events.append(stream, Happened())
        session.events.append(stream, Happened())
        with in_a_span(2):
            await session.save_changes()
        stored = await session.events.fetch_stream(stream)
    assert [event.correlation_id for event in stored] == [f"{1:032x}", None]
