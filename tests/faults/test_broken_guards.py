"""Each guard around a commit, and each backstop, taken away: the law that it holds up then falls.

A law is a function here. It passes over flowstore as it is, and fails over a store with the guard
broken; so every guard is shown to be needed, and every law to be able to fail.
"""

import random
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from uuid import UUID

import attrs
import pytest
import trio
from psycopg import sql

from flowstore import AsyncOptions, DaemonSettings, Store, StoreOptions
from flowstore.blocks import run
from flowstore.daemon import event_source, group_by_stream, projection_sink
from flowstore.errors import ProgressConflictError, ShardEditedError
from flowstore.events import in_sequence
from flowstore.store import open_event_store

HURRIED = DaemonSettings(slow_polling_time=0.01, stop_and_drain_timeout=0)
EVENTS = 60


@attrs.frozen
class Happened:
    number: int = 0


@attrs.define
class Recorder:
    """Writes each event down in the transaction of its progress."""

    name = "recorder"
    consumes = ()
    produces = None
    async_options = AsyncOptions(page_size=2)

    def apply(self, session, streams):
        for event in in_sequence(streams):
            session.execute("insert into faults.seen (sequence) values (%s)", event.sequence)


@pytest.fixture
def scene(dsn):
    """Open a store with a recorder: as another class, or with a function of its schema changed."""

    @asynccontextmanager
    async def open_scene(cls=Store, function=None, old="", new=""):
        options = StoreOptions(schema="faults")
        options.events.add_types(Happened)
        options.projections.add(Recorder())
        async with open_event_store(dsn, options, cls=cls) as store:
            async with store.connection() as connection:
                await connection.execute(
                    "create table faults.seen (place bigint generated always as identity,"
                    " sequence bigint)"
                )
                if function is not None:
                    query = sql.SQL("select pg_get_functiondef(%s::regproc)")
                    cursor = await connection.execute(query, (f"faults.{function}",))
                    (source,) = await cursor.fetchone()
                    assert old in source
                    await connection.execute(source.replace(old, new).encode())
            yield store

    return open_scene


async def append(store, count=EVENTS):
    async with store.session() as session:
        session.events.append(UUID(int=1), *map(Happened, range(count)))
        await session.save_changes()


async def seen(store):
    async with store.connection() as connection:
        cursor = await connection.execute("select sequence from faults.seen order by place")
        return [sequence for (sequence,) in await cursor.fetchall()]


# -- effects and progress commit together --------------------------------------------------------


async def check_interruptions_double_nothing(store):
    """Cancel daemons wherever they happen to be, until everything has been applied."""
    await append(store)
    dice, longest, before = random.Random(1), 0.04, -1
    with trio.fail_after(300):
        while (progress := await store.progress("recorder")) < EVENTS:
            if progress == before:
                longest *= 1.2  # a slow machine comes nowhere in that time
            before = progress
            with trio.move_on_after(dice.uniform(0.005, longest)):
                async with store.build_projection_daemon(HURRIED) as daemon:
                    await daemon.start_all()
                    await daemon.wait_for_non_stale_results()
    assert await seen(store) == list(range(1, EVENTS + 1))


class ProgressInASecondTransaction(Store):
    """Writes the effects first, and the progress in a transaction of its own."""

    async def commit_batch(self, session, *, floor, ceiling, **more):
        await super().commit_batch(session, floor=floor, ceiling=floor, **more)
        empty = self.projection_session()
        await trio.sleep(0.02)  # some interruption comes here, however fast the rest is
        await super().commit_batch(empty, floor=floor, ceiling=ceiling, **more)


async def test_interruptions_double_nothing(scene):
    async with scene() as store:
        await check_interruptions_double_nothing(store)


async def test_progress_in_a_second_transaction_doubles_effects(scene):
    async with scene(ProgressInASecondTransaction) as store:
        with pytest.raises(AssertionError):
            await check_interruptions_double_nothing(store)


# -- the floor guards a commit -------------------------------------------------------------------


async def check_two_pipelines_double_nothing(store):
    """Two sinks that nobody coordinates read the same pages; one of them loses."""
    await append(store)
    await store.claim(
        Recorder()
    )  # the row of the progress is there: no insertion guards the first page

    async def flow():
        source = event_source(store, follow=False, page_size=5)
        try:
            await run(source, group_by_stream(), projection_sink(store, Recorder()))
        except* ProgressConflictError:
            pass

    with trio.fail_after(300):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(flow)
            nursery.start_soon(flow)
    assert await seen(store) == list(range(1, EVENTS + 1))


async def test_two_pipelines_double_nothing(scene):
    async with scene() as store:
        await check_two_pipelines_double_nothing(store)


async def test_without_the_floor_guard_two_pipelines_double_effects(scene):
    broken = {"old": "p.sequence = p_floor\n", "new": "true\n"}
    async with scene(function="advance", **broken) as store:
        with pytest.raises(AssertionError):
            await check_two_pipelines_double_nothing(store)


# -- the epoch guards a commit -------------------------------------------------------------------


async def check_a_former_owner_commits_nothing(store):
    """An owner was frozen over its page; another one claimed the shard meanwhile."""
    await append(store, 1)
    recorder = store.options.projections.find("recorder").projection
    frozen = await store.claim(recorder)
    unit = store.projection_session()
    unit.execute("insert into faults.seen (sequence) values (1)")
    await store.claim(recorder)
    refused = False
    try:
        await store.commit_batch(unit, shard="recorder", floor=0, ceiling=1, claim=frozen)
    except ProgressConflictError:
        refused = True
    assert (refused, await seen(store)) == (True, [])


async def test_a_former_owner_commits_nothing(scene):
    async with scene() as store:
        await check_a_former_owner_commits_nothing(store)


async def test_without_the_epoch_a_former_owner_commits(scene):
    broken = {"old": "and p.epoch = coalesce(p_epoch, p.epoch)", "new": ""}
    async with scene(function="advance", **broken) as store:
        with pytest.raises(AssertionError):
            await check_a_former_owner_commits_nothing(store)


# -- edits guard a commit ------------------------------------------------------------------------


@attrs.define
class Count:
    id: int
    number: int


async def check_a_page_loaded_before_an_edit_is_refused(store):
    """A dead letter was retried between a page's load and its commit."""
    recorder = store.options.projections.find("recorder").projection
    claim = await store.claim(recorder)
    unit = store.projection_session()
    unit.store(Count(1, 1))
    async with store.connection() as connection:
        await connection.execute("update faults.progress set edits = edits + 1")
    refused = False
    try:
        await store.commit_batch(unit, shard="recorder", floor=0, ceiling=1, claim=claim)
    except ShardEditedError:
        refused = True
    assert refused


async def test_a_page_loaded_before_an_edit_is_refused(scene):
    async with scene() as store:
        await check_a_page_loaded_before_an_edit_is_refused(store)


async def test_without_the_count_of_edits_a_page_overwrites_a_retried_letter(scene):
    broken = {"old": "and p.edits = coalesce(p_edits, p.edits);", "new": ";"}
    async with scene(function="advance", **broken) as store:
        with pytest.raises(AssertionError):
            await check_a_page_loaded_before_an_edit_is_refused(store)


# -- polling is behind notifications -------------------------------------------------------------


async def check_an_append_that_nobody_told_of_arrives(store, patience=60.0):
    """A foreign writer notifies nobody."""
    async with AsyncExitStack() as stack:
        daemon = await stack.enter_async_context(store.build_projection_daemon(HURRIED))
        await daemon.start_all()
        statuses = await stack.enter_async_context(aclosing(daemon.watch()))
        await anext(statuses)
        for number in range(3):
            async with store.connection() as connection:
                await connection.execute(
                    "insert into faults.events (stream_id, version, type, data)"
                    " values (gen_random_uuid(), 1, 'happened', '{}')"
                )
            with trio.move_on_after(patience) as scope:
                await daemon.wait_for("recorder", number + 1)
            assert not scope.cancelled_caught


class NotificationWithoutPolling(Store):
    """Waits until somebody tells of an append, however long that takes."""

    async def wait_for_appends(self, timeout):  # noqa: ASYNC109 - the store's own signature
        await super().wait_for_appends(3600)


async def test_an_append_that_nobody_told_of_arrives(scene):
    async with scene() as store:
        await check_an_append_that_nobody_told_of_arrives(store)


async def test_notification_without_polling_never_sees_an_append_that_nobody_told_of(scene):
    async with scene(NotificationWithoutPolling) as store:
        with pytest.raises(AssertionError):
            await check_an_append_that_nobody_told_of_arrives(store, patience=0.5)
