"""Projections that run inline are rebuilt while appends go on, and no update of theirs is lost."""

from contextlib import aclosing, suppress
from uuid import UUID, uuid4

import attrs
import pytest
import trio
from psycopg import sql

from flowstore.daemon import DaemonSettings, open_store
from flowstore.errors import RebuildError
from flowstore.projections import AsyncOptions, Composite, FlatTable, Lifecycle
from flowstore.store import NoShadowError, StoreOptions
from tests.daemon.totals import (
    STREAMS,
    Counted,
    Label,
    Named,
    Total,
    append,
    expected,
    fill,
    leftovers,
    spoil,
    totals,
)

PATIENCE = 60


@attrs.define(eq=False)
class Ledger:
    """Writes a row for each event by SQL of its own: no shadow can take that in."""

    table: str
    name: str = "ledger"
    consumes: tuple = (Counted,)
    produces: type | None = None
    async_options: AsyncOptions = attrs.field(factory=AsyncOptions)
    poison: int | None = None

    def apply(self, session, streams):
        for stream in streams:
            for event in stream.events:
                if event.sequence == self.poison:
                    raise ValueError("poison")
                session.execute(
                    f"insert into {self.table} (shard, sequence) values ('ledger', %s)",
                    event.sequence,
                )

    async def teardown(self, session):
        session.execute(f"delete from {self.table} where shard = 'ledger'")


@pytest.fixture
def options(options):
    options.projections.aggregate_streams_with(
        Total, lifecycle=Lifecycle.INLINE, async_options=AsyncOptions(page_size=5)
    )
    return options


async def rebuild(store, name, **more):
    async with store.build_projection_daemon() as daemon:
        await daemon.rebuild(name, **more)


# -- what it gives --


@pytest.mark.parametrize("swap", [True, False])
async def test_a_rebuild_gives_what_live_aggregation_gives_without_orphans(store, swap):
    await fill(store, *range(30))
    await spoil(store)
    await rebuild(store, Total, swap=swap)
    assert await totals(store) == await expected(store)
    assert await store.progress(Total) == 0
    assert await leftovers(store) == []


async def test_a_projection_that_was_registered_late_is_filled(opening):
    async with opening() as store:
        await fill(store, *range(30))
    late = StoreOptions(schema=store.options.schema)
    late.projections.aggregate_streams_with(Total, lifecycle=Lifecycle.INLINE)
    async with open_store(store.dsn, late) as store:
        assert await totals(store) == []
        await rebuild(store, Total)
        assert await totals(store) == await expected(store)
        assert len(await totals(store)) == 7
        await fill(store, *range(30, 35))
        assert await totals(store) == await expected(store)


async def test_imported_events_are_seen_by_the_next_rebuild(store):
    await fill(store, *range(30))
    await store.import_events([(STREAMS[0], Counted(100)), (STREAMS[1], Counted(200))])
    assert await totals(store) != await expected(store)
    await rebuild(store, Total)
    assert await totals(store) == await expected(store)


async def test_a_rebuild_of_an_empty_store_deletes_what_is_there(store):
    async with store.session() as session:
        session.store(Total(uuid4(), 77))
        await session.save_changes()
    await rebuild(store, Total)
    assert await totals(store) == []


async def test_a_second_rebuild_writes_nothing(store):
    await fill(store, *range(30))
    rows = sql.SQL("select id, version, xmin::text from {} order by id").format(
        sql.Identifier(store.options.schema, "doc_total")
    )

    async def written():
        async with store.connection() as connection:
            return await (await connection.execute(rows)).fetchall()

    await rebuild(store, Total)
    before = await written()
    await rebuild(store, Total)
    assert await written() == before


async def test_composites_and_flat_tables_are_rebuilt(opening):
    async with opening() as store:
        schema = store.options.schema
    options = StoreOptions(schema=schema)
    table = FlatTable("counts", key="stream", key_type=UUID, columns={"number": int}).on(
        Counted, increment={"number": "by"}
    )
    options.projections.add(
        Composite("both").stage(Total).stage(Label, table), lifecycle=Lifecycle.INLINE
    )
    async with open_store(store.dsn, options) as store:
        await fill(store, *range(12))
        await append(store, Named("x"), to=STREAMS[0])
        counts = sql.SQL("select stream, number from {} order by 1").format(
            sql.Identifier(schema, "counts")
        )
        async with store.connection() as connection:
            right = await (await connection.execute(counts)).fetchall()
            await connection.execute(
                sql.SQL("delete from {}").format(sql.Identifier(schema, "counts"))
            )
        await spoil(store)
        async with store.session() as session:
            session.store(Label(STREAMS[0], "wrong"))
            await session.save_changes()
        await rebuild(store, "both")
        assert await totals(store) == await expected(store)
        assert await store.session().find(Label) == [Label(STREAMS[0], "x")]
        async with store.connection() as connection:
            assert await (await connection.execute(counts)).fetchall() == right


async def test_a_rebuild_leaves_asynchronous_ones_alone(store, recorder):
    await fill(store, *range(30))
    async with store.build_projection_daemon() as daemon:
        await daemon.catch_up()
        calls = len(recorder.calls)
        await daemon.rebuild(Total)
        assert (len(recorder.calls), await store.progress(recorder)) == (calls, 30)


# -- beside writers --


async def write(store, writer, count, over=None):
    """Append to shared streams, so often."""
    for number in range(count):
        await append(store, Counted(1000 * writer + number), to=STREAMS[(writer + number) % 7])
    if over is not None:
        over.set()


@pytest.mark.parametrize("writers", [4])
async def test_no_update_is_lost_or_doubled_beside_writers(store, writers):
    await fill(store, *range(30))
    overs = [trio.Event() for _ in range(writers)]
    rebuilds, rebuilt = 0, trio.Event()

    async def write_twice(writer, over):
        await write(store, writer, 30)
        await rebuilt.wait()  # however fast it is
        await write(store, 100 + writer, 30, over)

    with trio.fail_after(300):
        async with trio.open_nursery() as nursery:
            for writer, over in enumerate(overs, 1):
                nursery.start_soon(write_twice, writer, over)
            while not all(over.is_set() for over in overs):
                await spoil_one(store)
                await rebuild(store, Total)
                rebuilds += 1
                rebuilt.set()
                assert len(await totals(store)) == 7
    assert rebuilds > 1
    found = await totals(store)
    assert found == await expected(store)
    assert sum(len(total.seen) for total in found) == 30 + 60 * writers
    assert await leftovers(store) == []


async def spoil_one(store):
    """Delete a document, as if an update had been lost."""
    async with store.session() as session:
        session.delete_by_id(Total, STREAMS[3])
        await session.save_changes()


async def test_a_projection_with_sql_of_its_own_is_rebuilt_while_appends_wait(store, table):
    store.options.projections.add(Ledger(table.name), lifecycle=Lifecycle.INLINE)
    await fill(store, *range(30))
    stop = trio.Event()
    seen = []

    async def read():
        while not stop.is_set():
            seen.append(len(await table.sequences(store, "ledger")))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        async with trio.open_nursery() as writing:
            for writer in (1, 2):
                writing.start_soon(write, store, writer, 30)
            for _ in range(3):
                await rebuild(store, "ledger")
        stop.set()
    found = await table.sequences(store, "ledger")
    assert sorted(found) == list(range(1, await store.highest_sequence() + 1))
    assert min(seen) >= 30
    assert await totals(store) == await expected(store)


class Gates:
    """Stops a projection before it applies some events: each once, and tells that it has."""

    def __init__(self, *sequences):
        self.entered = {sequence: trio.Event() for sequence in sequences}
        self.opened = {sequence: trio.Event() for sequence in sequences}

    async def before(self, streams):
        last = max(stream.events[-1].sequence for stream in streams)
        if last in self.opened and not self.entered[last].is_set():
            self.entered[last].set()
            await self.opened[last].wait()


@attrs.define(eq=False)
class Gated:
    inner: object
    gates: Gates
    beside_only: bool

    def __getattr__(self, name):
        return getattr(self.inner, name)

    async def apply(self, session, streams):
        if type(session).__name__ == "ShadowUnit" or not self.beside_only:
            await self.gates.before(streams)
        applying = self.inner.apply(session, streams)
        if applying is not None:
            await applying


def gate(store, index, *sequences, beside_only=True):
    registered = store.options.projections._registered
    gated = Gated(registered[index].projection, Gates(*sequences), beside_only)
    registered[index] = attrs.evolve(registered[index], projection=gated)
    return gated.gates


async def until_it_waits_or_is_done(store, done):
    """Wait until somebody waits for the events table, or the append is through after all."""
    waiting = "select from pg_locks where relation = %s::regclass and not granted"
    events = sql.Identifier(store.options.schema, "events").as_string()
    async with store.connection() as connection:
        with trio.fail_after(PATIENCE):
            while not done.is_set():
                cursor = await connection.execute(waiting, (events,))
                if cursor.rowcount:
                    return
                await trio.sleep(0.01)


async def test_an_append_between_the_last_page_and_the_change_waits_and_is_on_the_new_view(store):
    await fill(store, *range(3))
    await spoil(store)
    gates = gate(store, 0, 3, 4)
    done = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rebuild, store, "Total")
        await gates.entered[3].wait()
        await fill(store, 3)  # is left for when appends have to wait
        gates.opened[3].set()
        await gates.entered[4].wait()
        nursery.start_soon(write, store, 1, 1, done)
        await until_it_waits_or_is_done(store, done)
        assert not done.is_set()
        gates.opened[4].set()
        with trio.fail_after(PATIENCE):
            await done.wait()
    assert await totals(store) == await expected(store)
    seen = [number for total in await totals(store) for number in total.seen]
    assert sorted(seen) == [0, 1, 2, 3, 1000]


async def test_an_append_beside_a_rebuild_that_keeps_all_out_waits_and_is_in_the_end_once(
    store, table
):
    store.options.projections.add(Ledger(table.name), lifecycle=Lifecycle.INLINE)
    await fill(store, *range(3))
    gates = gate(store, 1, 3, beside_only=False)
    done = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rebuild, store, "ledger")
        await gates.entered[3].wait()
        nursery.start_soon(write, store, 1, 1, done)
        await until_it_waits_or_is_done(store, done)
        assert not done.is_set()
        assert await table.sequences(store, "ledger") == [1, 2, 3]  # as it was, for readers
        gates.opened[3].set()
    assert sorted(await table.sequences(store, "ledger")) == [1, 2, 3, 4]


async def test_an_event_of_the_last_page_that_fails_is_set_aside_under_the_projections_name(
    opening,
):
    async with opening() as store:
        schema = store.options.schema
    options = StoreOptions(schema=schema)
    options.projections.aggregate_streams_with(
        Strict,
        lifecycle=Lifecycle.INLINE,
        async_options=AsyncOptions(on_rebuild_error="dead_letter"),
    )
    async with open_store(store.dsn, options) as store, trio.open_nursery() as nursery:
        await fill(store, *range(3))
        gates = gate(store, 0, 3)
        nursery.start_soon(rebuild, store, "Strict")
        await gates.entered[3].wait()
        await append(store, Counted(17))
        POISON.add(17)
        gates.opened[3].set()
    POISON.clear()
    async with open_store(store.dsn, options) as store:
        letters = [(letter.shard, letter.sequence) for letter in await store.dead_letters()]
        assert letters == [("Strict", 4)]
        assert sum(each.number for each in await store.session().find(Strict)) == 3
        assert await leftovers(store) == []


@attrs.define(eq=False)
class Reluctant:
    """Writes by SQL of its own for a late event only, and takes no refusal."""

    name: str = "reluctant"
    consumes: tuple = (Counted,)
    produces: type | None = Label
    async_options: AsyncOptions = attrs.field(factory=AsyncOptions)
    sessions: list[str] = attrs.field(factory=list)

    def apply(self, session, streams):
        self.sessions.append(type(session).__name__)
        for stream in streams:
            last = stream.events[-1].sequence
            if last > 3:
                with suppress(NoShadowError):
                    session.execute("select 1")
            session.store(Label(stream.id, str(last)))


async def test_what_no_shadow_takes_in_on_the_last_page_is_rebuilt_without_one(opening):
    async with opening() as store:
        schema = store.options.schema
    options = StoreOptions(schema=schema)
    projection = Reluctant()
    options.projections.add(projection, lifecycle=Lifecycle.INLINE)
    async with open_store(store.dsn, options) as store:
        await fill(store, *range(3))
        gates = gate(store, 0, 3)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rebuild, store, "reluctant")
            await gates.entered[3].wait()
            await fill(store, 3)
            gates.opened[3].set()
        assert projection.sessions[-2:] == ["ShadowUnit", "ProjectionUnit"]
        found = {label.id: label.name for label in await store.session().find(Label)}
        assert found == {STREAMS[number]: str(number + 1) for number in range(4)}
        assert await leftovers(store) == []


async def test_a_rebuild_that_keeps_all_out_reads_what_the_projection_consumes(store, table):
    store.options.projections.add(Ledger(table.name), lifecycle=Lifecycle.INLINE)
    await fill(store, *range(3))
    await append(store, Named("not consumed"))
    async with store.session() as session:
        session.events.archive_stream(STREAMS[1])
        await session.save_changes()
    await rebuild(store, "ledger")
    assert sorted(await table.sequences(store, "ledger")) == [1, 3]


async def test_an_open_append_holds_nobody_up_where_no_shadow_is_possible(store, table):
    store.options.projections.add(Ledger(table.name), lifecycle=Lifecycle.INLINE)
    await fill(store, *range(3))
    name = next(iter(store.options.events.stored_names(Counted)))
    insert = sql.SQL(
        "insert into {} (stream_id, version, type, data) values (%s, 1, %s, '{{\"by\": 5}}')"
    ).format(sql.Identifier(store.options.schema, "events"))
    done = trio.Event()

    async def run():
        await rebuild(store, "ledger")
        done.set()

    async with store.connection() as connection, trio.open_nursery() as nursery:
        async with connection.transaction():
            await connection.execute(insert, (UUID(int=99), name))
            nursery.start_soon(run)
            await until_it_waits_or_is_done(store, done)
            with trio.fail_after(PATIENCE):
                await fill(store, *range(3, 8))
            assert not done.is_set()
        with trio.fail_after(PATIENCE):
            await done.wait()
    assert sorted(await table.sequences(store, "ledger")) == list(range(1, 10))


async def test_of_two_rebuilds_at_once_in_two_processes_the_later_one_wins(store):
    await fill(store, *range(30))
    await spoil(store)
    gates = gate(store, 0, 5)
    options = StoreOptions(schema=store.options.schema)
    options.projections.aggregate_streams_with(Total, lifecycle=Lifecycle.INLINE)

    async def rebuild_first():
        with pytest.raises(RebuildError, match="another rebuild of it has begun"):
            await rebuild(store, "Total")

    async with open_store(store.dsn, options) as other, trio.open_nursery() as nursery:
        nursery.start_soon(rebuild_first)
        await gates.entered[5].wait()
        await rebuild(other, Total)
        gates.opened[5].set()
    assert await totals(store) == await expected(store)
    assert await leftovers(store) == []
    await fill(store, *range(30, 33))
    assert await totals(store) == await expected(store)


async def test_two_rebuilds_that_keep_all_out_take_turns(store, table):
    store.options.projections.add(Ledger(table.name), lifecycle=Lifecycle.INLINE)
    await fill(store, *range(8))
    with trio.fail_after(PATIENCE):
        async with (
            store.build_projection_daemon() as one,
            store.build_projection_daemon() as other,
            trio.open_nursery() as nursery,
        ):
            for daemon in (one, other, one):
                nursery.start_soon(daemon.rebuild, "ledger")
            nursery.start_soon(one.rebuild, "Total")
            nursery.start_soon(write, store, 1, 5)
    assert sorted(await table.sequences(store, "ledger")) == list(range(1, 14))


async def test_a_writer_that_has_read_the_view_in_its_transaction_isnt_failed(store):
    await fill(store, *range(30))
    async with store.session() as session:
        await session.events.append_exclusive(STREAMS[0], Counted(100))
        assert await session.load(Total, STREAMS[0]) is not None
        with trio.fail_after(PATIENCE):
            await rebuild(store, Total)
        await session.save_changes()
    assert await totals(store) == await expected(store)


async def test_an_open_append_is_waited_for_and_others_go_on_meanwhile(store):
    await fill(store, *range(30))
    name = next(iter(store.options.events.stored_names(Counted)))
    insert = sql.SQL(
        "insert into {} (stream_id, version, type, data) values (%s, 1, %s, '{{\"by\": 5}}')"
    ).format(sql.Identifier(store.options.schema, "events"))
    done = trio.Event()

    async def run():
        await rebuild(store, Total)
        done.set()

    async with store.connection() as connection, trio.open_nursery() as nursery:
        async with connection.transaction():
            await connection.execute(insert, (UUID(int=99), name))
            nursery.start_soon(run)
            await until_it_waits_or_is_done(store, done)
            with trio.fail_after(PATIENCE):
                await fill(store, *range(30, 50))
            assert not done.is_set()
        with trio.fail_after(PATIENCE):
            await done.wait()
    late = await store.session().load(Total, UUID(int=99))
    assert late == Total(UUID(int=99), 5, [5])


async def test_a_store_of_few_connections_is_no_obstacle(store):
    await fill(store, *range(30))
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            for writer in range(1, 16):  # more than the pool has connections
                nursery.start_soon(write, store, writer, 10)
            await rebuild(store, Total)
    assert await totals(store) == await expected(store)


async def test_readers_see_the_old_view_whole_and_then_the_new_one_whole(store):
    await fill(store, *range(30))
    await spoil(store)
    old = sorted(map(repr, await totals(store)))
    new = sorted(map(repr, await expected(store)))
    seen = []
    stop = trio.Event()

    async def read():
        while not stop.is_set():
            seen.append(sorted(map(repr, await store.session().find(Total))))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await rebuild(store, Total)
        before = len(seen)
        while len(seen) < before + 3:  # noqa: ASYNC110 - what others do is polled
            await trio.sleep(0.001)
        stop.set()
    assert [view for view in seen if view not in (old, new)] == []
    assert seen[-1] == new


# -- failures --


@pytest.mark.parametrize("policy", ["stop", "dead_letter"])
async def test_an_event_that_cant_be_applied(store, table, policy):
    ledger = Ledger(table.name, async_options=AsyncOptions(page_size=4, on_rebuild_error=policy))
    store.options.projections.add(ledger, lifecycle=Lifecycle.INLINE)
    await fill(store, *range(30))
    ledger.poison = 18
    if policy == "stop":
        with pytest.raises(RebuildError, match=r"'ledger' .*sequence 18: ValueError: poison"):
            await rebuild(store, "ledger")
    else:
        await rebuild(store, "ledger")
    found = await table.sequences(store, "ledger")
    if policy == "stop":
        assert sorted(found) == list(range(1, 31))
        assert await store.dead_letters() == []
    else:
        assert sorted(found) == [*range(1, 18), *range(19, 31)]
        assert [letter.sequence for letter in await store.dead_letters("ledger")] == [18]
    await fill(store, 30)


@attrs.define
class Strict:
    id: UUID
    number: int = 0

    def apply(self, counted: Counted) -> None:
        if counted.by in POISON:
            raise ValueError("poison")
        self.number += 1


POISON: set[int] = set()


@pytest.fixture
def poison():
    POISON.add(17)
    yield
    POISON.clear()


@pytest.mark.parametrize("policy", ["stop", "dead_letter"])
async def test_an_event_that_fails_beside_the_view(opening, policy, request):
    async with opening() as store:
        schema = store.options.schema
    options = StoreOptions(schema=schema)
    options.projections.aggregate_streams_with(
        Strict,
        lifecycle=Lifecycle.INLINE,
        async_options=AsyncOptions(page_size=4, on_rebuild_error=policy),
    )
    async with open_store(store.dsn, options) as store:
        await fill(store, *range(30))
        request.getfixturevalue("poison")
        if policy == "stop":
            with pytest.raises(RebuildError, match="sequence 18"):
                await rebuild(store, Strict)
        else:
            await rebuild(store, Strict)
        found = sum(each.number for each in await store.session().find(Strict))
        letters = [(letter.shard, letter.sequence) for letter in await store.dead_letters()]
        expected = (30, []) if policy == "stop" else (29, [("Strict", 18)])
        assert (found, letters) == expected
        assert await leftovers(store) == []


@pytest.mark.parametrize("moment", range(10))
async def test_a_rebuild_cancelled_at_any_moment_is_done_or_not(store, moment):
    await fill(store, *range(30))
    await spoil(store)
    old = sorted(map(repr, await totals(store)))
    new = sorted(map(repr, await expected(store)))
    async with store.build_projection_daemon() as daemon:
        with trio.move_on_after(0.01 * moment):
            await daemon.rebuild(Total)
        assert sorted(map(repr, await totals(store))) in (old, new)
        with trio.fail_after(PATIENCE):
            await fill(store, *range(30, 37))  # nothing keeps appends out any more
            await daemon.rebuild(Total)
    assert await totals(store) == await expected(store)
    assert await leftovers(store) == []


async def test_statuses_tell_how_far_it_is(store):
    await fill(store, *range(30))
    seen = []

    async def watch(daemon, task_status):
        async with aclosing(daemon.watch()) as statuses:
            task_status.started()
            async for status in statuses:
                seen.append(status)  # noqa: PERF401 - a comprehension shows it at its end

    async with (
        store.build_projection_daemon(DaemonSettings()) as daemon,
        trio.open_nursery() as nursery,
    ):
        await nursery.start(watch, daemon)
        assert daemon.statuses() == []
        await daemon.rebuild(Total)
        assert daemon.statuses() == []
        with trio.fail_after(PATIENCE):
            while not seen or seen[-1].state != "stopped":  # noqa: ASYNC110
                await trio.sleep(0.001)
        nursery.cancel_scope.cancel()
    rebuilding = [status for status in seen if status.state == "rebuilding"]
    assert {status.name for status in seen} == {"Total"}
    assert {status.high_water_mark for status in rebuilding} <= {0, 30}
    assert any("% of 30" in status.reason for status in rebuilding)
    assert (seen[-1].progress, seen[-1].lag) == (30, 0)
