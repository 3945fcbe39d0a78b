"""A view is rebuilt beside the one that serves, and takes its place in one moment."""

from contextlib import aclosing
from uuid import UUID, uuid4

import attrs
import pytest
import trio
from psycopg import sql
from trio.testing import wait_all_tasks_blocked

from flowstore.daemon import open_store
from flowstore.errors import ConcurrencyError, ProgressConflictError, RebuildError
from flowstore.events import DeadLetter
from flowstore.projections import AsyncOptions, Composite, FlatTable, Lifecycle
from flowstore.store import StoreOptions
from flowstore.store._shadow_unit import shadow_table
from tests.daemon.totals import (
    STREAMS,
    Counted,
    Gate,
    Gated,
    Label,
    Named,
    Total,
    append,
    expected,
    fill,
    gate_of,
    is_shadows,
    leftovers,
    spoil,
    totals,
)


@pytest.fixture
def options(options):
    options.documents.type(Total, optimistic_concurrency=True, indexes=("number",))
    options.projections.aggregate_streams_with(Total, async_options=AsyncOptions(page_size=4))
    return options


def table(store, statement, name="doc_total"):
    return _put(statement, store.options.schema, name)


def _put(statement, schema, name):
    where = sql.Identifier(schema, name).as_string()
    return statement.replace("{}", where).replace("{{", "{").replace("}}", "}").encode()


async def fetch(store, statement, *parameters):
    async with store.connection() as connection:
        cursor = await connection.execute(statement, parameters or None)
        return await cursor.fetchall()


@pytest.fixture
async def filled(store):
    """Documents that follow thirty events of seven streams."""
    await fill(store, *range(30))
    async with store.build_projection_daemon() as daemon:
        await daemon.catch_up()
    return store


# -- what it gives --


async def test_a_swap_gives_what_was_there_without_orphans(filled):
    await spoil(filled)
    assert len(await totals(filled)) == 10
    async with filled.build_projection_daemon() as daemon:
        await daemon.rebuild(Total, swap=True)
        (status,) = daemon.statuses()
        assert (status.state, status.progress) == ("stopped", 30)
    assert await totals(filled) == await expected(filled)
    assert await filled.progress(Total) == 30
    assert await leftovers(filled) == []


async def test_a_swap_of_what_was_never_run_fills_it(store):
    await fill(store, *range(30))
    async with store.build_projection_daemon() as daemon:
        await daemon.rebuild(Total, swap=True)
    assert await totals(store) == await expected(store)


async def test_a_swap_in_an_empty_store_deletes_what_is_there(store):
    async with store.session() as session:
        session.store(Total(uuid4(), 77))
        await session.save_changes()
    async with store.build_projection_daemon() as daemon:
        await daemon.rebuild(Total, swap=True)
    assert await totals(store) == []
    assert await store.progress(Total) == 0
    assert await leftovers(store) == []


async def test_a_second_swap_writes_nothing(filled):
    async with filled.build_projection_daemon() as daemon:
        await daemon.rebuild(Total, swap=True)
        rows = table(filled, "select id, version, modified, xmin::text from {} order by id")
        before = await fetch(filled, rows)
        await daemon.rebuild(Total, swap=True)
    assert await fetch(filled, rows) == before


async def test_a_swap_leaves_other_projections_alone(filled, recorder):
    async with filled.build_projection_daemon() as daemon:
        await daemon.catch_up()
        calls = len(recorder.calls)
        await daemon.rebuild(Total, swap=True)
    assert len(recorder.calls) == calls
    assert await filled.progress(recorder) == 30


async def test_all_are_rebuilt_beside_their_views(filled):
    filled.options.projections.aggregate_streams_with(Label)
    await append(filled, Named("a"))
    async with filled.build_projection_daemon() as daemon:
        await daemon.rebuild_all(swap=True)
    assert await totals(filled) == await expected(filled)
    assert [label.name for label in await filled.session().find(Label)] == ["a"]


async def test_a_rule_that_has_changed_is_applied_to_everything(filled, opening):
    @attrs.define
    class Total:
        id: UUID
        number: int = 0
        seen: list[int] = attrs.field(factory=list)

        def apply(self, counted: Counted) -> None:
            self.number += 2 * counted.by

    async with opening() as other:
        other.options.projections.aggregate_streams_with(Total)
    async with (
        open_store(filled.dsn, other.options) as other,
        other.build_projection_daemon() as daemon,
    ):
        await daemon.rebuild(Total, swap=True)
    old = await expected(filled)
    assert [each.number for each in await totals(filled)] == [2 * each.number for each in old]


async def test_a_number_written_otherwise_is_another_document(filled):
    otherwise = "jsonb_set(data, '{{number}}', ((data ->> 'number') || '.0')::jsonb)"
    async with filled.connection() as connection:
        await connection.execute(table(filled, f"update {{}} set data = {otherwise}"))
    texts = table(filled, "select data ->> 'number' from {} order by id")
    assert all(text.endswith(".0") for (text,) in await fetch(filled, texts))
    async with filled.build_projection_daemon() as daemon:
        await daemon.rebuild(Total, swap=True)
    right = [str(total.number) for total in await expected(filled)]
    assert [text for (text,) in await fetch(filled, texts)] == right


# -- readers, writers and the shard meanwhile --


async def more(seen, count=10):
    """Wait until others have seen so much more."""
    enough = len(seen) + count
    with trio.fail_after(20):
        while len(seen) < enough:  # noqa: ASYNC110 - readers read as fast as they can
            await trio.sleep(0.001)


async def test_readers_see_the_old_view_whole_and_then_the_new_one_whole(filled):
    await spoil(filled)
    old = sorted(map(repr, await totals(filled)))
    new = sorted(map(repr, await expected(filled)))
    seen = []

    async def read(store, task_status=trio.TASK_STATUS_IGNORED):
        task_status.started()
        while True:
            seen.append(sorted(map(repr, await store.session().find(Total))))

    gated = gate_of(filled, after=20)
    async with open_store(filled.dsn, filled.options) as other, trio.open_nursery() as nursery:
        for store in (filled, filled, other):
            await nursery.start(read, store)
        async with (
            filled.build_projection_daemon() as daemon,
            trio.open_nursery() as rebuilding,
        ):
            rebuilding.start_soon(lambda: daemon.rebuild("Total", swap=True))
            await gated.gate.entered.wait()
            await more(seen)
            gated.gate.opened.set()
        await more(seen)
        nursery.cancel_scope.cancel()
    assert [view for view in seen if view not in (old, new)] == []
    assert seen[0] == old
    assert seen[-1] == new


async def test_a_snapshot_from_before_the_swap_still_shows_the_old_view_whole(filled):
    await spoil(filled)
    count = table(filled, "select count(*), sum((data ->> 'number')::int) from {}")
    (old,) = await fetch(filled, count)
    async with filled.connection() as connection, connection.transaction():
        await connection.execute("set transaction isolation level repeatable read")
        await connection.execute("select 1 from pg_class limit 1")
        async with filled.build_projection_daemon() as daemon:
            await daemon.rebuild(Total, swap=True)
        cursor = await connection.execute(count)
        assert await cursor.fetchone() == old
    assert await fetch(filled, count) != [old]


async def test_a_transaction_that_reads_the_view_holds_no_swap_up(filled):
    async with filled.connection() as connection, connection.transaction():
        await connection.execute(table(filled, "select * from {}"))
        async with filled.build_projection_daemon() as daemon:
            with trio.fail_after(20):
                await daemon.rebuild(Total, swap=True)


async def test_the_running_shard_and_appends_go_on_and_are_in_the_result_once(filled):
    gated = gate_of(filled, after=10)
    async with filled.build_projection_daemon() as daemon:
        await daemon.start_all()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: daemon.rebuild("Total", swap=True))
            await gated.gate.entered.wait()
            await fill(filled, *range(30, 50))
            await daemon.wait_for("Total", 50)
            assert await totals(filled) == await expected(filled)
            gated.gate.opened.set()
            await fill(filled, *range(50, 90))
        (status,) = daemon.statuses()
        assert status.state == "running"
        await fill(filled, *range(90, 100))
        await daemon.wait_for_non_stale_results()
    assert await totals(filled) == await expected(filled)
    assert sum(len(total.seen) for total in await totals(filled)) == 100


@pytest.mark.parametrize("swap", [True, False])
async def test_a_rebuild_waits_for_appends_in_flight(filled, swap):
    async with filled.connection() as connection, connection.transaction():
        state = filled.options.schema
        events = sql.Identifier(state, "events")
        insert = sql.SQL(
            "insert into {} (stream_id, version, type, data) values (%s, 1, %s, %s)"
        ).format(events)
        name = next(iter(filled.options.events.stored_names(Counted)))
        await connection.execute(insert, (UUID(int=99), name, '{"by": 5}'))
        await append(filled, Counted(30), to=STREAMS[0])
        async with trio.open_nursery() as nursery:
            done = trio.Event()

            async def rebuild():
                async with filled.build_projection_daemon() as daemon:
                    await daemon.rebuild(Total, swap=swap)
                done.set()

            nursery.start_soon(rebuild)
            with trio.move_on_after(0.2):
                await done.wait()
            assert not done.is_set()
            await connection.execute("commit")
            await connection.execute("begin")
    assert [each.number for each in await totals(filled) if each.id == UUID(int=99)] == [5]


async def test_progress_never_goes_back_although_numbers_were_drawn_in_vain(filled):
    async with filled.connection() as connection:
        sequence = sql.Identifier(filled.options.schema, "events_sequence").as_string()
        await connection.execute(
            f"select nextval('{sequence}') from generate_series(1, 5)".encode()
        )
    async with filled.build_projection_daemon() as daemon:
        await daemon.start_all()
        await daemon.wait_for(Total, 35)
        await daemon.rebuild(Total, swap=True)
        assert await filled.progress(Total) == 35


@attrs.define(eq=False)
class GatedAt(Gated):
    """Waits at a gate of its own before each of some events, but only beside the view."""

    gates: dict[int, Gate] = attrs.field(factory=dict)

    async def apply(self, session, streams):
        last = max(stream.events[-1].sequence for stream in streams)
        if is_shadows(session) and last in self.gates:
            await self.gates[last].wait()
        await self.inner.apply(session, streams)


async def test_what_is_applied_elsewhere_while_the_shard_stands_aside_is_never_taken_back(store):
    registered = store.options.projections._registered
    gated = GatedAt(registered[0].projection, gates={3: Gate(), 4: Gate()})
    registered[0] = attrs.evolve(registered[0], projection=gated)
    await fill(store, *range(3))
    async with store.session() as session:
        session.store(Total(uuid4(), 77))  # of which nothing is left once the new view is in place
        await session.save_changes()
    async with (
        open_store(store.dsn, store.options) as other,
        other.build_projection_daemon() as elsewhere,
        store.build_projection_daemon() as daemon,
    ):
        await elsewhere.start_all()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: daemon.rebuild("Total", swap=True))
            for number, gate in gated.gates.items():
                await gate.entered.wait()
                await fill(store, number)
                await elsewhere.wait_for_non_stale_results(60)
                gate.opened.set()
        assert await store.progress("Total") == 5
        assert await totals(store) == await expected(store)


async def test_a_commit_elsewhere_that_is_just_happening_is_waited_for(filled):
    projection = filled.options.projections.find(Total).projection
    shadow = await filled.rebuilding.open_shadow(projection)
    await shadow.commit_batch(shadow.projection_session(), floor=0, ceiling=30)
    before = await totals(filled)
    places = []

    async def swap():
        places.append(await filled.rebuilding.swap(shadow, 30))

    advance = table(filled, "update {} set sequence = 31 where shard = 'Total'", "progress")
    waiting = "select from pg_locks where not granted and locktype = 'transactionid'"
    async with (
        trio.open_nursery() as nursery,
        filled.connection() as connection,
        connection.transaction(),
    ):
        await connection.execute(advance)
        nursery.start_soon(swap)
        with trio.fail_after(20):
            while not await fetch(filled, waiting):  # noqa: ASYNC110 - what others do is polled
                await trio.sleep(0.01)
    assert places == [31]
    assert await filled.progress(Total) == 31
    assert await totals(filled) == before
    await shadow.discard()


async def test_who_runs_the_shard_elsewhere_loses_it_to_the_swap(filled, until):
    async with (
        open_store(filled.dsn, filled.options) as other,
        other.build_projection_daemon() as elsewhere,
    ):
        await elsewhere.start_all()
        async with filled.build_projection_daemon() as daemon:
            await daemon.rebuild(Total, swap=True)
        await fill(filled, *range(30, 35))
        status = await until(elsewhere, lambda status: status.state == "failed")
        assert "ProgressConflictError" in status.reason
        await elsewhere.start(Total)
        await elsewhere.wait_for_non_stale_results()
    assert await totals(filled) == await expected(filled)


async def test_of_two_rebuilds_at_once_in_two_processes_the_later_one_wins(filled):
    await spoil(filled)
    gated = gate_of(filled, after=10)
    options = StoreOptions(schema=filled.options.schema)
    options.documents.type(Total, optimistic_concurrency=True, indexes=("number",))
    options.projections.aggregate_streams_with(Total)

    async def rebuild_first():
        async with filled.build_projection_daemon() as daemon:
            with pytest.raises(RebuildError, match="another rebuild of it has begun"):
                await daemon.rebuild("Total", swap=True)

    async with open_store(filled.dsn, options) as other, trio.open_nursery() as nursery:
        nursery.start_soon(rebuild_first)
        await gated.gate.entered.wait()
        shadow = await other.rebuilding.open_shadow(
            other.options.projections.find(Total).projection
        )
        gated.gate.opened.set()
        await wait_all_tasks_blocked()
        async with other.build_projection_daemon() as daemon:
            await daemon.rebuild(Total, swap=True)
        assert shadow.refused is None
    assert await totals(filled) == await expected(filled)
    assert await leftovers(filled) == []


@pytest.mark.parametrize("begins_again", [True, False])
async def test_whose_tables_another_rebuild_has_taken_is_told_so(filled, begins_again):
    """Whatever it meets first: another's epoch, or no table at all."""
    before = await totals(filled)
    gated = gate_of(filled, after=10)

    async def rebuild():
        async with filled.build_projection_daemon() as daemon:
            with pytest.raises(RebuildError, match="another rebuild of it has begun"):
                await daemon.rebuild("Total", swap=True)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(rebuild)
        await gated.gate.entered.wait()
        await filled.rebuilding.forget_shadows(gated)
        if begins_again:
            await filled.rebuilding.open_shadow(gated)
        gated.gate.opened.set()
    assert await totals(filled) == before
    assert await filled.progress("Total") == 30


async def test_who_fills_a_shadow_that_another_rebuild_has_forgotten_writes_nothing(filled):
    projection = filled.options.projections.find(Total).projection
    forgotten = await filled.rebuilding.open_shadow(projection)
    present = await filled.rebuilding.open_shadow(projection)
    unit = forgotten.projection_session()
    unit.store(Total(uuid4(), 5))
    with pytest.raises(ProgressConflictError):
        await forgotten.commit_batch(unit, floor=0, ceiling=5)
    beside = table(filled, "select * from {}", shadow_table("doc_total"))
    assert await fetch(filled, beside) == []
    assert (await forgotten.standing()).started is False
    await forgotten.discard()  # which isn't its own any more
    assert await fetch(filled, beside) == []
    await present.discard()
    assert await leftovers(filled) == []


async def test_a_shadow_is_put_in_place_only_if_it_is_there_and_where_it_says(filled):
    before = await totals(filled)
    projection = filled.options.projections.find(Total).projection
    forgotten = await filled.rebuilding.open_shadow(projection)
    present = await filled.rebuilding.open_shadow(projection)
    await present.commit_batch(present.projection_session(), floor=0, ceiling=30)
    for shadow, ceiling in ((forgotten, 30), (present, 31)):
        with pytest.raises(ProgressConflictError):
            await filled.rebuilding.swap(shadow, ceiling)
        assert not shadow.is_in_place
    assert await totals(filled) == before
    assert await filled.progress(Total) == 30
    assert await filled.rebuilding.swap(present, 30) == 30
    assert (await totals(filled), present.is_in_place) == ([], True)


async def test_rebuilds_of_one_projection_take_turns_in_a_daemon(filled):
    async with filled.build_projection_daemon() as daemon:
        await daemon.start_all()
        async with trio.open_nursery() as nursery:
            for swap in (True, False, True):
                nursery.start_soon(lambda swap=swap: daemon.rebuild(Total, swap=swap))
                nursery.start_soon(daemon.start_all)
        await fill(filled, *range(30, 35))
        await daemon.wait_for_non_stale_results()
    assert await totals(filled) == await expected(filled)


# -- what stays as it was on the table --


async def test_indexes_privileges_views_and_what_depends_on_the_table_stay(filled):
    schema = filled.options.schema
    async with filled.connection() as connection:
        await connection.execute(table(filled, "create index mine on {} ((data ->> 'seen'))"))
        await connection.execute(table(filled, "grant select on {} to public"))
        view = sql.SQL("create view {} as select data from {}").format(
            sql.Identifier(schema, "report"), sql.Identifier(schema, "doc_total")
        )
        await connection.execute(view)
    facts = b"""
        select (select array_agg(indexdef order by indexname) from pg_indexes
            where schemaname = %s and tablename = 'doc_total'),
        (select relacl::text from pg_class where oid = (quote_ident(%s) || '.doc_total')::regclass)"""
    before = await fetch(filled, facts, schema, schema)
    assert any("data -> 'number'" in index for index in before[0][0])
    async with filled.build_projection_daemon() as daemon:
        await daemon.rebuild(Total, swap=True)
    assert await fetch(filled, facts, schema, schema) == before
    report = sql.SQL("select count(*) from {}").format(sql.Identifier(schema, "report"))
    assert await fetch(filled, report.as_bytes()) == [(7,)]


async def test_open_stores_and_their_prepared_statements_work_on(filled):
    async with open_store(filled.dsn, filled.options) as other:
        for _ in range(8):  # psycopg prepares what it is asked again and again
            assert len(await other.session().find(Total)) == 7
            assert len(await filled.session().load_many(Total, STREAMS)) == 7
        async with filled.build_projection_daemon() as daemon:
            for _ in range(3):
                await spoil(filled)
                await daemon.rebuild(Total, swap=True)
                for store in (filled, other):
                    found = await store.session().find(Total)
                    assert sorted(found, key=lambda each: each.id) == await expected(filled)
        async with other.session() as session:
            session.store(attrs.evolve(await session.load(Total, STREAMS[0]), number=5))
            await session.save_changes()
        assert (await filled.session().load(Total, STREAMS[0])).number == 5


async def test_who_loaded_a_document_is_refused_only_if_the_swap_changed_it(filled):
    same, changed = filled.session(), filled.session()
    kept = await same.load(Total, STREAMS[1])
    async with filled.session() as session:
        session.store(attrs.evolve(await session.load(Total, STREAMS[0]), number=-1))
        await session.save_changes()
    wrong = await changed.load(Total, STREAMS[0])
    async with filled.build_projection_daemon() as daemon:
        await daemon.rebuild(Total, swap=True)
    same.store(attrs.evolve(kept, number=9))
    await same.save_changes()
    changed.store(attrs.evolve(wrong, number=9))
    with pytest.raises(ConcurrencyError):
        await changed.save_changes()


# -- other kinds of projections --


async def test_a_composite_is_swapped_as_one(opening):
    async with opening() as store:
        store.options.projections.add(
            Composite("both", async_options=AsyncOptions(page_size=3)).stage(Total).stage(Label)
        )
        await fill(store, *range(12))
        await append(store, Named("x"), to=STREAMS[0])
        async with store.build_projection_daemon() as daemon:
            await daemon.catch_up()
            async with store.session() as session:
                session.store(Total(uuid4(), 1), Label(uuid4(), "orphan"), Label(STREAMS[0], "old"))
                await session.save_changes()
            await daemon.rebuild("both", swap=True)
        assert await totals(store) == await expected(store)
        assert await store.session().find(Label) == [Label(STREAMS[0], "x")]
        assert await store.progress("both") == 13
        assert await leftovers(store) == []


@pytest.mark.parametrize("tenancy", ["single", "conjoined"])
async def test_a_flat_table_is_swapped(opening, tenancy):
    table = FlatTable(
        "counts", key="stream", key_type=UUID, columns={"number": int, "raw": "json"}
    ).on(Counted, increment={"number": "by"}, set={"raw": lambda counted: {"by": counted.by}})
    async with opening(tenancy=tenancy) as first:
        options = first.options
    options.projections.add(table)
    async with open_store(first.dsn, options) as store:
        for number in range(6):
            tenant = None if tenancy == "single" else f"tenant {number % 2}"
            async with store.session(tenant_id=tenant) as session:
                session.events.append(STREAMS[number % 3], Counted(number))
                await session.save_changes()
        rows = _put("select * from {} order by 1, 2", options.schema, "counts")
        async with store.build_projection_daemon() as daemon:
            await daemon.catch_up()
            right = await fetch(store, rows)
            assert len(right) == (3 if tenancy == "single" else 6)
            for spoiling in ("update {} set number = 0", "delete from {}"):
                async with store.connection() as connection:
                    await connection.execute(_put(spoiling, options.schema, "counts"))
                await daemon.rebuild("counts", swap=True)
                assert await fetch(store, rows) == right
        assert await leftovers(store) == []


async def test_tenants_keep_their_documents_apart(opening):
    async with opening(tenancy="conjoined") as store:
        store.options.projections.aggregate_streams_with(Total)
        for tenant in ("a", "b"):
            async with store.session(tenant_id=tenant) as session:
                session.events.append(STREAMS[0], Counted(1), Counted(len(tenant + "b")))
                await session.save_changes()
        async with store.build_projection_daemon() as daemon:
            await daemon.catch_up()
            async with store.session(tenant_id="b") as session:
                session.store(Total(STREAMS[0], -1), Total(STREAMS[1], -1))
                await session.save_changes()
            await daemon.rebuild(Total, swap=True)
        for tenant in ("a", "b"):
            assert await store.session(tenant_id=tenant).find(Total) == [
                Total(STREAMS[0], 3, [1, 2])
            ]


@attrs.frozen
class Pair:
    id: int
    first: int
    second: int


async def pairs(events):
    """Find each two events that follow each other."""
    before = None
    async for event in events:
        if before is not None:
            yield Pair(event.sequence, before, event.data.by)
        before = event.data.by


async def test_a_process_with_a_memory_is_rebuilt_beside_its_running_twin(opening):
    async with opening() as store:
        store.options.projections.process(
            "pairs",
            pairs,
            produces=Pair,
            consumes=(Counted,),
            async_options=AsyncOptions(page_size=3),
        )
        await fill(store, *range(20))
        async with store.build_projection_daemon() as daemon:
            await daemon.start_all()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(lambda: daemon.rebuild("pairs", swap=True))
                await fill(store, *range(20, 30))
            await daemon.wait_for_non_stale_results()
        found = await store.session().find(Pair)
        assert sorted(pair.second for pair in found) == list(range(1, 30))
        assert all(pair.second == pair.first + 1 for pair in found)


class WritesSql:
    name = "writes_sql"
    consumes = (Counted,)
    produces = Label
    async_options = AsyncOptions(on_rebuild_error="dead_letter")
    swallows = False

    def apply(self, session, streams):
        try:
            session.execute("select 1")
        except Exception:
            if not self.swallows:
                raise
        for stream in streams:
            session.store(Label(stream.id, "new"))


class StoresOthers(WritesSql):
    name = "stores_others"

    def apply(self, session, streams):
        session.store(Total(uuid4(), 1))


class HasTeardown(WritesSql):
    name = "has_teardown"

    async def teardown(self, session):
        pass


class Swallows(WritesSql):
    name = "swallows"
    swallows = True


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (WritesSql, "SQL of its own"),
        (Swallows, "SQL of its own"),
        (StoresOthers, "documents of Total"),
        (HasTeardown, "a teardown of its own"),
    ],
)
async def test_what_writes_elsewhere_is_refused_and_stays_as_it_was(filled, make, reason):
    filled.options.projections.add(make())
    async with filled.session() as session:
        session.store(Label(STREAMS[0], "old"))
        await session.save_changes()
    before = await totals(filled)
    async with filled.build_projection_daemon() as daemon:
        with pytest.raises(RebuildError, match=reason):
            await daemon.rebuild(make.name, swap=True)
    assert await filled.session().find(Label) == [Label(STREAMS[0], "old")]
    assert await totals(filled) == before
    assert await filled.progress(make.name) == 0
    assert await filled.dead_letters() == []
    assert await leftovers(filled) == []


async def test_a_subscription_has_no_view_to_be_rebuilt_beside(filled):
    filled.options.projections.subscribe("mails", lambda session, events: None)
    async with filled.build_projection_daemon() as daemon:
        with pytest.raises(RebuildError, match="nobody knows where it writes"):
            await daemon.rebuild("mails", swap=True)


async def test_a_store_that_may_create_nothing_says_so(filled):
    options = attrs.evolve(filled.options, auto_create="none")
    async with open_store(filled.dsn, options) as store, store.build_projection_daemon() as daemon:
        with pytest.raises(RebuildError, match="auto_create='none'"):
            await daemon.rebuild(Total, swap=True)


# -- failures, cancellation, stopping --


@attrs.define
class Strict:
    id: UUID
    number: int = 0

    def apply(self, counted: Counted) -> None:
        if counted.by == POISON:
            raise ValueError("poison")
        self.number += 1


POISON = 17


@pytest.mark.parametrize("policy", ["stop", "dead_letter"])
async def test_an_event_that_cant_be_applied(filled, policy):
    filled.options.projections.aggregate_streams_with(
        Strict, async_options=AsyncOptions(page_size=4, on_rebuild_error=policy)
    )
    async with filled.build_projection_daemon() as daemon:
        await daemon.start_all()
        await daemon.wait_for_non_stale_results()
        (letter,) = await filled.dead_letters()
        before = await filled.session().find(Strict)
        if policy == "stop":
            with pytest.raises(RebuildError, match="sequence 18: ValueError: poison"):
                await daemon.rebuild(Strict, swap=True)
        else:
            await daemon.rebuild(Strict, swap=True)
        assert {status.state for status in daemon.statuses()} == {"running"}
        await fill(filled, 30)
        await daemon.wait_for_non_stale_results()
    assert await filled.progress(Strict) == 31
    after = await filled.session().find(Strict)
    assert sum(each.number for each in after) == sum(each.number for each in before) + 1
    (again,) = await filled.dead_letters("Strict")
    assert (again.shard, again.sequence) == (letter.shard, letter.sequence)
    assert await leftovers(filled) == []


async def test_a_swap_forgets_dead_letters_of_what_succeeds_now(filled):
    filled.options.projections.aggregate_streams_with(Strict)
    global POISON  # noqa: PLW0603 - mended between the run and the rebuild
    async with filled.build_projection_daemon() as daemon:
        await daemon.start(Strict)
        await daemon.wait_for(Strict, 30)
        assert len(await filled.dead_letters()) == 1
        POISON, kept = None, POISON
        try:
            await daemon.rebuild(Strict, swap=True)
        finally:
            POISON = kept
    assert await filled.dead_letters() == []
    assert sum(each.number for each in await filled.session().find(Strict)) == 30


async def test_letters_of_a_shadow_are_nobodys_until_it_is_in_place(filled):
    filled.options.projections.aggregate_streams_with(
        Strict, async_options=AsyncOptions(page_size=4, on_rebuild_error="dead_letter")
    )
    registered = filled.options.projections._registered
    gated = Gated(registered[1].projection, after=25)
    registered[1] = attrs.evolve(registered[1], projection=gated)
    async with filled.build_projection_daemon() as daemon, trio.open_nursery() as nursery:
        nursery.start_soon(lambda: daemon.rebuild("Strict", swap=True))
        await gated.gate.entered.wait()
        assert await filled.dead_letters() == []
        gated.gate.opened.set()
    assert [letter.shard for letter in await filled.dead_letters()] == ["Strict"]


@pytest.mark.parametrize("after", [0, 7, 15, 23, 29])
async def test_a_cancelled_swap_leaves_view_progress_and_nothing_else(filled, after):
    await spoil(filled)
    before = await totals(filled)
    gated = gate_of(filled, after=after)
    async with filled.build_projection_daemon() as daemon:
        await daemon.start_all()
        async with trio.open_nursery() as nursery:

            async def rebuild():
                with scope:
                    await daemon.rebuild("Total", swap=True)

            scope = trio.CancelScope()
            nursery.start_soon(rebuild)
            await gated.gate.entered.wait()
            scope.cancel()
        assert scope.cancelled_caught
        assert await totals(filled) == before
        assert await filled.progress("Total") == 30
        assert await leftovers(filled) == []
        (status,) = daemon.statuses()
        assert status.state == "running"
        gated.gate.opened.set()
        await daemon.rebuild("Total", swap=True)
    assert await totals(filled) == await expected(filled)


@pytest.mark.parametrize("moment", range(12))
async def test_a_swap_cancelled_at_any_moment_is_done_or_not(filled, moment):
    await spoil(filled)
    old = sorted(map(repr, await totals(filled)))
    new = sorted(map(repr, await expected(filled)))
    async with filled.build_projection_daemon() as daemon:
        await daemon.start_all()
        with trio.move_on_after(0.01 * moment):
            await daemon.rebuild(Total, swap=True)
        assert sorted(map(repr, await totals(filled))) in (old, new)
        assert await filled.progress(Total) == 30
        await fill(filled, *range(30, 35))
        await daemon.wait_for_non_stale_results()
        await daemon.rebuild(Total, swap=True)
    assert await totals(filled) == await expected(filled)
    assert await leftovers(filled) == []


@pytest.mark.parametrize("swap", [True, False])
async def test_what_an_interrupted_swap_has_left_the_next_rebuild_cleans_up(filled, swap):
    projection = filled.options.projections.find(Total).projection
    shadow = await filled.rebuilding.open_shadow(projection)
    unit = shadow.projection_session()
    unit.store(Total(uuid4(), 5))
    letter = DeadLetter("Total", 5, "ValueError", "poison", "Traceback")
    await shadow.commit_batch(unit, floor=0, ceiling=5, dead_letters=[letter])
    assert len(await leftovers(filled)) == 3
    async with filled.build_projection_daemon() as daemon:
        await daemon.rebuild(Total, swap=swap)
    assert await leftovers(filled) == []
    assert await totals(filled) == await expected(filled)


async def test_a_rebuild_leaves_other_projections_shadows_alone(opening):
    async with opening() as first:
        options = first.options
    options.projections.aggregate_streams_with(Total)
    options.projections.aggregate_streams_with(Label)
    async with open_store(first.dsn, options) as store:
        await fill(store, *range(3))
        label = options.projections.find(Label).projection
        shadow = await store.rebuilding.open_shadow(label)
        unit = shadow.projection_session()
        unit.store(Label(STREAMS[0], "kept"))
        letter = DeadLetter("Label", 1, "ValueError", "poison", "Traceback")
        await shadow.commit_batch(unit, floor=0, ceiling=3, dead_letters=[letter])
        async with store.build_projection_daemon() as daemon:
            for swap in (True, False):
                await daemon.rebuild(Total, swap=swap)
        assert await store.rebuilding.swap(shadow, 3) == 3
        assert await store.session().find(Label) == [Label(STREAMS[0], "kept")]
        assert [found.shard for found in await store.dead_letters()] == ["Label"]
        assert await totals(store) == await expected(store)


@pytest.mark.parametrize("verb", ["stop", "stop_all"])
async def test_stopping_the_projection_ends_its_swap(filled, verb):
    gated = gate_of(filled, after=10)
    before = await totals(filled)
    async with filled.build_projection_daemon() as daemon:
        await daemon.start_all()
        async with trio.open_nursery() as nursery:

            async def rebuild():
                with pytest.raises(RebuildError, match="was stopped"):
                    await daemon.rebuild("Total", swap=True)

            nursery.start_soon(rebuild)
            await gated.gate.entered.wait()
            await (daemon.stop("Total") if verb == "stop" else daemon.stop_all())
        (status,) = daemon.statuses()
        assert (status.state, status.progress) == ("stopped", 30)
    assert await totals(filled) == before
    assert await leftovers(filled) == []


# -- telling --


async def test_statuses_tell_how_far_a_swap_is(filled):
    gated = gate_of(filled, after=14)
    async with filled.build_projection_daemon() as daemon:
        await daemon.start_all()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: daemon.rebuild("Total", swap=True))
            await gated.gate.entered.wait()
            (status,) = daemon.statuses()
            assert (status.state, status.progress, status.high_water_mark, status.lag) == (
                "rebuilding",
                12,
                30,
                18,
            )
            assert status.reason.startswith("rebuilding: 40% of 30")
            # What waits for the view isn't stale: the old one serves, and is up to date.
            await daemon.wait_for_non_stale_results(timeout=60)
            gated.gate.opened.set()
        (status,) = daemon.statuses()
        assert (status.state, status.reason) == ("running", "")


async def test_watchers_see_a_rebuild_move(filled):
    seen = []

    async def watch(daemon, task_status):
        async with aclosing(daemon.watch()) as statuses:
            task_status.started()
            async for status in statuses:
                place = (status.state, status.progress, status.reason)
                seen.append(place)

    gated = gate_of(filled, beside_only=False, after=14)
    for swap in (True, False):
        gated.gate = Gate()
        seen.clear()
        async with filled.build_projection_daemon() as daemon, trio.open_nursery() as nursery:
            await nursery.start(watch, daemon)
            async with trio.open_nursery() as rebuilding:
                rebuilding.start_soon(lambda swap=swap: daemon.rebuild("Total", swap=swap))
                await gated.gate.entered.wait()
                await wait_all_tasks_blocked()
                gated.gate.opened.set()
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        states = [state for state, _, _ in seen]
        assert "rebuilding" in states
        assert ("rebuilding", 12, "rebuilding: 40% of 30") in seen
        assert states[-1] == "stopped"


async def test_inline_and_live_projections_are_told_apart(opening):
    async with opening() as store:
        store.options.projections.aggregate_streams_with(Label, lifecycle=Lifecycle.LIVE)
        async with store.build_projection_daemon() as daemon:
            with pytest.raises(Exception, match="live"):
                await daemon.rebuild(Label, swap=True)


async def test_a_swap_commits_many_pages_as_one(filled):
    """As a rebuild in place does: page by page it would write each document over and over."""
    async with filled.connection() as connection:
        for statement in (
            "create table {} (sequence bigint)",
            (
                "create function {}() returns trigger language plpgsql as"
                " $$ begin insert into {} values (new.sequence); return null; end $$"
            ),
        ):
            await connection.execute(table(filled, statement, "moves"))
        moved = table(filled, "execute function {}()", "moves").decode()
        await connection.execute(
            table(
                filled,
                "create trigger moves after update on {} for each row"
                f" when (new.shard like 'shadow %' and new.sequence > old.sequence) {moved}",
                "progress",
            )
        )
    async with filled.build_projection_daemon() as daemon:
        await daemon.rebuild(Total, swap=True)
    assert await fetch(filled, table(filled, "select sequence from {}", "moves")) == [(30,)]
    assert await totals(filled) == await expected(filled)
