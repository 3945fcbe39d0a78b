"""Documents that are kept at the tail: whoever writes to one beside the shard is seen.

What somebody has done to a document is what the next event is folded over, as if it had been read.
"""

from contextlib import asynccontextmanager
from uuid import UUID

import attrs
import pytest
import trio
import trio.testing

from flowstore.daemon import DaemonSettings, open_store
from flowstore.daemon._applier import Applier
from flowstore.errors import (
    DatabaseUnavailableError,
    DocumentsEditedError,
    ProgressConflictError,
)
from flowstore.events import EventBatch
from flowstore.projections import AsyncOptions, Composite
from flowstore.store import EventStore, ProjectionUnit
from flowstore.store.memory._sessions import MemoryUnit
from flowstore.testing import MemoryStore

STREAMS = [UUID(int=number) for number in range(1, 4)]
PATIENCE = 60


@attrs.frozen
class Counted:
    by: int = 1


@attrs.frozen
class Closed:
    pass


@attrs.define
class Total:
    id: UUID
    number: int = 0
    seen: list[int] = attrs.field(factory=list)

    def apply(self, counted: Counted) -> None:
        if counted.by in poison:
            raise ZeroDivisionError
        self.number += counted.by
        self.seen.append(counted.by)

    def should_delete(self, _: Closed) -> bool:
        return True


@attrs.define
class Second:
    id: UUID
    number: int = 0

    def apply(self, counted: Counted) -> None:
        self.number += counted.by


poison: set[int] = set()


@pytest.fixture(autouse=True)
def no_poison():
    poison.clear()


@attrs.define
class Watched:
    """What a daemon asks of the store; `before` is awaited before the next commit."""

    loads: list = attrs.field(factory=list)
    spans: list = attrs.field(factory=list)
    before: object = None
    loses_reply: bool = False

    async def call_before(self):
        function, self.before = self.before, None
        if function is not None:
            await function()


def watch(monkeypatch, cls, units):
    watched = Watched()
    commit_batch, load_rows, load_texts = cls.commit_batch, units._load_rows, units._load_texts

    async def commit(store, unit, **where):
        watched.spans.append((where["floor"], where["ceiling"]))
        await watched.call_before()
        await commit_batch(store, unit, **where)
        if watched.loses_reply:
            watched.loses_reply, unit.kept = False, {}
            raise DatabaseUnavailableError("the reply was lost")

    async def load(unit, kind, identities):
        watched.loads.append([identity.int for identity in identities])
        return await load_rows(unit, kind, identities)

    monkeypatch.setattr(cls, "commit_batch", commit)

    async def load_for_span(unit, shelf, keys, identities):
        if units is not MemoryUnit:  # which loads them as any other
            watched.loads.append(list(keys))
        return await load_texts(unit, shelf, keys, identities)

    monkeypatch.setattr(units, "_load_rows", load)
    monkeypatch.setattr(units, "_load_texts", load_for_span)
    return watched


@asynccontextmanager
async def in_memory(options):
    yield MemoryStore(options)


@pytest.fixture(params=["postgres", "memory"])
async def either(request, options, pg_dsn):
    """A store of either kind, with a shard of totals."""
    options.projections.aggregate_streams_with(Total, async_options=AsyncOptions(page_size=5))
    is_memory = request.param == "memory"
    async with in_memory(options) if is_memory else open_store(pg_dsn, options) as opened:
        yield opened


@pytest.fixture
def totals(store):
    store.options.projections.aggregate_streams_with(Total, async_options=AsyncOptions(page_size=5))
    return store


@pytest.fixture
def watched(monkeypatch):
    return watch(monkeypatch, EventStore, ProjectionUnit)


@pytest.fixture
def watched_either(monkeypatch, either):
    is_memory = isinstance(either, MemoryStore)
    kinds = (MemoryStore, MemoryUnit) if is_memory else (EventStore, ProjectionUnit)
    return watch(monkeypatch, *kinds)


@asynccontextmanager
async def tail(store, settings=None):
    """Run a daemon whose shard is at the tail, and give what appends to it, event by event."""
    with trio.fail_after(PATIENCE):
        async with store.build_projection_daemon(settings) as daemon:
            await daemon.start_all()

            async def say(*numbers, stream=STREAMS[0], then=True):
                for number in numbers:
                    async with store.session() as session:
                        event = Closed() if number is None else Counted(number)
                        action = session.events.append(stream, event)
                        await session.save_changes()
                    if then:
                        for status in daemon.statuses():
                            await daemon.wait_for(status.name, action.events[-1].sequence)

            yield daemon, say


async def found(store, cls=Total):
    async with store.session() as session:
        documents = await session.load_many(cls, STREAMS)
    return {document.id.int: document.number for document in documents}


async def seen(store):
    async with store.session() as session:
        return (await session.load(Total, STREAMS[0])).seen


async def run(store, statement, *parameters):
    async with store.connection() as connection:
        await connection.execute(statement.encode(), parameters)


async def count(store, statement):
    async with store.connection() as connection:
        return (await (await connection.execute(statement.encode())).fetchone())[0]


async def all_is_well(store, daemon):
    assert await store.dead_letters() == []
    for status in daemon.statuses():
        assert (status.state, status.error) == ("running", None)


async def test_at_the_tail_a_document_is_read_once(either, watched_either):
    async with tail(either) as (_, say):
        await say(1, 2, 3)
        await say(4, 5, stream=STREAMS[1])
        await say(6)
    assert watched_either.loads == []
    assert await found(either) == {1: 12, 2: 9}


async def test_a_document_that_was_there_before_is_read_once(either, watched_either):
    async with tail(either) as (_, say):
        await say(1)
    async with tail(either) as (_, say):
        await say(2, 3)
    assert watched_either.loads == [[1]]
    assert await found(either) == {1: 6}


async def test_a_document_is_there_although_its_stream_begins(either, watched_either):
    """Somebody has put it there. From then on every document is read first: it may happen again."""
    async with either.session() as session:
        session.store(Total(STREAMS[0], 1000, [0]), Total(STREAMS[1], 2000, [0]))
        await session.save_changes()
    async with tail(either) as (daemon, say):
        await say(1, 2)
        await say(3, stream=STREAMS[1])
        await all_is_well(either, daemon)
    assert await found(either) == {1: 1003, 2: 2003}
    assert watched_either.loads == [[1], [2]]


async def test_a_document_is_put_there_while_the_first_event_is_committed(totals, watched):
    async def put():
        async with totals.session() as session:
            session.store(Total(STREAMS[0], 1000, [0]))
            await session.save_changes()

    async with tail(totals) as (daemon, say):
        watched.before = put
        await say(1, 2)
        await all_is_well(totals, daemon)
    assert (await found(totals), await seen(totals)) == ({1: 1003}, [0, 1, 2])


async def test_a_shard_is_rewound_to_where_streams_begin(either):
    async with tail(either) as (daemon, say):
        await say(1)
        await say(2, stream=STREAMS[1])
        await daemon.rewind(Total, 0)
        await daemon.wait_for(Total, 2)
        await say(3)
        await all_is_well(either, daemon)
    assert await found(either) == {1: 5, 2: 4}


async def test_a_stream_begins_of_which_nothing_is_made(either):
    async with tail(either) as (daemon, say):
        await say(None)
        await say(1)
        await all_is_well(either, daemon)
    assert await found(either) == {1: 1}


async def test_no_more_is_kept_than_settings_allow(totals, watched):
    async with tail(totals, DaemonSettings(held_bytes=1)) as (_, say):
        await say(1, 2, 3)
    assert watched.loads == [[1], [1]]
    assert await found(totals) == {1: 6}


async def test_another_session_writes_to_it(either):
    async with tail(either) as (daemon, say):
        await say(1, 2)
        async with either.session() as session:
            session.store(Total(STREAMS[0], 1000, [0]))
            await session.save_changes()
        await say(3, 4)
        await all_is_well(either, daemon)
    assert (await found(either), await seen(either)) == ({1: 1007}, [0, 3, 4])


async def test_another_session_deletes_it(either):
    async with tail(either) as (daemon, say):
        await say(1, 2)
        async with either.session() as session:
            session.delete_by_id(Total, STREAMS[0])
            await session.save_changes()
        await say(3, 4)
        await all_is_well(either, daemon)
    assert (await found(either), await seen(either)) == ({1: 7}, [3, 4])


MENDS = {
    "changed, its version left": "update {} set data = jsonb_set(data, '{{number}}', '1000')",
    "changed, and its version counted": (
        "update {} set data = jsonb_set(data, '{{number}}', '1000'), version = version + 1"
    ),
    "changed, and its version set back": (
        "update {} set data = jsonb_set(data, '{{number}}', '1000'), version = 1"
    ),
    "deleted and put back changed": (
        "with gone as (delete from {} returning *) insert into {} "
        "select tenant_id, id, jsonb_set(data, '{{number}}', '1000'), version, modified from gone"
    ),
}


@pytest.mark.parametrize("mend", MENDS.values(), ids=MENDS)
async def test_it_is_mended_by_hand(totals, schema, mend):
    async with tail(totals) as (daemon, say):
        await say(1, 2)
        if "gone" in mend:  # in one statement the key would still be there
            put_back = f"insert into {schema}.doc_total select * from {schema}.put_aside"
            await run(totals, f"create table {schema}.put_aside as table {schema}.doc_total")
            await run(totals, MENDS["changed, its version left"].format(f"{schema}.put_aside"))
            await run(totals, f"delete from {schema}.doc_total")
            await run(totals, put_back)
        else:
            await run(totals, mend.format(f"{schema}.doc_total"))
        await say(3, 4)
        await all_is_well(totals, daemon)
    assert (await found(totals), await seen(totals)) == ({1: 1007}, [1, 2, 3, 4])


async def test_without_the_comparison_a_mend_is_overwritten(totals, schema, monkeypatch):
    take_over = ProjectionUnit.take_over

    def rely_on_nothing(unit, written):
        written.relied.clear()
        take_over(unit, written)

    monkeypatch.setattr(ProjectionUnit, "take_over", rely_on_nothing)
    async with tail(totals) as (_, say):
        await say(1, 2)
        await run(totals, MENDS["changed, and its version counted"].format(f"{schema}.doc_total"))
        await say(3, 4)
    assert await found(totals) == {1: 10}


@pytest.mark.parametrize("how", ["delete from", "truncate"])
async def test_it_is_gone(totals, schema, how):
    async with tail(totals) as (daemon, say):
        await say(1, 2)
        await run(totals, f"{how} {schema}.doc_total")
        await say(3, 4)
        await all_is_well(totals, daemon)
    assert (await found(totals), await seen(totals)) == ({1: 7}, [3, 4])


@pytest.mark.parametrize("how", ["update", "delete"])
async def test_the_commit_waits_for_who_mends_it_and_sees_it(totals, schema, watched, how):
    """The mend began before the commit and ends after it has begun: no snapshot shows it."""
    statements = {
        "update": "update {}.doc_total set data = jsonb_set(data, '{{number}}', '1000')",
        "delete": "delete from {}.doc_total",
    }
    blocked = (
        "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and query like"
        " '%%doc_total%%' and query like '%%advance%%' and pid <> pg_backend_pid()"
    )
    async with tail(totals) as (daemon, say):
        await say(1, 2)
        async with trio.open_nursery() as nursery, totals.connection() as hand, hand.transaction():
            await hand.execute(statements[how].format(schema).encode())
            nursery.start_soon(say, 3)
            while await count(totals, blocked) == 0:  # noqa: ASYNC110  the server tells nobody
                await trio.sleep(0.005)
        await say(4)
        await all_is_well(totals, daemon)
    assert await found(totals) == {1: 1007 if how == "update" else 7}


async def test_a_mend_that_is_rolled_back_refuses_nothing(totals, schema, watched):
    async with tail(totals) as (_, say):
        await say(1, 2)
        async with totals.connection() as hand, hand.transaction(force_rollback=True):
            await hand.execute(f"delete from {schema}.doc_total".encode())
        await say(3)
    assert await found(totals) == {1: 6}
    assert watched.spans[-2:] == [(1, 2), (2, 3)]


async def test_only_who_relies_on_it_is_refused(totals, schema, watched):
    async with tail(totals) as (_, say):
        await say(1, 2)
        await say(3, stream=STREAMS[1])
        await run(totals, f"update {schema}.doc_total set data = data where id = %s", STREAMS[1])
        await say(4)
        spans = len(watched.spans)
        await say(5, stream=STREAMS[1])
    assert len(watched.spans) == spans + 2  # refused, and again
    assert watched.loads == [[2]]
    assert await found(totals) == {1: 7, 2: 8}


async def test_who_mends_it_for_ever_keeps_nothing_from_moving(totals, schema, watched):
    mend = f"update {schema}.doc_total set data = jsonb_set(data, '{{number}}', '1000')"

    async def again():
        watched.before = again
        await run(totals, mend)

    async with tail(totals) as (daemon, say):
        await say(1)
        watched.before = again
        await say(2, 3, 4, 5)
        watched.before = None
        await all_is_well(totals, daemon)
    assert await seen(totals) == [1, 2, 3, 4, 5]


async def test_a_trigger_writes_something_else_than_it_was_given(totals, schema, watched):
    async with tail(totals) as (daemon, say):
        await say(1)
        await run(
            totals,
            f"create function {schema}.twice() returns trigger language plpgsql as $$ begin"
            " new.data = jsonb_set(new.data, '{number}', to_jsonb((new.data ->> 'number')::int * 2));"
            " return new; end $$",
        )
        await run(
            totals,
            f"create trigger twice before insert or update on {schema}.doc_total for each row"
            f" execute function {schema}.twice()",
        )
        await say(2)
        # An insert that comes to be an update passes both.
        doubled = (await found(totals))[1]
        await say(3)
        await all_is_well(totals, daemon)
    assert doubled > 3
    assert await found(totals) == {1: (doubled + 3) * (doubled // 3)}
    assert watched.loads == []


async def test_a_trigger_writes_to_it_after_it_was_written(totals, schema):
    async with tail(totals) as (daemon, say):
        await say(1, 2)
        await run(
            totals,
            f"create function {schema}.more() returns trigger language plpgsql as $$ begin"
            f" update {schema}.doc_total set data = jsonb_set(data, '{{number}}',"
            " to_jsonb((data ->> 'number')::int + 100)) where id = new.id;"
            " return null; end $$",
        )
        await run(
            totals,
            f"create trigger more after update on {schema}.doc_total for each row"
            f" when (pg_trigger_depth() = 0) execute function {schema}.more()",
        )
        await say(3, 4)
        await all_is_well(totals, daemon)
    assert await found(totals) == {1: 210}


async def test_a_dead_letter_is_retried_beside_it(either):
    async with tail(either) as (daemon, say):
        poison.add(2)
        await say(1, 2, 3)
        poison.clear()
        (letter,) = await either.dead_letters()
        await either.retry_dead_letter(letter)
        await say(4, 5)
        await all_is_well(either, daemon)
    assert (await found(either), sorted(await seen(either))) == ({1: 15}, [1, 2, 3, 4, 5])


async def test_an_event_fails_that_is_folded_over_it(either):
    async with tail(either) as (daemon, say):
        await say(1, 2)
        poison.add(3)
        await say(3, 4)
        assert [letter.sequence for letter in await either.dead_letters()] == [3]
        assert daemon.statuses()[0].state == "running"
    assert (await found(either), await seen(either)) == ({1: 7}, [1, 2, 4])


async def test_the_shard_is_rewound(either):
    async with tail(either) as (daemon, say):
        await say(1, 2)
        await daemon.rewind(Total, 1)
        await daemon.wait_for(Total, 2)
        await say(3)
        await all_is_well(either, daemon)
    assert (await found(either), await seen(either)) == ({1: 8}, [1, 2, 2, 3])


@pytest.mark.parametrize("swap", [False, True])
async def test_it_is_rebuilt(either, swap):
    async with tail(either) as (daemon, say):
        await say(1, 2)
        async with either.session() as session:
            session.store(Total(STREAMS[0], 1000, [0]))
            await session.save_changes()
        await daemon.rebuild(Total, swap=swap and not isinstance(either, MemoryStore))
        await say(3)
        await all_is_well(either, daemon)
    assert (await found(either), await seen(either)) == ({1: 6}, [1, 2, 3])


async def test_another_daemon_takes_over_and_gives_back(totals, opening):
    async with tail(totals) as (daemon, say), opening() as other:
        await say(1, 2)
        options = AsyncOptions(page_size=5)
        other.options.projections.aggregate_streams_with(Total, async_options=options)
        async with tail(other) as (_, say_there):
            await say_there(3)
        (status,) = daemon.statuses()
        if status.state != "failed":  # it finds out with its next commit
            await say(4, then=False)
            async for status in daemon.watch():
                if status.state == "failed":
                    break
        assert isinstance(daemon.statuses()[0].error, ProgressConflictError)
        await daemon.restart(Total)
        await say(5)
    assert sum(await seen(totals)) == (await found(totals))[1]
    assert await seen(totals) in ([1, 2, 3, 4, 5], [1, 2, 3, 5])


async def test_the_reply_to_a_commit_is_lost(either, watched_either):
    async with tail(either, DaemonSettings(retry_time=0.001)) as (daemon, say):
        await say(1, 2)
        watched_either.loses_reply = True
        await say(3, 4)
        await all_is_well(either, daemon)
    assert (await found(either), await seen(either)) == ({1: 10}, [1, 2, 3, 4])
    # Nobody has told what the third one wrote: it is read.
    assert watched_either.loads == [[1]]


async def test_a_commit_is_tried_again_that_never_arrived(either, watched_either):
    async def lose():
        raise DatabaseUnavailableError("the network is down")

    async with tail(either, DaemonSettings(retry_time=0.001)) as (daemon, say):
        await say(1, 2)
        watched_either.before = lose
        await say(3, 4)
        await all_is_well(either, daemon)
    assert (await found(either), await seen(either)) == ({1: 10}, [1, 2, 3, 4])


async def test_a_commit_is_cancelled(totals, schema, watched):
    reached = trio.Event()

    async def never():
        reached.set()
        await trio.sleep_forever()

    async with tail(totals, DaemonSettings(stop_and_drain_timeout=0)) as (daemon, say):
        await say(1, 2)
        watched.before = never
        await say(3, then=False)
        await reached.wait()
        await daemon.stop(Total)
        mend = f"update {schema}.doc_total set data = jsonb_set(data, '{{number}}', '1000')"
        await run(totals, mend)
        await daemon.start(Total)
        await say(4)
        await all_is_well(totals, daemon)
    assert (await found(totals), await seen(totals)) == ({1: 1007}, [1, 2, 3, 4])


async def test_a_span_that_was_refused_is_no_commit_that_may_come_late(totals, monkeypatch):
    async def refuse(*_, **__):
        raise DocumentsEditedError("Total")

    monkeypatch.setattr(EventStore, "commit_batch", refuse)
    projection = totals.options.projections.find(Total).projection
    applier = Applier(totals, projection, await totals.claim(projection))
    with pytest.raises(DocumentsEditedError):
        await applier.commit_unit(EventBatch(0, 1), totals.projection_session())
    assert applier.unknown == {}


async def test_what_was_folded_over_a_refused_span_is_folded_again(totals, schema, watched):
    """The next page is folded while the commit is under way, over what that would have written."""
    mend = f"update {schema}.doc_total set data = jsonb_set(data, '{{number}}', '1000')"

    async def meanwhile():
        async with totals.session() as session:
            session.events.append(STREAMS[0], *[Counted(1) for _ in range(20)])
            await session.save_changes()
        await trio.testing.wait_all_tasks_blocked(0.05)
        await run(totals, mend)

    async with tail(totals) as (daemon, say):
        await say(1, 2)
        watched.before = meanwhile
        await say(3, 4)
        await daemon.wait_for_non_stale_results()
        await all_is_well(totals, daemon)
    assert (await found(totals), sum(await seen(totals))) == ({1: 1027}, 30)


async def test_a_document_ends_that_is_kept(either):
    async with tail(either) as (daemon, say):
        await say(1, 2)
        await say(None)
        assert await found(either) == {}
        await say(3, 4)
        await all_is_well(either, daemon)
    assert (await found(either), await seen(either)) == ({1: 7}, [3, 4])


async def test_a_document_ends_that_somebody_has_mended(either):
    async with tail(either) as (daemon, say):
        await say(1, 2)
        async with either.session() as session:
            session.store(Total(STREAMS[0], 1000, [0]))
            await session.save_changes()
        await say(None)
        await all_is_well(either, daemon)
    assert await found(either) == {}


async def test_what_takes_several_statements_is_refused_as_well(either):
    """One document ends while another goes on, which somebody has mended."""
    async with tail(either) as (daemon, say):
        await say(1, 2)
        await say(3, 4, stream=STREAMS[1])
        async with either.session() as session:
            session.store(Total(STREAMS[0], 1000, [0]))
            await session.save_changes()
        async with either.session() as session:
            session.events.append(STREAMS[1], Closed())
            session.events.append(STREAMS[0], Counted(5))
            await session.save_changes()
        await daemon.wait_for(Total, 6)
        await all_is_well(either, daemon)
    assert await found(either) == {1: 1005}


@pytest.fixture
def pair(store):
    """Two documents a stream, in two tables: more than one statement writes."""
    store.options.projections.add(Composite("pair").stage(Total, Second))
    return store


async def test_documents_of_two_tables_are_as_they_were_read(pair, schema, watched):
    async with tail(pair) as (daemon, say):
        await say(1, 2)
        await run(pair, f"update {schema}.doc_second set data = jsonb_set(data, '{{number}}', '7')")
        await say(3)
        await all_is_well(pair, daemon)
    assert (await found(pair), await found(pair, Second)) == ({1: 6}, {1: 10})


async def test_what_is_kept_of_another_tenant_stays_apart(opening, schema):
    async with opening(tenancy="conjoined") as store:
        store.options.projections.aggregate_streams_with(Total)
        with trio.fail_after(PATIENCE):
            async with store.build_projection_daemon() as daemon:
                await daemon.start_all()
                for number in range(1, 7):
                    tenant = "ab"[number % 2]
                    async with store.session(tenant_id=tenant) as session:
                        session.events.append(STREAMS[0], Counted(number))
                        await session.save_changes()
                    await daemon.wait_for(Total, number)
                    if number == 4:
                        mend = f"update {schema}.doc_total set data = jsonb_set(data, '{{number}}',"
                        await run(store, f"{mend} '1000') where tenant_id like '%%a'")
        numbers = []
        for tenant in ("a", "b"):
            async with store.session(tenant_id=tenant) as session:
                numbers.append((await session.load(Total, STREAMS[0])).number)
    assert numbers == [1006, 9]


async def test_nobody_can_change_what_is_kept(totals):
    """What a fold was handed, and has given to somebody, isn't what the next one is handed."""
    leaked = []
    apply = Total.apply

    def leak(self, counted: Counted) -> None:
        leaked.append(self)
        apply(self, counted)

    Total.apply = leak
    try:
        async with tail(totals) as (_, say):
            await say(1, 2)
            for total in leaked:
                total.number = 1_000_000
                total.seen.append(-1)
            await say(3)
    finally:
        Total.apply = apply
    assert (await found(totals), await seen(totals)) == ({1: 6}, [1, 2, 3])
