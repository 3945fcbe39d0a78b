"""Poison of every kind is set aside with its place, its error and its traceback; nothing else is.

Errors of a handler that are no `Exception` ask for the end of the program, and get it: then the page
is rolled back, and the next start goes on from there.
"""

import asyncio
import math
from contextlib import asynccontextmanager
from uuid import uuid4

import attrs
import psycopg
import pytest
import trio

from flowstore import AsyncOptions, DaemonSettings, FlowstoreError, StoreOptions, open_store
from flowstore.errors import RebuildError, StaleResultsError
from flowstore.events import in_sequence

SETTINGS = DaemonSettings(slow_polling_time=0.01, stop_and_drain_timeout=0.2)
POISONED = [{1}, {5}, {10}, {1, 10}, {4, 5, 6}, set(range(1, 11)), set(range(6, 11))]
"""First, middle, last, neighbours, a whole page of 5, all pages."""


@attrs.frozen
class Happened:
    number: int = 0


@attrs.define
class Page:
    id: int
    content: object = None


class FatalError(BaseException):
    pass


class UntellableError(Exception):
    def __str__(self):
        raise ValueError("this error can't even be told")


class UnshowableError(Exception):
    __slots__ = ()

    def __repr__(self):
        raise ValueError

    __str__ = __repr__


def recurse(depth=0):
    return recurse(depth + 1)


def raising(error):
    def fail(session, event):
        raise error

    return fail


def storing(content):
    def fail(session, event):
        session.store(Page(event.sequence, content))

    return fail


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


def circular():
    value = []
    value.append(value)
    return value


class Meaningless:
    """Nothing knows how to make JSON of it."""


async def commit_by_itself(session, event):
    await session.save_changes()


async def refuse_by_sql(session, event):
    session.execute("select 1 / 0")


async def end_the_transaction(session, event):
    session.execute("commit")


async def roll_back_the_transaction(session, event):
    session.execute("rollback")


async def raise_a_group(session, event):
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.lowlevel.checkpoint)
        raise ValueError


async def time_out(session, event):
    with trio.fail_after(0):
        await trio.sleep_forever()


KINDS = {
    "ValueError": raising(ValueError("no")),
    "no message": raising(ValueError()),
    "an assertion": raising(AssertionError()),
    "RecursionError": lambda session, event: recurse(),
    "MemoryError": raising(MemoryError()),
    "StopIteration": raising(StopIteration()),
    "StopAsyncIteration": raising(StopAsyncIteration()),
    "an error that can't be told": raising(UntellableError()),
    "an error that can't be shown either": raising(UnshowableError()),
    "NUL and half a pair": raising(ValueError("\0 \ud800")),
    "a long message": raising(ValueError("x" * 3_000_000)),
    "a group": raise_a_group,
    "a timeout of its own": time_out,
    "psycopg's own error": raising(psycopg.errors.UniqueViolation("no")),
    "flowstore's own error": raising(FlowstoreError("no")),
    "NaN": storing(math.nan),
    "an infinity": storing([math.inf]),
    "NUL in text": storing("\0"),
    "half a pair in text": storing("\ud800"),
    "too large": storing("x" * 3_000_000),
    "too deep": storing(nested(500)),
    "contains itself": storing(circular()),
    "no JSON": storing(Meaningless()),
    "an identity of a wrong type": lambda session, event: session.store(Page([], 1)),
    "an identity out of bounds": lambda session, event: session.store(Page(2**80, 1)),
    "no identity": lambda session, event: session.store(Page(None, 1)),
    "a class that is no document": lambda session, event: session.store(object()),
    "SQL that is refused": refuse_by_sql,
    "SQL that is no SQL": lambda session, event: session.execute("selec"),
    "too many parameters": lambda session, event: session.execute("select 1", 1, 2),
    "a parameter of no type": lambda session, event: session.execute("select %s", Meaningless()),
    "commits by itself": commit_by_itself,
    "COMMIT in its SQL": end_the_transaction,
    "ROLLBACK in its SQL": roll_back_the_transaction,
}


@attrs.define
class Sink:
    """Writes each event down in the transaction of its progress; some do what poison does."""

    table: str
    poison: object = None
    poisoned: set = attrs.field(factory=set)
    async_options: AsyncOptions = attrs.field(factory=lambda: AsyncOptions(page_size=5))
    name: str = "sink"
    consumes: tuple = ()
    produces: type | None = None

    async def apply(self, session, streams):
        for event in in_sequence(streams):
            session.execute(f"insert into {self.table} (sequence) values (%s)", event.sequence)
            if event.sequence in self.poisoned:
                waiting = self.poison(session, event)
                if waiting is not None:
                    await waiting

    async def teardown(self, session):
        session.execute(f"delete from {self.table}")


@pytest.fixture
def scene(pg_dsn, schema):
    @asynccontextmanager
    async def open_scene(poison=None, poisoned=frozenset(), **options):
        sink = Sink(f"{schema}.seen", poison, set(poisoned))
        if options:
            sink.async_options = AsyncOptions(page_size=5, **options)
        made = StoreOptions(schema=schema)
        made.events.add_types(Happened)
        made.documents.type(Page)
        made.projections.add(sink)
        async with open_store(pg_dsn, made) as store:
            async with store.connection() as connection:
                await connection.execute(
                    f"create table if not exists {schema}.seen"
                    " (place bigint generated always as identity, sequence bigint)"
                )
            yield store, sink

    return open_scene


async def append(store, count=10):
    async with store.session() as session:
        session.events.append(uuid4(), *map(Happened, range(1, count + 1)))
        await session.save_changes()


async def seen(store):
    async with store.connection() as connection:
        cursor = await connection.execute(
            f"select sequence from {store.options.schema}.seen order by place"
        )
        return [sequence for (sequence,) in await cursor.fetchall()]


async def run_to_the_end(store):
    async with store.build_projection_daemon(SETTINGS) as daemon:
        await daemon.start_all()
        await daemon.wait_for_non_stale_results(timeout=20)
        (status,) = daemon.statuses()
        assert (status.state, status.error, status.reason) == ("running", None, "")


def without(poisoned, last=10):
    return [sequence for sequence in range(1, last + 1) if sequence not in poisoned]


@pytest.mark.parametrize("kind", KINDS)
async def test_it_is_set_aside_and_everything_else_is_applied_once(kind, scene):
    poisoned = {3, 5}
    async with scene(KINDS[kind], poisoned) as (store, _):
        await append(store)
        await run_to_the_end(store)
        letters = await store.dead_letters()
        assert [(letter.shard, letter.sequence) for letter in letters] == [("sink", 3), ("sink", 5)]
        assert all(letter.error_type and letter.traceback for letter in letters)
        assert await seen(store) == without(poisoned)
        async with store.session() as session:
            assert await session.query(Page, "true") == []


@pytest.mark.parametrize("poisoned", POISONED)
async def test_wherever_in_its_page_it_stands(poisoned, scene):
    async with scene(raising(ValueError("no")), poisoned) as (store, _):
        await append(store)
        await run_to_the_end(store)
        assert [letter.sequence for letter in await store.dead_letters()] == sorted(poisoned)
        assert await seen(store) == without(poisoned)


async def test_letters_are_listed_retried_and_discarded(scene):
    async with scene(raising(ValueError("no")), {2, 5, 7}) as (store, sink):
        await append(store)
        await run_to_the_end(store)
        second, fifth, seventh = await store.dead_letters("sink")
        with pytest.raises(ValueError, match="no"):
            await store.retry_dead_letter(second)
        assert await store.dead_letters() == [second, fifth, seventh]
        sink.poisoned.clear()
        await store.retry_dead_letter(second)
        await store.retry_dead_letter(second)  # gone: nothing happens twice
        await store.discard_dead_letter(seventh)
        assert await store.dead_letters() == [fifth]
        assert await seen(store) == [*without({2, 5, 7}), 2]


# -- stopping at it ------------------------------------------------------------------------------


async def test_a_rebuild_stops_and_names_the_place(scene):
    async with scene(raising(ValueError("no"))) as (store, sink):
        await append(store)
        await run_to_the_end(store)
        sink.poisoned.add(7)
        async with store.build_projection_daemon(SETTINGS) as daemon:
            with pytest.raises(RebuildError, match="7") as caught:
                await daemon.rebuild("sink")
            assert "ValueError" in str(caught.value)
            assert await store.dead_letters() == []
            assert await seen(store) == without({7}, last=6)
            sink.poisoned.clear()
            await daemon.rebuild("sink")
        assert await seen(store) == without(())


async def test_catching_up_stops_and_names_the_place(scene):
    async with scene(raising(ValueError("no")), {7}) as (store, sink):
        await append(store)
        async with store.build_projection_daemon(SETTINGS) as daemon:
            with pytest.raises(ExceptionGroup) as caught:
                await daemon.catch_up()
            (error,) = caught.value.exceptions
            assert (error.shard, error.sequence) == ("sink", 7)
            assert isinstance(error.__cause__, ValueError)
            assert await store.dead_letters() == []
            assert await seen(store) == without({7}, last=6)
            sink.poisoned.clear()
            await daemon.catch_up()
        assert await seen(store) == without(())


# -- asking for the end --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", [KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError, FatalError]
)
async def test_who_asks_for_the_programs_end_gets_it_and_loses_nothing(kind, scene):
    async with scene(raising(kind()), {7}) as (store, sink):
        await append(store)
        with pytest.raises(BaseExceptionGroup) as caught, trio.fail_after(20):
            await run_to_the_end(store)
        assert caught.value.subgroup(kind) is not None
        assert await store.dead_letters() == []
        assert await seen(store) == [1, 2, 3, 4, 5]
        sink.poisoned.clear()
        await run_to_the_end(store)
        assert await seen(store) == without(())


async def test_a_cancellation_that_is_raised_again_is_no_end_of_anything(scene):
    """A handler keeps the cancellation of a scope of its own, and raises it outside."""
    kept = []

    async def misuse(session, event):
        with trio.CancelScope() as scope:
            scope.cancel()
            try:
                await trio.lowlevel.checkpoint()
            except trio.Cancelled as cancelled:
                kept.append(cancelled)
                raise
        raise kept[-1]

    async with scene(misuse, {7}) as (store, sink):
        await append(store)
        async with store.build_projection_daemon(SETTINGS) as daemon:
            await daemon.start_all()
            with pytest.raises(StaleResultsError, match="Cancelled"):
                await daemon.wait_for_non_stale_results(timeout=20)
            (status,) = daemon.statuses()
            assert (status.state, status.progress) == ("failed", 5)
        assert await store.dead_letters() == []
        assert await seen(store) == [1, 2, 3, 4, 5]
        sink.poisoned.clear()
        await run_to_the_end(store)
        assert await seen(store) == without(())


# -- what isn't poison ---------------------------------------------------------------------------


async def test_a_handler_that_closes_a_connection_it_was_lent_does_no_harm(scene):
    holder = []

    async def close(session, event):
        async with holder[0].connection() as connection:
            await connection.close()

    async with scene(close, {3, 7}) as (store, _):
        holder.append(store)
        await append(store)
        await run_to_the_end(store)
        assert await store.dead_letters() == []
        assert await seen(store) == without(())


async def test_a_handler_that_leaves_a_transaction_open_does_no_harm(scene):
    holder = []

    async def leave_open(session, event):
        async with holder[0].connection() as connection:
            await connection.execute("begin")
            await connection.execute(f"delete from {holder[0].options.schema}.seen")

    async with scene(leave_open, {3, 7}) as (store, _):
        holder.append(store)
        await append(store)
        await run_to_the_end(store)
        assert await seen(store) == without(())


async def test_a_session_that_is_used_after_its_page_writes_nothing(scene):
    kept = []
    async with scene(lambda session, event: kept.append(session), {3, 10}) as (store, sink):
        await append(store)
        await run_to_the_end(store)
        for session in kept:
            session.execute(f"insert into {sink.table} (sequence) values (99)")
            with pytest.raises(FlowstoreError):
                await session.save_changes()
        await append(store, 2)
        await run_to_the_end(store)
        assert await seen(store) == without((), last=12)


async def test_a_handler_that_never_returns_holds_its_shard_and_rolls_back(scene):
    entered = trio.Event()

    async def hang(session, event):
        entered.set()
        await trio.sleep_forever()

    async with scene(hang, {7}) as (store, sink):
        await append(store)
        with trio.fail_after(20):
            async with store.build_projection_daemon(SETTINGS) as daemon:
                await daemon.start_all()
                await entered.wait()
                (status,) = daemon.statuses()
                assert (status.state, status.progress, status.lag) == ("running", 5, 5)
                await daemon.stop_all()  # within the time that is given for it
                (status,) = daemon.statuses()
                assert status.state == "stopped"
        assert await seen(store) == [1, 2, 3, 4, 5]
        sink.poisoned.clear()
        await run_to_the_end(store)
        assert await seen(store) == without(())


# -- events that can't be read -------------------------------------------------------------------


UNREADABLE = {
    "data of another shape": ("happened", '{"number": "many"}'),
    "data that is no object": ("happened", "7"),
    "an unknown type": ("unheard_of", "{}"),
    "an upcaster that raises": ("old", '{"number": 1}'),
    "an upcaster that recurses": ("older", '{"number": 1}'),
    "an upcaster that returns another class": ("oldest", '{"number": 1}'),
}


def upcast_in_vain(event):
    raise ZeroDivisionError


@pytest.mark.parametrize("what", UNREADABLE)
@pytest.mark.parametrize("places", [{1}, {3}, {5}, {2, 3}, set(range(1, 6))])
async def test_an_event_that_can_not_be_read_is_set_aside(what, places, scene, pg_dsn, schema):
    type_name, data = UNREADABLE[what]
    async with scene() as (store, _):
        store.options.events.upcast("old", Happened, upcast_in_vain)
        store.options.events.upcast("older", Happened, recurse)
        store.options.events.upcast("oldest", Happened, lambda _: object())
        async with store.connection() as connection:
            for sequence in range(1, 8):
                written = (type_name, data) if sequence in places else ("happened", "{}")
                await connection.execute(
                    f"insert into {schema}.events (stream_id, version, type, data)"
                    " values (%s, 1, %s, %s)",
                    (uuid4(), *written),
                )
        await run_to_the_end(store)
        letters = await store.dead_letters("sink")
        assert [letter.sequence for letter in letters] == sorted(places)
        assert all(letter.error_type and letter.traceback for letter in letters)
        assert await seen(store) == without(places, last=7)
