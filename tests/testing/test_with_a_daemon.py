"""The kit against the real thing: drawn histories through a daemon on PostgreSQL keep the laws."""

from uuid import UUID, uuid4

import attrs
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from flowstore.daemon import open_store
from flowstore.projections import AsyncOptions, IProjection
from flowstore.store import StoreOptions
from flowstore.testing import (
    ProjectionScenario,
    RecordingProjection,
    check_no_skip_no_repeat,
    check_stream_order,
    event_histories,
)


@attrs.frozen
class Counted:
    by: int


@attrs.define
class Total:
    id: UUID
    total: int = 0

    def apply(self, counted: Counted) -> None:
        self.total += counted.by


HISTORIES = event_histories(st.builds(Counted, st.integers(-5, 5)), min_events=1)


async def project(dsn, schema, history, page_size):
    """Append a history, an event a commit, run it through a daemon, and give all that came of it."""
    recording = RecordingProjection(async_options=AsyncOptions(page_size=page_size))
    options = StoreOptions(schema=schema)
    options.projections.add(recording)
    options.projections.aggregate_streams_with(Total)
    names = {event.stream_id: uuid4() for event in history}
    async with open_store(dsn, options) as store, store.build_projection_daemon() as daemon:
        # The schema is shared by all examples: this one is about what comes after the others'.
        before = await store.highest_sequence()
        await daemon.start_all()
        for event in history:
            async with store.session() as session:
                session.events.append(names[event.stream_id], event.data)
                await session.save_changes()
        await daemon.wait_for_non_stale_results(timeout=30)
        page = await store.fetch_page(before, await store.high_water(), limit=1000)
        async with store.session() as session:
            documents = await session.load_many(Total, names.values())
    delivered = [event for event in recording.deliveries if event.sequence > before]
    return delivered, recording.sequences, page.events, documents


def test_a_daemon_keeps_the_laws_over_drawn_histories(pg_dsn, schema):
    @settings(max_examples=10, deadline=None)
    @given(history=HISTORIES, page_size=st.integers(1, 5))
    def laws(history, page_size):
        delivered, sequences, stored, documents = trio.run(
            project, pg_dsn, schema, history, page_size
        )
        check_stream_order(delivered, without_holes=True)
        check_no_skip_no_repeat(delivered, stored)
        assert sequences == sorted(sequences)
        scenario = ProjectionScenario(Total)
        for event in stored:
            scenario = scenario.given(event.data, stream_id=event.stream_id)
        scenario.then(*documents)

    laws()


def test_a_recording_projection_is_a_projection():
    assert isinstance(RecordingProjection(), IProjection)
    assert RecordingProjection().produces is None
