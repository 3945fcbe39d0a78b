"""A view is rebuilt by several processes, which share the streams out among themselves."""

import importlib
import os
import random
import re
import signal
import sys
from contextlib import aclosing, asynccontextmanager
from functools import partial
from pathlib import Path
from uuid import UUID

import attrs
import pytest
import trio
from cattrs import Converter

from flowstore import DaemonSettings
from flowstore.daemon import open_store
from flowstore.errors import ProgressConflictError, RebuildError
from flowstore.projections import (
    AggregateProjection,
    AsyncOptions,
    Composite,
    FlatTable,
    Lifecycle,
    aggregate_projection,
)
from flowstore.store import StoreOptions
from flowstore.testing import MemoryStore

HERE = Path(__file__).parent
STREAMS = [UUID(int=number) for number in range(1, 12)]
PATIENCE = 300
SMALL = DaemonSettings(span_bytes=1)
"""Each page is committed, so that workers are in the midst of it."""


@pytest.fixture(autouse=True)
def domain(monkeypatch):
    """Give the module that workers import too, as they look where this process does."""
    monkeypatch.syspath_prepend(HERE)
    return importlib.import_module("workers_domain")


@pytest.fixture
def options(options, domain):
    options.projections.aggregate_streams_with(
        domain.Total, async_options=AsyncOptions(page_size=4)
    )
    return options


@pytest.fixture
async def filled(store, domain):
    """Documents that follow 110 events of eleven streams."""
    await fill(store, domain)
    async with store.build_projection_daemon() as daemon:
        await daemon.catch_up()
    return store


async def append(store, *events, to, tenant=None):
    async with store.session(tenant_id=tenant) as session:
        session.events.append(to, *events)
        await session.save_changes()


async def fill(store, domain, count=110):
    for number in range(count):
        await append(store, domain.Counted(number), to=STREAMS[number % len(STREAMS)])


async def fetch(store, statement, *parameters):
    async with store.connection() as connection:
        query = statement.replace("{s}", store.options.schema).encode()
        cursor = await connection.execute(query, parameters or None)
        return await cursor.fetchall() if cursor.description else []


async def rows(store, table="doc_total"):
    return await fetch(
        store, f"select tenant_id, id, data::text, version from {{s}}.{table} order by 1, 2"
    )


async def leftovers(store):
    """List what a rebuild may have left behind: tables, progress, dead letters."""
    tables = "select tablename from pg_tables where schemaname = %s and tablename like 'shadow%%'"
    found = await fetch(store, tables, store.options.schema)
    for name in ("progress", "dead_letters"):
        found += await fetch(store, f"select shard from {{s}}.{name} where shard like 'shadow%'")
    return found


async def spoil(store):
    """Make the view wrong, so that the old one can be told from the new one."""
    await fetch(store, "update {s}.doc_total set data = jsonb_set(data, '{number}', '-1')")


def workers():
    """List the worker processes of this one."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                _, _, rest = (entry / "stat").read_text().rpartition(")")
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if int(rest.split()[1]) == os.getpid() and b"flowstore.daemon._start_worker" in command:
                found.append(int(entry.name))
    return found


@asynccontextmanager
async def held(store, domain):
    """Keep an append open for the block, or until what is given is set: readers wait before it."""
    opened, over = trio.Event(), trio.Event()

    async def hold():
        async with store.connection() as connection, connection.transaction(force_rollback=True):
            publish = f"select {store.options.schema}.publish_bound()"
            draw = f"select nextval('{store.options.schema}.events_sequence')"
            for statement in (publish, draw):
                await connection.execute(statement.encode())
            await append(store, domain.Counted(1000), to=STREAMS[0])
            opened.set()
            await over.wait()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(hold)
        await opened.wait()
        yield over
        over.set()


@asynccontextmanager
async def rebuilding(daemon, domain, failures, **more):
    """Have two workers rebuild in the block; what the rebuild raises is noted."""

    async def rebuild():
        try:
            await daemon.rebuild(domain.Total, workers=2, **more)
        except RebuildError as error:
            failures.append(error)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(rebuild)
        yield nursery


async def standing(daemon):
    """Wait until both workers are there, and have committed something between them."""
    with trio.fail_after(PATIENCE):
        async with aclosing(daemon.watch()) as statuses:
            async for status in statuses:
                if status.state == "rebuilding" and status.progress > 20 and len(workers()) == 2:
                    return status
    raise AssertionError


def flat(domain):
    return FlatTable("flat", key="stream", key_type=UUID, columns={"name": str}).on(
        domain.Named, set={"name": "name"}
    )


# -- what is asked --


@pytest.mark.parametrize("workers", [0, -1, True, 1.5, "2", None])
async def test_what_is_no_number_of_processes_is_refused(store, domain, workers):
    async with store.build_projection_daemon() as daemon:
        with pytest.raises(ValueError, match="a number of processes") as caught:
            await daemon.rebuild(domain.Total, workers=workers)
    assert repr(workers) in str(caught.value)


async def test_what_is_no_aggregate_of_one_stream_is_refused(store, domain, make_recorder):
    projections = store.options.projections
    projections.add(make_recorder())
    projections.add(flat(domain))
    projections.aggregate_across_streams(
        domain.Text, group_by={domain.Counted: lambda counted: str(counted.by)}, name="across"
    )
    projections.aggregate_streams_with(domain.Label, name="enriched", enrich=domain.enrich)
    async with store.build_projection_daemon() as daemon:
        for name, found in {
            "recorder": "Recorder",
            "flat": "FlatTable",
            "across": "AcrossStreamsProjection",
            "enriched": "enrich=",
        }.items():
            with pytest.raises(RebuildError, match=found) as caught:
                await daemon.rebuild(name, workers=2)
            assert "use workers=1" in str(caught.value)
            assert caught.value.projection == name


async def test_a_composite_with_a_member_that_needs_more_is_refused(store, domain):
    composite = Composite("both").stage(aggregate_projection(domain.Label))
    store.options.projections.add(composite.stage(flat(domain)))
    async with store.build_projection_daemon() as daemon:
        with pytest.raises(RebuildError, match="its member 'flat' is of kind FlatTable"):
            await daemon.rebuild("both", workers=2)


async def test_a_store_in_memory_refuses(domain):
    options = StoreOptions()
    options.projections.aggregate_streams_with(domain.Total)
    store = MemoryStore(options)
    async with store.build_projection_daemon() as daemon:
        with pytest.raises(RebuildError, match="a store in memory keeps no second view"):
            await daemon.rebuild(domain.Total, workers=2)


# -- what can't be sent --


def local(domain):
    @attrs.define
    class Local:
        id: UUID

        def apply(self, counted: domain.Counted) -> None: ...

    return Local


def of_the_program(domain):
    kind = local(domain)
    kind.__module__, kind.__qualname__ = "__main__", "Local"
    return kind


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (local, "local.<locals>.Local is defined inside of a function"),
        (of_the_program, "class __main__.Local is defined in the program itself"),
    ],
)
async def test_a_class_that_workers_cant_import_is_named(store, domain, make, told):
    kind = make(domain)
    store.options.projections.aggregate_streams_with(kind)
    await append(store, domain.Counted(1), to=STREAMS[0])
    async with store.build_projection_daemon() as daemon:
        with pytest.raises(RebuildError, match=told) as caught:
            await daemon.rebuild(kind, workers=2)
        assert "use workers=1" in str(caught.value)
        assert await leftovers(store) == []
        await daemon.rebuild(kind, workers=1)


async def test_a_module_that_workers_cant_import_is_named(filled, domain, monkeypatch):
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry != str(HERE)])
    async with filled.build_projection_daemon() as daemon:
        with pytest.raises(RebuildError, match="No module named 'workers_domain'") as caught:
            await daemon.rebuild(domain.Total, workers=2)
        assert "a worker process can't import what it needs" in str(caught.value)
        assert await leftovers(filled) == []


async def test_a_hook_that_workers_cant_import_is_named(filled, domain):
    filled.options.events.converter.register_structure_hook(domain.Money, lambda _, __: None)
    async with filled.build_projection_daemon() as daemon:
        with pytest.raises(RebuildError, match=r"function test_rebuild_workers.*<lambda>|<lambda>"):
            await daemon.rebuild(domain.Total, workers=2)


async def test_an_upcaster_that_workers_cant_import_is_named_if_it_is_needed(filled, domain):
    events = filled.options.events
    events.upcast("title_given", domain.Named, lambda old: old)
    async with filled.build_projection_daemon() as daemon:
        await daemon.rebuild(domain.Total, workers=2)
        events.upcast("count_given", domain.Counted, lambda old: old)
        with pytest.raises(RebuildError, match="<lambda> is defined inside of a function"):
            await daemon.rebuild(domain.Total, workers=2)


@pytest.mark.parametrize("change", ["own", "option", "copy"])
async def test_a_converter_of_which_nobody_knows_enough_is_refused(pg_dsn, schema, domain, change):
    options = StoreOptions(schema=schema)
    if change == "own":
        options.events.converter = Converter()
    elif change == "option":
        options.events.converter.forbid_extra_keys = True
    else:
        options.events.converter = options.events.converter.copy()
    options.projections.aggregate_streams_with(domain.Total)
    async with open_store(pg_dsn, options) as store:
        await append(store, domain.Counted(1), to=STREAMS[0])
        async with store.build_projection_daemon() as daemon:
            with pytest.raises(
                RebuildError, match=r"options\.events\.converter is one of your own"
            ):
                await daemon.rebuild(domain.Total, workers=2)


async def test_hooks_aliases_and_upcasters_go_along(pg_dsn, schema, domain):
    options = StoreOptions(schema=schema)
    converter = options.events.converter
    converter.register_structure_hook(domain.Money, domain.money_of_text)
    converter.register_unstructure_hook(domain.Money, domain.money_to_text)
    options.events.alias(domain.Paid, "settled")
    options.events.upcast("title_given", domain.Named, domain.named_of_title)
    options.projections.aggregate_streams_with(domain.Label)
    async with open_store(pg_dsn, options) as store:
        for stream in STREAMS:
            await append(store, domain.Named("a"), domain.Paid(domain.Money(7)), to=stream)
        change = "alter table {s}.events disable trigger user; update {s}.events set"
        await fetch(
            store,
            f"{change} type = 'title_given', data = '{{\"title\": \"b\"}}' where type = 'named'",
        )
        async with store.build_projection_daemon() as daemon:
            await daemon.rebuild(domain.Label, workers=2)
        session = store.session()
        for stream in STREAMS:
            found = await session.load(domain.Label, stream)
            assert found == domain.Label(stream, "b", domain.Money(7))


# -- what it gives --


def drawn(domain, dice, count, *, poison):
    """Draw events, and where each goes."""
    for number in range(count):
        stream = STREAMS[int(dice.random() ** 2 * len(STREAMS))]
        roll = dice.random()
        if poison and roll < 0.06:
            event = domain.Poisoned(dice.choice(["no", "unbearable"]))
        elif roll < 0.15:
            event = domain.Closed("over")
        elif roll < 0.3:
            event = domain.Named(str(number))
        else:
            event = domain.Counted(number)
        yield stream, event


async def result(store, projection):
    """Tell everything that a rebuild may leave: documents with versions, progress, dead letters."""
    letters = [
        (each.sequence, each.error_type, each.message) for each in await store.dead_letters()
    ]
    tables = [await rows(store, table) for table in ("doc_total", "doc_label")]
    return tables, await store.progress(projection), letters


@pytest.mark.parametrize("seed", range(3))
async def test_the_result_is_that_of_one_worker(pg_dsn, schema, domain, seed):
    dice = random.Random(seed)
    options = StoreOptions(schema=schema, tenancy="conjoined")
    options.events.add_types(domain.Paid)
    settings = AsyncOptions(page_size=dice.randint(1, 9), on_rebuild_error="dead_letter")
    projection = Composite("both", async_options=settings)
    options.projections.add(projection.stage(domain.Total).stage(domain.Label))
    async with open_store(pg_dsn, options) as store, store.build_projection_daemon() as daemon:
        for stream, event in drawn(domain, dice, dice.randint(60, 160), poison=seed > 0):
            await append(store, event, to=stream, tenant=dice.choice(["one", "other"]))
        results = []
        for count in (1, 2, 3):
            await store.teardown(projection)
            await daemon.rebuild("both", swap=True, workers=count)
            results.append(await result(store, projection))
        assert await leftovers(store) == []
    assert results[1:] == results[:1] * 2
    assert results[0][0][0]
    assert results[0][0][1]
    assert bool(results[0][2]) is (seed > 0)


async def test_streams_known_by_text_are_shared_out(pg_dsn, schema, domain):
    options = StoreOptions(schema=schema, stream_identity="string")
    options.projections.aggregate_streams_with(domain.Text)
    async with open_store(pg_dsn, options) as store, store.build_projection_daemon() as daemon:
        for number in range(40):
            await append(store, domain.Counted(number), to=f"stream {number % 9}")
        await daemon.rebuild(domain.Text, workers=2)
        found = await store.session().query(domain.Text, "true order by id")
    assert [(each.id, each.number) for each in found] == [
        (f"stream {stream}", sum(range(stream, 40, 9))) for stream in range(9)
    ]


async def test_a_view_that_is_right_already_is_not_written(filled, domain):
    before = await fetch(filled, "select id, version, xmin::text from {s}.doc_total order by id")
    async with filled.build_projection_daemon() as daemon:
        await daemon.rebuild(domain.Total, workers=2)
    assert before == await fetch(
        filled, "select id, version, xmin::text from {s}.doc_total order by id"
    )


async def test_an_empty_store_is_no_error(store, domain):
    async with store.build_projection_daemon() as daemon:
        await daemon.rebuild(domain.Total, workers=2)
    assert await rows(store) == []
    assert await leftovers(store) == []


async def test_all_are_rebuilt_by_workers_one_after_the_other(filled, domain):
    filled.options.projections.aggregate_streams_with(domain.Label)
    for stream in STREAMS:
        await append(filled, domain.Named("a"), to=stream)
    right = [data for _, _, data, _ in await rows(filled)]
    await spoil(filled)
    async with filled.build_projection_daemon() as daemon:
        await daemon.rebuild_all(workers=2)
    assert [data for _, _, data, _ in await rows(filled)] == right
    labels = [await filled.session().load(domain.Label, stream) for stream in STREAMS]
    assert [label.name for label in labels] == ["a"] * len(STREAMS)
    assert workers() == []
    assert await leftovers(filled) == []


async def test_where_one_of_all_cant_be_shared_out_none_is_touched(filled, domain):
    filled.options.projections.add(flat(domain))
    await spoil(filled)
    spoiled = await rows(filled)
    async with filled.build_projection_daemon() as daemon:
        with pytest.raises(RebuildError, match="FlatTable") as caught:
            await daemon.rebuild_all(workers=2)
        assert caught.value.projection == "flat"
        assert await rows(filled) == spoiled
        with pytest.raises(ValueError, match="workers is 0"):
            await daemon.rebuild_all(workers=0)
        await daemon.rebuild_all(workers=1)
    assert await rows(filled) != spoiled


async def test_more_workers_than_streams_are_no_error(store, domain):
    await append(store, domain.Counted(1), domain.Counted(2), to=STREAMS[0])
    async with store.build_projection_daemon() as daemon:
        await daemon.rebuild(domain.Total, workers=4)
    assert (await store.session().load(domain.Total, STREAMS[0])).seen == [1, 2]


async def test_it_begins_where_the_options_say(pg_dsn, schema, domain):
    options = StoreOptions(schema=schema)
    options.projections.aggregate_streams_with(
        domain.Total, async_options=AsyncOptions(start_from=55)
    )
    async with open_store(pg_dsn, options) as store, store.build_projection_daemon() as daemon:
        await fill(store, domain)
        await daemon.rebuild(domain.Total, workers=2)
        seen = sorted(n for each in await store.session().find(domain.Total) for n in each.seen)
    assert seen == list(range(55, 110))


async def test_an_inline_projection_is_shared_out_too(pg_dsn, schema, domain):
    async with open_store(pg_dsn, StoreOptions(schema=schema)) as store:
        await fill(store, domain)
    options = StoreOptions(schema=schema)
    options.projections.aggregate_streams_with(domain.Total, lifecycle=Lifecycle.INLINE)
    async with open_store(pg_dsn, options) as store, store.build_projection_daemon() as daemon:
        await append(store, domain.Counted(1000), to=STREAMS[3])
        await daemon.rebuild(domain.Total, workers=2)
        await append(store, domain.Counted(2000), to=STREAMS[3])
        found = await store.session().load(domain.Total, STREAMS[3])
    assert found.seen == [*range(3, 110, 11), 1000, 2000]


# -- meanwhile --


async def test_readers_find_the_old_view_and_statuses_tell_how_far_it_is(filled, domain):
    await spoil(filled)
    old, failures = await rows(filled), []
    async with filled.build_projection_daemon(SMALL) as daemon:
        await daemon.start_all()
        async with held(filled, domain) as over, rebuilding(daemon, domain, failures):
            status = await standing(daemon)
            assert len(workers()) == 2
            assert await rows(filled) == old
            over.set()
            assert 20 < status.progress < status.high_water_mark == 112
            assert re.match("rebuilding: [1-9][0-9]% of 112", status.reason)
        assert failures == []
        (after,) = daemon.statuses()
        assert after.state == "running"
        await daemon.wait_for_non_stale_results()
    assert workers() == []
    session = filled.session()
    for stream in STREAMS:
        live = await session.events.aggregate_stream(domain.Total, stream)
        assert await session.load(domain.Total, stream) == live


async def test_a_paused_shard_of_a_shared_daemon_stays_paused(filled, domain):
    async with filled.build_projection_daemon(DaemonSettings(mode="hot_cold")) as daemon:
        await daemon.start_all()
        await daemon.wait_for_non_stale_results()
        await daemon.pause(domain.Total)
        await spoil(filled)
        await daemon.rebuild(domain.Total, workers=2)
        assert daemon.statuses()[0].state == "paused"
    assert [each.number for each in await filled.session().find(domain.Total)] == [
        sum(range(stream, 110, 11)) for stream in range(11)
    ]


# -- how it ends badly --


async def ended_badly(store, old):
    """Check that everything is as it was, and that nobody is left."""
    assert workers() == []
    assert await rows(store) == old
    assert await store.progress("Total") == 110
    assert await leftovers(store) == []


@pytest.mark.parametrize(
    ("why", "cause"), [("no", "ValueError"), ("unbearable", "UnbearableError")]
)
async def test_an_event_that_cant_be_applied_is_named(filled, domain, why, cause):
    await spoil(filled)
    old = await rows(filled)
    await append(filled, domain.Poisoned(why), to=STREAMS[5])
    async with filled.build_projection_daemon() as daemon:
        with pytest.raises(RebuildError) as caught:
            await daemon.rebuild(domain.Total, workers=2)
        assert caught.value.sequence == 111
        assert f"{cause}: " in str(caught.value)
        assert why in str(caught.value)
        if why == "no":
            assert type(caught.value.__cause__) is ValueError
        assert any("in apply_poisoned" in note for note in caught.value.__cause__.__notes__)
        await ended_badly(filled, old)


@pytest.mark.parametrize("which", [0, 1])
async def test_a_worker_that_is_killed_ends_it_and_leaves_the_old_view(filled, domain, which):
    await spoil(filled)
    old, failures = await rows(filled), []
    async with filled.build_projection_daemon(SMALL) as daemon:
        async with held(filled, domain), rebuilding(daemon, domain, failures):
            await standing(daemon)
            killed = sorted(workers())[which]
            os.kill(killed, signal.SIGKILL)
        (failure,) = failures
        assert f"worker process {killed} was ended by SIGKILL" in str(failure)
        await ended_badly(filled, old)
        await daemon.rebuild(domain.Total, workers=2)
    numbers = [each.number for each in await filled.session().find(domain.Total)]
    assert numbers[1:] == [sum(range(stream, 110, 11)) for stream in range(1, 11)]


async def test_cancelled_it_leaves_the_old_view_and_no_process(filled, domain):
    await spoil(filled)
    old, failures = await rows(filled), []
    async with filled.build_projection_daemon(SMALL) as daemon:
        async with held(filled, domain), rebuilding(daemon, domain, failures) as nursery:
            await standing(daemon)
            nursery.cancel_scope.cancel()
        assert failures == []
        await ended_badly(filled, old)


async def test_stopped_it_leaves_the_old_view_and_no_process(filled, domain):
    await spoil(filled)
    old, failures = await rows(filled), []
    async with filled.build_projection_daemon(SMALL) as daemon:
        async with held(filled, domain), rebuilding(daemon, domain, failures):
            await standing(daemon)
            await daemon.stop(domain.Total)
        assert "was stopped" in str(failures[0])
        await ended_badly(filled, old)


async def test_another_rebuild_that_begins_meanwhile_wins(filled, domain):
    await spoil(filled)
    failures = []
    async with filled.build_projection_daemon(SMALL) as daemon:
        async with held(filled, domain) as over, rebuilding(daemon, domain, failures):
            await standing(daemon)
            projection = filled.options.projections.find(domain.Total).projection
            shadow = await filled.rebuilding.open_shadow(projection)
            over.set()
        assert "another rebuild of it has begun" in str(failures[0])
        assert workers() == []
        assert await shadow.discard()
        await daemon.rebuild(domain.Total, workers=2)
    assert await leftovers(filled) == []


async def test_connections_that_workers_lose_are_opened_again(filled, domain):
    await spoil(filled)
    failures = []
    before = [pid for (pid,) in await fetch(filled, "select pid from pg_stat_activity")]
    ending = """
        select count(pg_terminate_backend(pid)) from pg_stat_activity
        where datname = current_database() and state = 'idle' and pid <> all(%s)"""
    async with filled.build_projection_daemon(SMALL) as daemon:
        async with held(filled, domain) as over, rebuilding(daemon, domain, failures):
            await standing(daemon)
            ((ended,),) = await fetch(filled, ending, before)
            over.set()
        assert ended >= 2
    assert failures == []
    session = filled.session()
    for stream in STREAMS:
        live = await session.events.aggregate_stream(domain.Total, stream)
        assert (await session.load(domain.Total, stream)).seen == live.seen


# -- its parts --


async def parts_of(store, projection, count=3):
    shadow = await store.rebuilding.open_shadow(projection)
    return shadow, await store.rebuilding.open_parts(shadow, count, 0)


async def test_every_event_is_read_by_one_part_and_each_stream_by_one(filled, domain):
    projection = filled.options.projections.find(domain.Total).projection
    shadow, parts = await parts_of(filled, projection)
    seen, owners = [], {}
    for part in parts:
        pages = filled.rebuilding.part_pages(projection, part.part, max_bytes=10_000)
        floor = 0
        while floor < 110:
            page = await pages.fetch(floor, 110)
            assert page.floor < page.ceiling
            assert len(page.events) <= 4
            assert all(page.floor < each.sequence <= page.ceiling for each in page.events)
            for event in page.events:
                owners.setdefault(event.stream_id, set()).add(part.part.number)
            seen += [event.sequence for event in page.events]
            floor = page.ceiling
        assert floor == 110
    assert sorted(seen) == list(range(1, 111))
    assert [len(owner) for owner in owners.values()] == [1] * 11
    assert len(set.union(*owners.values())) == 3
    tiny = filled.rebuilding.part_pages(projection, parts[0].part, max_bytes=1)
    (alone,) = (await tiny.fetch(0, 110)).events
    assert alone.sequence
    await shadow.discard()


async def moved(store, projection, part, ceiling):
    beside = store.rebuilding.take_part(projection, shadow_kinds(store, projection), part)
    unit = beside.projection_session()
    await beside.commit_batch(unit, floor=0, ceiling=ceiling)


def shadow_kinds(store, projection):
    return [store._engine.catalogue.describe(projection.produces)]


async def test_parts_are_joined_once_all_of_them_are_through(filled, domain):
    projection = filled.options.projections.find(domain.Total).projection
    shadow, parts = await parts_of(filled, projection, 2)
    join = partial(filled.rebuilding.join_parts, shadow, parts, 0, 110)
    await moved(filled, projection, parts[0], 110)
    with pytest.raises(ProgressConflictError):
        await join()
    assert (await shadow.standing()).sequence == 0
    await moved(filled, projection, parts[1], 110)
    await join()
    await join()  # the reply to the first was lost, say
    assert (await shadow.standing()).sequence == 110
    with pytest.raises(ProgressConflictError):
        await moved(filled, projection, parts[0], 111)
    await shadow.discard()


async def test_a_part_of_a_shadow_that_is_forgotten_writes_nothing(filled, domain):
    projection = filled.options.projections.find(domain.Total).projection
    shadow, parts = await parts_of(filled, projection, 2)
    present, others = await parts_of(filled, projection, 2)
    with pytest.raises(ProgressConflictError):
        await moved(filled, projection, parts[0], 110)
    with pytest.raises(ProgressConflictError):
        await filled.rebuilding.open_parts(shadow, 2, 0)
    with pytest.raises(ProgressConflictError):
        await filled.rebuilding.join_parts(shadow, parts, 0, 110)
    for part in others:
        await moved(filled, projection, part, 110)
    await filled.rebuilding.join_parts(present, others, 0, 110)
    assert not await shadow.discard()
    assert await present.discard()
    assert await leftovers(filled) == []


def test_an_aggregate_comes_out_of_a_pickle_as_it_was(domain):
    import pickle  # noqa: PLC0415

    options = AsyncOptions(page_size=7, on_rebuild_error="dead_letter")
    before = aggregate_projection(domain.Total, name="x", version=3, async_options=options)
    after = pickle.loads(pickle.dumps(before))
    assert isinstance(after, AggregateProjection)
    assert (after.name, after.version, after.async_options) == ("x", 3, options)
    assert after.produces is domain.Total
    assert after.consumes == before.consumes
    assert sys.modules["workers_domain"] is domain
