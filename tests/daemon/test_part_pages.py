"""The pages of a part of the streams: every event of it, in order, and never more than fits."""

import importlib
import random
from pathlib import Path
from uuid import UUID

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from flowstore.daemon import open_store
from flowstore.events import NewEvent
from flowstore.projections import AsyncOptions, aggregate_projection
from flowstore.store import Part, StoreOptions

HERE = Path(__file__).parent
SIZE = 6
"""Events a page, at most."""
COUNT, PARTS = 90, 3


@pytest.fixture(autouse=True)
def domain(monkeypatch):
    monkeypatch.syspath_prepend(HERE)
    return importlib.import_module("workers_domain")


async def fill(store, domain, streams, lengths):
    """Append events of those lengths, some of types that nobody here consumes."""
    dice = random.Random(3)
    for length in lengths:
        event = domain.Closed("x" * length) if dice.random() < 0.8 else domain.Named("y" * length)
        headers = {"z": "z" * (length // 2)} if dice.random() < 0.3 else {}
        async with store.session() as session:
            session.events.append(dice.choice(streams), NewEvent(event, headers=headers))
            await session.save_changes()


def projection_of(domain, page_size=SIZE, **options):
    return aggregate_projection(
        domain.Total, name="parts", async_options=AsyncOptions(page_size=page_size, **options)
    )


async def pages_of(store, projection, number, mark, max_bytes):
    """Read a part to the end; each page begins where the one before has ended."""
    pages = store.rebuilding.part_pages(projection, Part(number, PARTS), max_bytes=max_bytes)
    found, floor = [], 0
    while floor < mark:
        page = await pages.fetch(floor, mark)
        assert page.floor == floor < page.ceiling <= mark
        found.append(page)
        floor = page.ceiling
    return found


async def sizes(store):
    """Give the bytes of JSON of each event."""
    async with store.connection() as connection:
        cursor = await connection.execute(
            "select sequence, octet_length(data::text) + coalesce(octet_length(headers::text), 0)"
            f" from {store.options.schema}.events"
        )
        return dict(await cursor.fetchall())


DRAWN = {
    "all small": lambda dice: dice.randint(1, 20),
    "all large": lambda dice: dice.randint(900, 2_000),
    "some large": lambda dice: 1_500 if dice.random() < 0.1 else dice.randint(1, 60),
    "one too large": lambda dice: 9_000 if dice.random() < 0.02 else dice.randint(1, 60),
}


@pytest.mark.parametrize("max_bytes", [1, 600, 3_000, 100_000])
@pytest.mark.parametrize("lengths", DRAWN)
async def test_parts_hold_every_event_once_in_order_and_never_more_than_fits(
    store, domain, lengths, max_bytes
):
    dice, streams = random.Random(max_bytes), [UUID(int=each) for each in range(1, 12)]
    await fill(store, domain, streams, [DRAWN[lengths](dice) for _ in range(COUNT)])
    projection, taken = projection_of(domain), await sizes(store)
    seen, owners = [], {}
    for number in range(PARTS):
        read = []
        for page in await pages_of(store, projection, number, COUNT, max_bytes):
            places = [event.sequence for event in page.events]
            assert all(page.floor < place <= page.ceiling for place in places)
            assert len(places) <= SIZE
            assert sum(taken[place] for place in places) <= max_bytes or len(places) == 1
            for event in page.events:
                owners.setdefault(event.stream_id, set()).add(number)
            read += page.events
        assert [event.sequence for event in read] == sorted({event.sequence for event in read})
        seen += read
    assert all(len(numbers) == 1 for numbers in owners.values())
    page = await store.fetch_page(0, COUNT, types=tuple(projection.consumes), limit=COUNT)
    assert sorted(seen, key=lambda event: event.sequence) == list(page.events)
    assert len(page.events) < COUNT


@pytest.mark.parametrize("max_bytes", [100, 100_000])
async def test_what_is_archived_or_skipped_is_passed_over(store, domain, max_bytes):
    streams = [UUID(int=each) for each in range(1, 12)]
    await fill(store, domain, streams, [30] * COUNT)
    async with store.session() as session:
        session.events.archive_stream(streams[0])
        await session.save_changes()
    wanted = await store.fetch_page(0, COUNT, types=(domain.Closed,), limit=COUNT)
    for event in [each for each in wanted.events if each.stream_id != streams[0]][::5]:
        await store.skip_event(event.id)
    mark = await store.highest_sequence()
    for include_archived in (False, True):
        projection = projection_of(domain, include_archived=include_archived)
        types = tuple(projection.consumes)
        page = await store.fetch_page(
            0, mark, types=types, limit=mark, include_archived=include_archived
        )
        seen = []
        for number in range(PARTS):
            for each in await pages_of(store, projection, number, mark, max_bytes):
                seen += each.events
        assert sorted(seen, key=lambda event: event.sequence) == list(page.events)
        assert (streams[0] in {event.stream_id for event in seen}) is include_archived


async def test_streams_that_are_known_by_text_are_in_one_part_each(pg_dsn, schema, domain):
    options = StoreOptions(schema=schema, stream_identity="string")
    async with open_store(pg_dsn, options) as store:
        streams = [f"order {number}" for number in range(11)]
        await fill(store, domain, streams, [30] * COUNT)
        projection = aggregate_projection(
            domain.Text, name="parts", async_options=AsyncOptions(page_size=SIZE)
        )
        owners, seen = {}, 0
        options.events.add_types(domain.Counted)
        for number, stream in enumerate(streams * 3):
            async with store.session() as session:
                session.events.append(stream, domain.Counted(number))
                await session.save_changes()
        mark = await store.highest_sequence()
        for number in range(PARTS):
            for page in await pages_of(store, projection, number, mark, 3_000):
                seen += len(page.events)
                for event in page.events:
                    owners.setdefault(event.stream_id, set()).add(number)
        assert seen == 33
        assert sorted(owners) == sorted(streams)
        assert all(len(numbers) == 1 for numbers in owners.values())


async def test_a_page_that_no_event_is_in_ends_at_the_mark(store, domain):
    stream = UUID(int=1)
    await fill(store, domain, [stream], [5] * 20)
    projection = projection_of(domain)
    ends = [
        [page.ceiling for page in await pages_of(store, projection, number, 20, 1_000)]
        for number in range(PARTS)
    ]
    assert ends.count([20]) == PARTS - 1  # one read finds out that nothing of it is there
    assert len(max(ends, key=len)) == 3


async def test_large_events_are_not_written_out_again_for_every_page(dsn, domain):
    """They are by a window over as many as a page of small ones has: all of them for a page of two."""
    stream, count, size = UUID(int=1), 60, 20_000
    beside = make_conninfo(dsn, options="-c work_mem=64kB")
    async with open_store(beside, StoreOptions(schema="large")) as store:
        await fill(store, domain, [stream], [size] * count)
        projection = projection_of(domain, page_size=count)
        pages = store.rebuilding.part_pages(projection, Part(0, 1), max_bytes=3 * size)
        floor, found = 0, 0
        while floor < count:
            page = await pages.fetch(floor, count)
            floor, found = page.ceiling, found + len(page.events)
    assert found > count // 2
    with psycopg.connect(dsn) as connection:
        query = "select temp_bytes from pg_stat_database where datname = current_database()"
        (written,) = connection.execute(query).fetchone()
    assert written < 8 * count * size
