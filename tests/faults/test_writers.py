"""Fifteen writers against a running daemon, and one query that tells whether anything went wrong.

Writers abort, set savepoints, pause between drawing numbers and committing, take transaction ids
early, append to several streams at once, import, and prepare transactions. Every rule for how far it
is safe to read that is known to be wrong takes the right one's place, and is caught by that query.
"""

import logging
import random
from contextlib import asynccontextmanager, suppress
from uuid import UUID, uuid4

import attrs
import pytest
import trio
from psycopg import sql

from flowstore import AsyncOptions, DaemonSettings, FlowstoreError, Store, StoreOptions
from flowstore.events import in_sequence
from flowstore.postgres import Connection
from flowstore.store import Handover, open_event_store

LOG = logging.getLogger("faults")
SHARDS = 4
HURRIED = DaemonSettings(slow_polling_time=0.01, fast_polling_time=0.001)
PAUSES = (0, 0, 0, 0.002, 0.005, 0.01, 0.03)
"""Seconds between drawing numbers and the end of a transaction."""

VERDICT = """
with seen as (
    select
        s.*,
        lag(sequence) over (partition by shard order by place) as sequence_before,
        lag(version) over (partition by shard, stream order by place) as version_before
    from {schema}.seen s
),
shards as (select 'recorder ' || n as shard from generate_series(1, %s) n)
select
    (select count(*) from {schema}.events) as stored,
    (
        select count(*) from {schema}.events e cross join shards n
        where not exists (select from seen s where s.shard = n.shard and s.sequence = e.sequence)
    ) as lost,
    (select count(*) - count(distinct (shard, sequence)) from seen) as doubled,
    (select count(*) from seen where sequence <= sequence_before) as out_of_sequence,
    (select count(*) from seen where version <> coalesce(version_before, 0) + 1) as out_of_version,
    (select count(*) from {schema}.dead_letters) as set_aside
"""


@attrs.frozen
class Happened:
    number: int = 0


@attrs.frozen
class Verdict:
    """What the query found."""

    stored: int
    lost: int
    doubled: int
    out_of_sequence: int
    out_of_version: int
    set_aside: int

    @property
    def is_good(self):
        return not (self.lost or self.doubled or self.out_of_sequence or self.out_of_version)


@attrs.define
class Recorder:
    """Writes each event down in the transaction of its progress."""

    table: str
    name: str
    async_options: AsyncOptions
    consumes = ()
    produces = None

    def apply(self, session, streams):
        for event in in_sequence(streams):
            insert = f"insert into {self.table} (shard, sequence, stream, version)"
            place = (self.name, event.sequence, event.stream_id, event.version)
            session.execute(f"{insert} values (%s, %s, %s, %s)", *place)


@pytest.fixture
def scene(dsn):
    """Open a store with recorders; `scene(cls)` opens it as another class."""

    @asynccontextmanager
    async def open_scene(cls=Store):
        options = StoreOptions(schema="faults")
        options.events.add_types(Happened)
        for number in range(1, SHARDS + 1):
            pages = AsyncOptions(page_size=(1, 2, 3, 7)[number % 4])
            recorder = Recorder("faults.seen", f"recorder {number}", pages)
            options.projections.add(recorder)
        async with open_event_store(dsn, options, cls=cls) as store:
            async with store.connection() as connection:
                await connection.execute(
                    "create table faults.seen (place bigint generated always as identity,"
                    " shard text, sequence bigint, stream uuid, version bigint)"
                )
            yield store

    return open_scene


# -- writers -------------------------------------------------------------------------------------


INSERT = (
    "insert into faults.events (stream_id, version, type, data) values (%s, %s, 'happened', '{}')"
)


@attrs.define
class Hand:
    """A foreign writer with streams of its own: plain SQL in transactions of its own."""

    dsn: str
    dice: random.Random
    prepares: bool = False
    versions: dict[UUID, int] = attrs.field(factory=dict)

    async def write(self, rounds):
        streams = [uuid4() for _ in range(3)]
        async with await Connection.connect(self.dsn, autocommit=False) as connection:
            for _ in range(rounds):
                drawn = dict(self.versions)
                if self.dice.random() < 0.5:
                    await connection.execute("select pg_current_xact_id()")
                    await self.pause()
                for _ in range(self.dice.randint(1, 4)):
                    await self.insert(connection, self.dice.choice(streams), drawn)
                    if self.dice.random() < 0.3:
                        await self.try_in_vain(connection, streams, drawn)
                await self.pause()
                await self.end(connection, drawn)

    async def insert(self, connection, stream_id, drawn):
        drawn[stream_id] = drawn.get(stream_id, 0) + 1
        await connection.execute(INSERT, (stream_id, drawn[stream_id]))

    async def try_in_vain(self, connection, streams, drawn):
        """Insert behind a savepoint and go back to it: numbers are drawn and never seen."""
        await connection.execute("savepoint before")
        await self.insert(connection, self.dice.choice(streams), dict(drawn))
        await self.pause()
        await connection.execute("rollback to savepoint before")

    async def end(self, connection, drawn):
        commits = self.dice.random() < 0.75
        if self.prepares:
            name = f"faults {uuid4()}"
            await connection.execute(f"prepare transaction '{name}'")
            await self.pause()
            await connection.set_autocommit(True)
            await connection.execute(f"{'commit' if commits else 'rollback'} prepared '{name}'")
            await connection.set_autocommit(False)
        elif commits:
            await connection.commit()
        else:
            await connection.rollback()
        if commits:
            self.versions = drawn

    async def pause(self):
        await trio.sleep(self.dice.choice(PAUSES))


async def write_through_sessions(store, dice, rounds):
    """Append to several streams at once that others append to as well; some commits are refused."""
    for _ in range(rounds):
        async with store.session() as session:
            for number in dice.sample(range(4), dice.randint(1, 3)):
                session.events.append(UUID(int=number), *map(Happened, range(dice.randint(1, 3))))
            if dice.random() < 0.2:
                session.events.append(UUID(int=5), Happened(), expected_version=10**6)
            try:
                await session.save_changes()
            except FlowstoreError:
                await trio.sleep(dice.choice(PAUSES))


async def write_by_import(store, dice, rounds):
    for _ in range(rounds):
        streams = [uuid4() for _ in range(3)]

        async def slowly(streams=streams):
            for number in range(dice.randint(1, 6)):
                yield dice.choice(streams), Happened(number)
                await trio.sleep(dice.choice(PAUSES))

        await store.import_events(slowly())


async def write_one_by_one(store, dice, rounds):
    """Append a single event a commit, as it is handed over; some are refused, some given up."""
    for _ in range(rounds * 2):
        async with store.session() as session:
            stream_id, expected = UUID(int=dice.randint(6, 9)), dice.choice((None, None, 10**6))
            session.events.append(stream_id, Happened(), expected_version=expected)
            with suppress(FlowstoreError), trio.move_on_after(dice.choice((0.002, 10, 10))):
                await session.save_changes()
        await trio.sleep(dice.choice(PAUSES) / 3)


async def write_all(store, rounds, seed):
    """Fifteen writers at once."""
    dice = [random.Random(f"{seed} {number}") for number in range(15)]
    async with trio.open_nursery() as nursery:
        for number in range(6):
            nursery.start_soon(Hand(store.dsn, dice[number]).write, rounds)
        for number in (6, 7):
            nursery.start_soon(Hand(store.dsn, dice[number], prepares=True).write, rounds)
        for number in (8, 9, 10):
            nursery.start_soon(write_through_sessions, store, dice[number], rounds)
        nursery.start_soon(write_by_import, store, dice[11], rounds // 3)
        for number in (12, 13, 14):
            nursery.start_soon(write_one_by_one, store, dice[number], rounds)


async def judge(store):
    async with store.connection() as connection:
        query = VERDICT.format(schema="faults")
        return Verdict(*await (await connection.execute(query, (SHARDS,))).fetchone())


async def write_mostly_here(store, rounds, seed):
    """Four writers of single events in this process, and one by hand."""
    dice = [random.Random(f"{seed} {number}") for number in range(5)]
    async with trio.open_nursery() as nursery:
        for number in range(4):
            nursery.start_soon(write_one_by_one, store, dice[number], rounds)
        nursery.start_soon(Hand(store.dsn, dice[4]).write, rounds // 4)


async def run_writers(store, rounds, seed, write_all=write_all):
    """Run writers and daemon at once, let the daemon come to the end, and judge."""
    with trio.fail_after(300 + 5 * rounds):
        async with store.build_projection_daemon(HURRIED) as daemon:
            await daemon.start_all()
            await write_all(store, rounds, seed)
            async with store.connection() as connection:
                # A mark above everything that is stored: a hole at the end doesn't hold a shard.
                await connection.execute(INSERT, (UUID(int=99), 1))
            await daemon.wait_for_non_stale_results()
            assert [status.state for status in daemon.statuses()] == ["running"] * SHARDS
        return await judge(store)


async def test_nothing_is_lost_doubled_or_out_of_order(scene, soak):
    for seed in range(soak(1, 5)):
        async with scene() as store:
            verdict = await run_writers(store, soak(40, 200), seed)
            LOG.info("seed %s, %s shards: %s", seed, SHARDS, verdict)
            assert verdict.is_good, verdict
            assert verdict.set_aside == 0
            assert verdict.stored > 500
            async with store.connection() as connection:
                await connection.execute("drop schema faults cascade")


# -- rules that are wrong ------------------------------------------------------------------------


SIGNATURE = """
create or replace function faults.high_water(
    p_known bigint default 0, p_buffer double precision default 0, out safe bigint, out ready bigint
) language plpgsql volatile as $$
begin
    {rule}
    safe := greatest(coalesce(safe, 0), p_known);
    ready := safe;
end
$$"""

WRONG_RULES = {
    "max_of_sequence": "select max(e.sequence) into safe from faults.events e;",
    "position_of_the_sequence": "select s.last_value into safe from faults.events_sequence s;",
    "gap_timeout": """
        select min(g.before) into safe from (
            select e.sequence, e.recorded, lag(e.sequence, 1, 0::bigint) over (order by e.sequence) as before
            from faults.events e where e.sequence >= p_known
        ) g
        where g.before >= p_known and g.sequence > g.before + 1
            and g.recorded > clock_timestamp() - interval '4 ms';
        if safe is null then
            select max(e.sequence) into safe from faults.events e;
        end if;""",
    "xmin_of_the_snapshot": """
        select max(e.sequence) into safe from faults.events e
        where e.xmin::text::bigint < pg_snapshot_xmin(pg_current_snapshot())::text::bigint;""",
}


async def loses_events(scene, cls=Store, rule=None):
    """Tell whether a wrong rule is found out, in a few runs at most: what it loses is luck."""
    for seed in range(30):
        async with scene(cls) as store, store.connection() as connection:
            if rule is not None:
                await connection.execute(SIGNATURE.format(rule=rule))
            verdict = await run_writers(store, 30, seed)
            await connection.execute("drop schema faults cascade")
        if verdict.lost:
            return True
    return False


@pytest.mark.parametrize("rule", WRONG_RULES)
async def test_a_wrong_rule_for_the_mark_loses_events(rule, scene):
    """It shows that the test above could fail."""
    assert await loses_events(scene, rule=WRONG_RULES[rule])


async def test_the_plain_position_as_the_bound_loses_the_first_event(scene):
    """Before its first number a sequence reads 1, with `is_called` false."""
    async with scene() as store, await Connection.connect(store.dsn, autocommit=False) as first:
        async with store.connection() as connection:
            body = sql.SQL("select pg_get_functiondef('faults.publish_bound'::regproc)")
            (source,) = await (await connection.execute(body)).fetchone()
            wrong = source.replace("- (not s.is_called)::int", "")
            assert wrong != source
            await connection.execute(wrong.encode())
        async with store.build_projection_daemon(HURRIED) as daemon:
            await daemon.start_all()
            await first.execute(INSERT, (UUID(int=1), 1))
            async with store.connection() as connection:
                await connection.execute(INSERT, (UUID(int=2), 1))
            for number in range(1, SHARDS + 1):
                with trio.fail_after(60):
                    await daemon.wait_for(f"recorder {number}", 1)
            await first.commit()
            await daemon.wait_for_non_stale_results(timeout=60)
        assert (await judge(store)).lost == SHARDS


class Apart(Store):
    """Looks at the mark and reads the page by two calls, either of which may be broken."""

    async def look(self, floor, *, leading_edge_buffer=0.0, **how):
        mark = await self.high_water(leading_edge_buffer=leading_edge_buffer)
        return mark, await self.fetch_page(floor, mark, **how)


class BeyondWhatWasScanned(Apart):
    """A full page claims to end at the mark instead of at its last event."""

    async def fetch_page(self, floor, mark, **more):
        page = await super().fetch_page(floor, mark, **more)
        return attrs.evolve(page, ceiling=mark)


async def test_a_ceiling_beyond_what_was_scanned_loses_events(scene):
    assert await loses_events(scene, BeyondWhatWasScanned)


class HighestSequence(Apart):
    """The mark is the highest sequence that is visible, looked at by each reader by itself."""

    async def high_water(self, **_):
        return await self.highest_sequence()


async def test_the_highest_visible_sequence_as_the_mark_loses_events(scene):
    assert await loses_events(scene, HighestSequence)


async def test_events_that_are_handed_over_across_a_gap_lose_events(scene, monkeypatch):
    """The number in between may be of an append that is open still."""
    take = Handover.take

    def take_the_next_there_is(handover, mark, *how):
        following = min((each for each in handover._handed if each > mark), default=mark + 1)
        page = take(handover, following - 1, *how)
        return page and attrs.evolve(page, floor=mark)

    monkeypatch.setattr(Handover, "take", take_the_next_there_is)
    assert await loses_events(scene)


async def test_nothing_is_lost_where_most_events_are_handed_over(scene, soak, monkeypatch):
    pages, take = [], Handover.take

    def note(handover, *how):
        pages.append(take(handover, *how))
        return pages[-1]

    monkeypatch.setattr(Handover, "take", note)
    for seed in range(soak(2, 20)):
        async with scene() as store:
            verdict = await run_writers(store, soak(40, 200), seed, write_mostly_here)
            assert verdict.is_good, verdict
            async with store.connection() as connection:
                await connection.execute("drop schema faults cascade")
    handed = sum(page.ceiling - page.floor for page in pages if page)
    LOG.info("%s events were handed over", handed)
    assert handed > 20
