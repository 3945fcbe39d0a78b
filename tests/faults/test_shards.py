"""Trouble with the database passes and is nobody's poison; trouble of one shard is no other's."""

import itertools
from contextlib import aclosing, asynccontextmanager
from typing import ClassVar
from uuid import UUID, uuid4

import attrs
import pytest
import trio

from flowstore import (
    AsyncOptions,
    DaemonSettings,
    DatabaseUnavailableError,
    FlatTable,
    Store,
    StoreOptions,
)
from flowstore.events import in_sequence
from flowstore.postgres import Connection
from flowstore.projections import (
    Composite,
    across_streams_projection,
    aggregate_projection,
)
from flowstore.store import open_event_store

SETTINGS = DaemonSettings(
    slow_polling_time=0.01, retry_time=0.01, longest_retry_time=0.05, stop_and_drain_timeout=0.2
)
EVENTS = 12


@attrs.frozen
class Happened:
    number: int = 0


@attrs.define
class Recorder:
    """Writes each event down in the transaction of its progress."""

    table: str
    name: str = "recorder"
    before: object = None
    async_options: AsyncOptions = attrs.field(factory=lambda: AsyncOptions(page_size=4))
    consumes: tuple = ()
    produces: type | None = None

    async def apply(self, session, streams):
        events = in_sequence(streams)
        if self.before is not None:
            await self.before(session, events)
        for event in events:
            insert = f"insert into {self.table} (shard, sequence) values (%s, %s)"
            session.execute(insert, self.name, event.sequence)


@pytest.fixture
def scene(pg_dsn, schema):
    @asynccontextmanager
    async def open_scene(*recorders, register=lambda projections: None, cls=Store):
        options = StoreOptions(schema=schema)
        options.events.add_types(Happened)
        for recorder in recorders:
            options.projections.add(recorder)
        register(options.projections)
        async with open_event_store(pg_dsn, options, cls=cls) as store:
            async with store.connection() as connection:
                await connection.execute(
                    f"create table {schema}.seen (place bigint generated always as identity,"
                    " shard text, sequence bigint)"
                )
                await connection.execute(f"create table {schema}.rows (id int primary key, n int)")
                await connection.execute(f"insert into {schema}.rows values (1, 0), (2, 0)")
            yield store

    return open_scene


@pytest.fixture
def make(schema):
    def make_recorder(name="recorder", **more):
        return Recorder(f"{schema}.seen", name, **more)

    return make_recorder


async def append(store, count=EVENTS):
    async with store.session() as session:
        session.events.append(uuid4(), *map(Happened, range(count)))
        await session.save_changes()


async def seen(store, shard="recorder"):
    async with store.connection() as connection:
        cursor = await connection.execute(
            f"select sequence from {store.options.schema}.seen where shard = %s order by place",
            (shard,),
        )
        return [sequence for (sequence,) in await cursor.fetchall()]


async def check_nothing_happened(store):
    """Everything was applied once, and nothing was set aside."""
    assert await store.dead_letters() == []
    assert await seen(store) == list(range(1, EVENTS + 1))


WAITING = "where wait_event_type = 'Lock' and query like %s"


async def until_somebody_waits(store):
    query = f"select count(*) from pg_stat_activity {WAITING}"
    with trio.fail_after(20):
        async with store.connection() as connection:  # a transaction would see its first look again
            while True:
                cursor = await connection.execute(query, (f"%{store.options.schema}%",))
                if await cursor.fetchone() != (0,):
                    return
                await trio.sleep(0.005)


async def until(daemon, is_it):
    with trio.fail_after(20):
        async with aclosing(daemon.watch()) as statuses:
            async for status in statuses:
                if is_it(status):
                    return


# -- trouble that passes -------------------------------------------------------------------------

PASSING = ["40001", "40P01", "55P03", "53000", "53100", "53200", "53300", "57P01", "57P02", "57P03"]


@pytest.mark.parametrize("sqlstate", [*PASSING, "58030", "08006"])
@pytest.mark.parametrize("when", ["at once", "at the commit"])
async def test_what_passes_is_never_poison(sqlstate, when, scene, make, schema):
    """The server itself raises it, as often as a sequence says, which no rollback sets back."""
    async with scene(make()) as store:
        await append(store)
        deferred = "deferrable initially deferred" if when == "at the commit" else ""
        async with store.connection() as connection:
            await connection.execute(f"create sequence {schema}.attempts")
            await connection.execute(
                f"create function {schema}.fail() returns trigger language plpgsql as $$"
                f" begin if nextval('{schema}.attempts') < 5 then"
                f" raise exception 'passing' using errcode = '{sqlstate}'; end if;"
                " return null; end $$"
            )
            await connection.execute(
                f"create constraint trigger fail after insert on {schema}.seen {deferred}"
                f" for each row execute function {schema}.fail()"
            )
        async with store.build_projection_daemon(SETTINGS) as daemon:
            await daemon.start_all()
            await daemon.wait_for_non_stale_results(timeout=20)
        await check_nothing_happened(store)


async def test_a_deadlock_is_never_poison(scene, make, schema, pg_dsn):
    async def lock_both(session, events):
        session.execute(f"update {schema}.rows set n = n + 1 where id = 1")
        session.execute(f"update {schema}.rows set n = n + 1 where id = 2")

    async with scene(make(before=lock_both)) as store:
        await append(store)
        async with await Connection.connect(pg_dsn, autocommit=False) as other:
            await other.execute("set deadlock_timeout = '60s'")  # the shard is to be the victim
            await other.execute(f"update {schema}.rows set n = n + 100 where id = 2")
            async with store.build_projection_daemon(SETTINGS) as daemon:
                await daemon.start_all()
                await until_somebody_waits(store)
                with trio.fail_after(20):
                    await other.execute(f"update {schema}.rows set n = n + 100 where id = 1")
                await other.commit()
                await daemon.wait_for_non_stale_results(timeout=20)
        await check_nothing_happened(store)
        async with store.connection() as connection:
            cursor = await connection.execute(f"select n from {schema}.rows")
            assert await cursor.fetchall() == [(103,), (103,)]


async def test_a_lock_that_is_not_to_be_had_is_never_poison(scene, make, schema, pg_dsn):
    async def insist(session, events):
        session.execute(f"select from {schema}.rows where id = 1 for update nowait")

    async with scene(make(before=insist)) as store:
        await append(store)
        async with await Connection.connect(pg_dsn, autocommit=False) as other:
            await other.execute(f"select from {schema}.rows where id = 1 for update")
            async with store.build_projection_daemon(SETTINGS) as daemon:
                await daemon.start_all()
                await until(daemon, lambda status: "lock" in status.reason)
                await other.rollback()
                await daemon.wait_for_non_stale_results(timeout=20)
        await check_nothing_happened(store)


async def test_a_connection_that_is_ended_in_the_middle_of_a_page_is_never_poison(
    scene, make, schema, pg_dsn
):
    async def lock_one(session, events):
        session.execute(f"update {schema}.rows set n = n + 1 where id = 1")

    async with scene(make(before=lock_one)) as store:
        await append(store)
        async with await Connection.connect(pg_dsn, autocommit=False) as other:
            await other.execute(f"select from {schema}.rows where id = 1 for update")
            async with store.build_projection_daemon(SETTINGS) as daemon:
                await daemon.start_all()
                for _ in range(3):
                    await until_somebody_waits(store)
                    async with store.connection() as connection:
                        await connection.execute(
                            f"select pg_terminate_backend(pid, 5000) from pg_stat_activity {WAITING}",
                            (f"%{schema}%",),
                        )
                await other.rollback()
                await daemon.wait_for_non_stale_results(timeout=20)
        await check_nothing_happened(store)


class CutOff(Store):
    """Can't be reached at times, just when somebody looks where a shard stands."""

    looks: ClassVar = itertools.count(1)

    async def standing(self, projection):
        if next(self.looks) % 3:
            message = "cut off"
            raise DatabaseUnavailableError(message)
        return await super().standing(projection)


async def test_trouble_beside_poison_is_waited_out(scene, make):
    """Before an event is set aside the progress tells whether it was committed after all."""

    async def fail(session, events):
        if any(event.data.number == 7 for event in events):
            raise ValueError

    async with scene(make(before=fail), cls=CutOff) as store:
        await append(store)
        async with store.build_projection_daemon(SETTINGS) as daemon:
            await daemon.start_all()
            await daemon.wait_for_non_stale_results(timeout=20)
        assert [letter.sequence for letter in await store.dead_letters()] == [8]
        assert await seen(store) == [1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12]
        assert next(store.looks) > 3


# -- one shard's trouble is no other's -----------------------------------------------------------


async def test_one_slow_shard_delays_no_other(scene, make):
    opened = trio.Event()

    async def wait(session, events):
        await opened.wait()

    others = [make(f"other {number}") for number in range(4)]
    async with scene(make(before=wait), *others) as store:
        async with store.build_projection_daemon(SETTINGS) as daemon:
            await daemon.start_all()
            for count in range(1, 4):
                await append(store)
                with trio.fail_after(20):
                    for other in others:
                        await daemon.wait_for(other.name, count * EVENTS)
            assert await seen(store) == []
            assert daemon.statuses()[0].progress == 0
            opened.set()
            await daemon.wait_for_non_stale_results(timeout=20)
        for name in ("recorder", *(other.name for other in others)):
            assert await seen(store, name) == list(range(1, 3 * EVENTS + 1))


async def test_shards_that_fail_cancel_none_of_their_siblings(scene, make):
    async def fail(session, events):
        if events[-1].sequence > EVENTS:
            raise ValueError

    stops = AsyncOptions(page_size=4, on_error="stop")
    failing = [make(f"failing {n}", before=fail, async_options=stops) for n in range(3)]
    others = [make(f"other {number}") for number in range(3)]
    async with scene(*failing, *others) as store:
        async with store.build_projection_daemon(SETTINGS) as daemon:
            await daemon.start_all()
            for count in range(1, 4):
                await append(store)
                with trio.fail_after(20):
                    for other in others:
                        await daemon.wait_for(other.name, count * EVENTS)
            for each in failing:
                await until(daemon, lambda it, n=each.name: (it.name, it.state) == (n, "failed"))
            states = {status.name: status.state for status in daemon.statuses()}
            assert [states[other.name] for other in others] == ["running"] * 3
        for other in others:
            assert await seen(store, other.name) == list(range(1, 3 * EVENTS + 1))
        for each in failing:
            assert await seen(store, each.name) == list(range(1, EVENTS + 1))


async def test_pages_that_take_longer_than_a_stop_may_are_rolled_back(scene, make):
    entered = trio.Event()

    async def hang(session, events):
        if events[-1].sequence > 4:
            entered.set()
            await trio.sleep_forever()

    async with scene(recorder := make(before=hang)) as store:
        await append(store)
        with trio.fail_after(20):
            async with store.build_projection_daemon(SETTINGS) as daemon:
                await daemon.start_all()
                await entered.wait()
                await daemon.stop_all()
        assert await seen(store) == [1, 2, 3, 4]
        recorder.before = None
        async with store.build_projection_daemon(SETTINGS) as daemon:
            await daemon.catch_up()
        await check_nothing_happened(store)


# -- poison in projections of each kind ----------------------------------------------------------


@attrs.define
class Total:
    id: UUID
    number: int = 0

    def apply(self, happened: Happened) -> None:
        if happened.number == 7:
            raise ZeroDivisionError
        self.number += happened.number


@attrs.define
class Seventh:
    id: int


def by_number(happened: Happened) -> Seventh | None:
    return Seventh(happened.number // (happened.number - 7))


def split(happened):
    return [happened.number // (happened.number - 7)]


@attrs.define
class Split:
    id: int

    def apply(self, happened: Happened) -> None:
        pass


async def subscribe(session, events):
    for event in events:
        assert event.data.number != 7


KINDS = {
    "aggregate": lambda projections: projections.aggregate_streams_with(Total),
    "across streams": lambda projections: projections.aggregate_across_streams(
        Split, group_by={Happened: split}
    ),
    "transform": lambda projections: projections.transform(by_number),
    "subscription": lambda projections: projections.subscribe("subscriber", subscribe),
    "flat table": lambda projections: projections.add(
        FlatTable("flat", key="id", key_type=UUID, columns={"n": int}).on(
            Happened, set={"n": lambda event: 1 // (event.number - 7)}
        )
    ),
    "composite": lambda projections: projections.add(
        Composite("both")
        .stage(aggregate_projection(Total))
        .stage(across_streams_projection(Split, group_by={Happened: split}))
    ),
    "any projection": lambda projections: projections.add(aggregate_projection(Total)),
}


@pytest.mark.parametrize("kind", KINDS)
async def test_poison_in_a_projection_of_each_kind_never_vanishes(kind, scene):
    async with scene(register=KINDS[kind]) as store:
        await append(store)
        async with store.build_projection_daemon(SETTINGS) as daemon:
            await daemon.start_all()
            await until(daemon, lambda it: it.progress == EVENTS or it.state == "failed")
            (status,) = daemon.statuses()
        letters = await store.dead_letters()
        if kind == "subscription":  # an error holds a subscription where it is
            assert (status.state, status.progress, letters) == ("failed", 7, [])
            assert status.error.sequence == 8
        else:
            assert [letter.sequence for letter in letters] == [8]
            assert "Error" in letters[0].error_type
