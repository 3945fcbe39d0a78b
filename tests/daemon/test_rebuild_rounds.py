"""A shadow is brought near the end in rounds, from where its options say, before anybody has to wait."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import attrs
import pytest
import trio
from psycopg import sql
from psycopg.conninfo import make_conninfo

from flowstore.daemon import Store, open_store
from flowstore.projections import AsyncOptions, Lifecycle
from flowstore.store import StoreOptions
from tests.daemon.totals import STREAMS, Counted, Total, expected, is_shadows, totals

PATIENCE = 60


@pytest.fixture
def options(options):
    options.projections.aggregate_streams_with(Total, async_options=AsyncOptions(page_size=4))
    return options


@attrs.define(eq=False)
class Beside:
    """A projection's twin that has something done before each page that a shadow applies."""

    inner: object
    before: object

    def __getattr__(self, name):
        return getattr(self.inner, name)

    async def apply(self, session, streams):
        if is_shadows(session):
            await self.before(streams)
        await self.inner.apply(session, streams)


def beside(store, before):
    registered = store.options.projections._registered
    twin = Beside(registered[0].projection, before)
    registered[0] = attrs.evolve(registered[0], projection=twin)


async def append(store, *numbers):
    async with store.session() as session:
        for number in numbers:
            session.events.append(STREAMS[number % len(STREAMS)], Counted(number))
        await session.save_changes()


# -- rounds --


async def test_the_shard_runs_until_little_is_left(store):
    """What comes while the first events are applied is more than a page, and is applied beside it."""
    applied = []

    async def before(streams):
        last = max(stream.events[-1].sequence for stream in streams)
        applied.append((last, daemon._shards["Total"].is_running))
        if last == 30:
            await append(store, *range(30, 42))

    await append(store, *range(30))
    beside(store, before)
    async with store.build_projection_daemon() as daemon:
        await daemon.start_all()
        with trio.fail_after(PATIENCE):
            await daemon.rebuild("Total", swap=True)
    assert applied[-1][0] == 42
    assert all(is_running for _, is_running in applied)
    assert await totals(store) == await expected(store)


async def test_a_rebuild_ends_where_events_come_faster_than_they_are_applied(store):
    number = 30

    async def before(_streams):
        nonlocal number
        await append(store, *range(number, number + 5))
        number += 5

    await append(store, *range(30))
    beside(store, before)
    async with store.build_projection_daemon() as daemon:
        await daemon.start_all()
        with trio.fail_after(PATIENCE):
            await daemon.rebuild("Total", swap=True)
            await daemon.wait_for_non_stale_results()
    assert await totals(store) == await expected(store)


@pytest.fixture
def ends(monkeypatch):
    """Count how often somebody asks for the last event, and do something after an answer."""
    highest_sequence = Store.highest_sequence
    asked = []
    after = {}

    async def highest(store):
        found = await highest_sequence(store)
        asked.append(found)
        if len(asked) in after:
            await after[len(asked)](store)
        return found

    monkeypatch.setattr(Store, "highest_sequence", highest)
    return asked, after


async def test_where_nothing_comes_there_is_one_round_that_finds_nothing(store, ends):
    await append(store, *range(30))
    async with store.build_projection_daemon() as daemon:
        await daemon.rebuild(Total, swap=True)
        # Of a shard that has never run.
        assert [status.progress for status in daemon.statuses()] == [30]
    assert ends[0] == [30, 30, 30]


async def test_what_came_after_the_last_round_is_in_the_result_though_nobody_runs_the_shard(
    store, ends
):
    await append(store, *range(30))
    ends[1][2] = lambda store: append(store, 30)
    async with store.build_projection_daemon() as daemon:
        await daemon.rebuild(Total, swap=True)
    assert await store.progress(Total) == 31
    assert await totals(store) == await expected(store)


# -- where it begins --


@pytest.mark.parametrize("start_from", ["beginning", "now", "inline", 10, 0, "time"])
@pytest.mark.parametrize("swap", [True, False])
async def test_it_begins_where_the_options_say(opening, start_from, swap):
    """What was there when a shard was to begin "now" is over: what it has written goes too."""
    async with opening() as store:
        await append(store, *range(10))
        options = StoreOptions(schema=store.options.schema)
    place = start_from
    if start_from == "time":
        place = datetime.now(UTC) + timedelta(days=1)
    options.projections.aggregate_streams_with(
        Total, async_options=AsyncOptions(page_size=4, start_from=place)
    )
    async with open_store(store.dsn, options) as store:
        await append(store, *range(10, 20))
        async with store.build_projection_daemon() as daemon:
            await daemon.rebuild(Total, swap=swap)
        begin = {"time": 20, 10: 10}.get(start_from, 0)
        seen = sorted(number for total in await totals(store) for number in total.seen)
        assert seen == list(range(begin, 20))
        assert await store.progress(Total) == 20


async def test_what_runs_inline_begins_at_the_beginning_wherever_its_shard_would(opening):
    async with opening() as store:
        options = StoreOptions(schema=store.options.schema)
    options.projections.aggregate_streams_with(
        Total, lifecycle=Lifecycle.INLINE, async_options=AsyncOptions(page_size=4, start_from=10)
    )
    async with open_store(store.dsn, options) as store:
        await append(store, *range(20))
        async with store.build_projection_daemon() as daemon:
            await daemon.rebuild(Total)
        assert await totals(store) == await expected(store)


# -- whatever isolation level sessions have --


@attrs.define(eq=False)
class Ledger:
    """Writes by SQL of its own, so that no shadow is possible and all appends wait."""

    table: str
    name: str = "ledger"
    consumes: tuple = (Counted,)
    produces: None = None
    async_options: AsyncOptions = attrs.field(factory=AsyncOptions)

    def apply(self, session, streams):
        for stream in streams:
            for event in stream.events:
                insert = f"insert into {self.table} (shard, sequence) values ('ledger', %s)"
                session.execute(insert, event.sequence)

    async def teardown(self, session):
        session.execute(f"delete from {self.table}")


@pytest.fixture
async def strict(store, table):
    """The same store in sessions whose transactions see nothing that came after their beginning."""
    dsn = make_conninfo(store.dsn, options="-c default_transaction_isolation=repeatable\\ read")
    options = StoreOptions(schema=store.options.schema)
    options.projections.aggregate_streams_with(Total)
    options.projections.add(Ledger(table.name), lifecycle=Lifecycle.INLINE)
    async with open_store(dsn, options) as opened:
        yield opened


async def until_somebody_waits(store, locktype):
    waiting = "select from pg_locks where not granted and locktype = %s"
    with trio.fail_after(PATIENCE):
        async with store.connection() as connection:
            while not (await connection.execute(waiting, (locktype,))).rowcount:  # noqa: ASYNC110
                await trio.sleep(0.01)


async def test_an_append_that_was_waited_for_is_in_an_inline_view(store, strict, table):
    await append(strict, *range(5))
    name = next(iter(strict.options.events.stored_names(Counted)))
    insert = sql.SQL(
        "insert into {} (stream_id, version, type, data) values (%s, 1, %s, '{{\"by\": 5}}')"
    ).format(sql.Identifier(store.options.schema, "events"))

    async def rebuild():
        async with strict.build_projection_daemon() as daemon:
            await daemon.rebuild("ledger")

    async with (
        trio.open_nursery() as nursery,
        store.connection() as connection,
        connection.transaction(),
    ):
        await connection.execute(insert, (UUID(int=99), name))
        nursery.start_soon(rebuild)
        await until_somebody_waits(store, "relation")
    assert sorted(await table.sequences(store, "ledger")) == [1, 2, 3, 4, 5, 6]


async def test_a_commit_elsewhere_that_a_swap_waits_for_fails_nothing(store, strict):
    await append(strict, *range(5))
    projection = strict.options.projections.find(Total).projection
    claim = await store.claim(projection)
    shadow = await strict.rebuilding.open_shadow(projection)
    await shadow.commit_batch(shadow.projection_session(), floor=0, ceiling=5)
    assert (claim.sequence, claim.epoch) == (0, 1)
    advance = sql.SQL("update {} set sequence = 6 where shard = 'Total'").format(
        sql.Identifier(store.options.schema, "progress")
    )
    places = []

    async def swap():
        places.append(await strict.rebuilding.swap(shadow, 5))

    async with (
        trio.open_nursery() as nursery,
        store.connection() as connection,
        connection.transaction(),
    ):
        await connection.execute(advance)
        nursery.start_soon(swap)
        await until_somebody_waits(store, "transactionid")
    assert places == [6]
    await shadow.discard()
