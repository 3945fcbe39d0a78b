"""What a shard holds in memory is bounded, in events and in bytes."""

import gc
from uuid import uuid4

import attrs
import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flowstore.blocks import ActionBlock, run
from flowstore.daemon import DaemonSettings, event_source, open_store
from flowstore.events import Event
from flowstore.projections import AsyncOptions
from flowstore.store import StoreOptions


@attrs.frozen
class Said:
    text: str = ""


@pytest.fixture
def options(options):
    options.events.add_types(Said)
    return options


async def append(store, *events):
    async with store.session() as session:
        session.events.append(uuid4(), *events)
        await session.save_changes()


def size_of(text):
    return len(f'{{"text": "{text}"}}')


async def read(store, **options):
    pages = []
    with trio.fail_after(20):
        await run(event_source(store, follow=False, **options), ActionBlock(pages.append))
    return pages


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    sizes=st.lists(st.integers(0, 60), min_size=1, max_size=12),
    page_bytes=st.integers(1, 200),
    page_size=st.integers(1, 6),
)
async def test_pages_follow_each_other_whatever_events_weigh(
    pg_dsn, schema, sizes, page_bytes, page_size
):
    """Nothing is lost or doubled at a boundary, and no page could have held one event more."""
    options = StoreOptions(schema=schema)
    options.events.add_types(Said)
    async with open_store(pg_dsn, options) as store:
        floor = await store.highest_sequence()
        await append(store, *[Said("x" * size) for size in sizes])
        pages = await read(store, floor=floor, page_bytes=page_bytes, page_size=page_size)
    last = floor + len(sizes)
    assert [page.floor for page in pages] == [floor, *[page.ceiling for page in pages[:-1]]]
    assert pages[-1].ceiling == last
    found = [event.sequence for page in pages for event in page.events]
    assert found == list(range(floor + 1, last + 1))
    weights = [[size_of(event.data.text) for event in page.events] for page in pages]
    for page, following in zip(weights, [*weights[1:], None], strict=True):
        assert len(page) == 1 or sum(page) <= page_bytes
        assert len(page) <= page_size
        is_full = len(page) == page_size
        assert following is None or is_full or sum(page) + following[0] > page_bytes


async def test_an_event_larger_than_the_bound_comes_alone(store):
    await append(store, Said(), Said("x" * 5000), Said(), Said())
    pages = await read(store, page_bytes=1000)
    assert [[event.sequence for event in page.events] for page in pages] == [[1], [2], [3, 4]]


async def test_headers_count_too(store):
    async with store.session(headers={"note": "x" * 600}) as session:
        session.events.append(uuid4(), Said(), Said())
        await session.save_changes()
    assert [len(page.events) for page in await read(store, page_bytes=1000)] == [1, 1]


async def test_bytes_count_and_not_characters(store):
    await append(store, Said("é" * 300), Said("é" * 300))
    assert [len(page.events) for page in await read(store, page_bytes=1000)] == [1, 1]


async def test_pages_of_a_daemon_are_bounded_by_its_settings(store, recorder, table):
    await append(store, *[Said("x" * 1000) for _ in range(10)])
    async with store.build_projection_daemon(DaemonSettings(page_bytes=3500)) as daemon:
        await daemon.start_all()
        await daemon.wait_for_non_stale_results(timeout=20)
    assert recorder.calls == [[1, 2, 3], [4, 5, 6], [7, 8, 9], [10]]


async def test_a_bound_of_nothing_is_refused(store):
    with pytest.raises(ValueError, match="page_bytes"):
        event_source(store, page_bytes=0)


@pytest.mark.parametrize("name", ["page_bytes", "max_loads", "max_commits"])
@pytest.mark.parametrize("value", [0, -1, 1.5, True, "2"])
def test_bounds_are_whole_numbers(name, value):
    with pytest.raises(ValueError, match=name):
        DaemonSettings(**{name: value})


async def test_a_stuck_sink_keeps_few_events_in_memory(store, make_recorder):
    """A sibling that goes on doesn't have pages kept for it without bound."""
    gate, stuck = trio.Event(), trio.Event()
    slow = make_recorder(name="slow", async_options=AsyncOptions(page_size=100))

    async def wait_at_the_gate(_):
        stuck.set()
        await gate.wait()

    slow.before = wait_at_the_gate
    store.options.projections.add(slow)
    fast = AsyncOptions(page_size=100)

    class Counting:
        name = "fast"
        consumes = ()
        produces = None
        async_options = fast

        def apply(self, session, streams):
            pass

    store.options.projections.add(Counting())
    for _ in range(50):
        await append(store, *[Said()] * 1000)
    async with store.build_projection_daemon() as daemon:
        await daemon.start_all()
        with trio.fail_after(60):
            await stuck.wait()
            await daemon.wait_for("fast", 50_000)
        await trio.testing.wait_all_tasks_blocked(0.05)
        gc.collect()
        alive = sum(isinstance(each, Event) for each in gc.get_objects())
        # Five pages in the shard's blocks, two thousand kept at most: never the fifty thousand.
        assert 100 <= alive <= 5 * 100 + 1200
        await daemon.stop("fast")
        gate.set()
