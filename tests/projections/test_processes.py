"""A rule with a memory gives the same documents wherever it is interrupted, and stores each once."""

import gc
import itertools
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from functools import partial
from uuid import UUID, uuid4

import attrs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from flowstore.blocks import ActionBlock, SourceBlock, StreamBlock, run
from flowstore.daemon import event_source, group_by_stream, projection_sink
from flowstore.errors import RegistrationError
from flowstore.events import Event, NewEvent, group_by_stream_id
from flowstore.projections import (
    AsyncOptions,
    Composite,
    EventProcess,
    Lifecycle,
    Projections,
    event_process,
)
from flowstore.store import StoreOptions
from flowstore.store.memory import MemoryDatabase
from flowstore.testing import MemoryStore

PATIENCE = 60
DAY = timedelta(days=1)
START = datetime(2026, 1, 1, tzinfo=UTC)


@attrs.frozen
class Reopened:
    project: str


@attrs.frozen
class Renamed:
    project: str


@attrs.frozen
class Alert:
    id: UUID
    project: str
    issues: int


async def often_reopened(events):
    """Yield an alert when three issues of a project were reopened within a day."""
    recent = defaultdict(list)
    async for event in events:
        times = recent[event.data.project]
        times.append(event.timestamp)
        times[:] = [time for time in times if time >= event.timestamp - DAY]
        if len(times) == 3:
            yield Alert(event.id, event.data.project, len(times))


async def every_third(events):
    """Yield an alert for every third reopening there ever was, and two for every sixth."""
    seen = defaultdict(int)
    async for event in events:
        project = event.data.project
        seen[project] += 1
        if seen[project] % 3 == 0:
            yield Alert(event.id, project, seen[project])
        if seen[project] % 6 == 0:
            yield Alert(UUID(int=event.id.int + 1), project, seen[project])


RULES = {"a window": (often_reopened, DAY), "no window": (every_third, None)}


def make(rule=often_reopened, window=DAY, **more):
    return event_process("often", rule, produces=Alert, consumes=[Reopened], window=window, **more)


def happened(*facts):
    """Give events of (project, hours), the sequence with holes as it has in a store."""
    return [
        Event(
            data=Reopened(project),
            sequence=place * 2,
            id=UUID(int=place << 8),
            stream_id=f"issue {place}",
            version=1,
            type_name="Reopened",
            timestamp=START + timedelta(hours=hours),
        )
        for place, (project, hours) in enumerate(facts, 1)
    ]


def plain(rule, history):
    """Run a rule over everything at once, as a stream block would."""

    async def run_it():
        return [document async for document in rule(_each(history))]

    return trio.run(run_it)


@attrs.frozen
class Past:
    """A history that is a list; what isn't below a ceiling hasn't happened yet."""

    events: tuple = attrs.field(eq=False)
    reads: list = attrs.field(factory=list, eq=False)

    async def read(self, _types, /, *, floor, ceiling, include_archived):
        assert not include_archived
        for event in self.events:
            if floor < event.sequence <= ceiling:
                self.reads.append(event.sequence)
                yield event

    async def floor_of(self, _types, /, *, since, ceiling, include_archived):
        assert not include_archived
        before = [event for event in self.events if event.sequence <= ceiling]
        late = [event.sequence for event in before if event.timestamp >= since]
        floor = late[0] - 1 if late else ceiling
        return floor, bool(before) and before[0].sequence <= floor


@attrs.define
class Unit:
    """A unit of work that remembers what was stored in it."""

    history: Past
    stored: list = attrs.field(factory=list)

    def store(self, *documents):
        self.stored += documents


def applied(process, past, page):
    """Apply a page and give what would be committed."""
    unit = Unit(past)
    trio.run(process.apply, unit, group_by_stream_id(page))
    return unit.stored


# Not in the order of time: events may bring a time of their own, and come late.
facts = st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 60)), max_size=25)
fates = st.sampled_from(["committed", "rolled back", "in halves", "restarted", "of another owner"])


@pytest.mark.parametrize("kind", RULES)
@given(
    facts=facts,
    pages=st.lists(st.tuples(st.integers(1, 5), fates), min_size=1, max_size=6),
)
def test_neither_pages_nor_what_becomes_of_them_change_what_is_found(kind, facts, pages):
    rule, window = RULES[kind]
    history = happened(*facts)
    past, process = Past(tuple(history)), make(rule, window)
    committed, rest, again = [], iter(history), itertools.cycle(pages)
    for size, fate in again:
        page = list(itertools.islice(rest, size))
        if not page:
            break
        parts, owner = [page], process
        if fate == "rolled back":
            applied(process, past, page)
        elif fate == "in halves":
            applied(process, past, page)
            middle = len(page) // 2
            parts = [page[:middle], page[middle:]]
        elif fate == "restarted":
            owner = process = make(rule, window)
        elif fate == "of another owner":
            owner = make(rule, window)
        for part in filter(None, parts):
            committed += applied(owner, past, part)
    assert committed == plain(rule, history)


# -- how far back --


def test_a_rule_with_a_window_is_shown_what_is_in_it_and_no_more():
    history = happened(*[("a", 24 * day) for day in range(10)])
    past = Past(tuple(history))
    applied(make(), past, history[9:])
    assert past.reads == [18]  # of the day before; the window's edge belongs to it


def test_an_event_that_comes_late_is_shown_what_was_in_its_window():
    history = happened(("a", 0), ("a", 1), ("a", 500), ("a", 501), ("a", 2))
    past, process = Past(tuple(history)), make()
    applied(process, past, [history[3]])
    assert past.reads == [6]
    past.reads.clear()
    applied(process, past, [history[4]])
    assert past.reads == [2, 4, 6, 8]


def test_a_rule_without_a_window_is_shown_everything():
    history = happened(*[("a", 24 * day) for day in range(5)])
    past = Past(tuple(history))
    assert applied(make(every_third, None), past, history[4:]) == []
    assert past.reads == [2, 4, 6, 8]


def test_a_window_longer_than_time_is_none():
    history = happened(*[("a", day) for day in range(3)])
    past = Past(tuple(history))
    [alert] = applied(make(window=timedelta.max), past, history[2:])
    assert (past.reads, alert.id) == ([2, 4], history[2].id)


def test_a_run_that_goes_on_reads_nothing_again():
    history = happened(*[("a", hour) for hour in range(6)])
    past, process = Past(tuple(history)), make(every_third, None)
    found = [applied(process, past, [event]) for event in history]
    assert past.reads == []
    assert [len(alerts) for alerts in found] == [0, 0, 1, 0, 0, 2]


# -- what a rule may not do --


async def returns(events):
    async for event in events:
        yield Alert(event.id, "a", 1)
        return


async def yields_first(events):
    yield Alert(UUID(int=1), "a", 1)
    async for _ in events:
        pass


async def waits(events):
    async for _ in events:
        with trio.move_on_after(1):
            await trio.lowlevel.checkpoint()
        yield None


async def yields_something_else(events):
    async for event in events:
        yield event.data


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (returns, "has returned"),
        (yields_first, "yields before it has asked"),
        (waits, "waits for something other"),
        (yields_something_else, "registered to produce a Alert"),
    ],
)
def test_what_a_rule_may_not_do_fails_the_event(rule, words):
    history = happened(("a", 0), ("a", 1))
    with pytest.raises(RegistrationError, match=f"'often'.*{words}"):
        applied(make(rule), Past(tuple(history)), history)


def test_a_rule_that_raises_begins_again_with_what_came_before():
    async def touchy(events):
        count = 0
        async for event in events:
            count += 1
            if event.data.project == "poison" and not mended:
                raise ZeroDivisionError
            yield Alert(event.id, event.data.project, count)

    mended = []
    history = happened(("a", 0), ("a", 1), ("poison", 2), ("a", 3))
    past, process = Past(tuple(history)), make(touchy, None)
    assert len(applied(process, past, history[:1])) == 1
    with pytest.raises(ZeroDivisionError):
        applied(process, past, history[1:])
    assert [alert.issues for alert in applied(process, past, history[1:2])] == [2]
    mended.append(True)
    assert [alert.issues for alert in applied(process, past, history[2:])] == [3, 4]


def test_a_run_that_is_dropped_says_nothing(recwarn):
    history = happened(("a", 0), ("a", 1))
    applied(make(), Past(tuple(history)), history)
    gc.collect()
    assert list(recwarn) == []


async def no_events():
    yield


async def not_a_generator(events): ...


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"rule": not_a_generator}, "async generator function"),
        ({"rule": Alert}, "async generator function"),
        ({"rule": no_events}, r"can't be called as \(events\)"),
        ({"window": 5}, "window is 5"),
        ({"window": timedelta(0)}, "window is datetime.timedelta"),
        ({"produces": "Alert"}, "produces is 'Alert'"),
        ({"produces": Reopened}, "Reopened, which has no field 'id'"),
        ({"consumes": ["Reopened"]}, "holds 'Reopened', which isn't a class"),
        ({"name": " "}, "can't be a projection's name"),
        ({"version": 0}, "can't be a projection's version"),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_what_cannot_be_a_process_is_refused(given, words):
    fitting = {"name": "often", "rule": often_reopened, "produces": Alert, "consumes": [Reopened]}
    with pytest.raises(RegistrationError, match=words):
        Projections().process(**{**fitting, **given})


def test_a_process_is_neither_inline_nor_live_nor_a_member():
    for lifecycle, word in ((Lifecycle.INLINE, "inline: a process"), (Lifecycle.LIVE, "live")):
        with pytest.raises(RegistrationError, match=f"'often' can't be {word}"):
            Projections().add(make(), lifecycle=lifecycle)
    with pytest.raises(RegistrationError, match="'often', which is of kind EventProcess"):
        Composite("all").stage(make())


def test_a_process_may_be_a_partial_or_an_object():
    class Rule:
        async def __call__(self, events):
            async for event in events:
                yield Alert(event.id, "a", 1)

    history = happened(("a", 0))
    for rule in (partial(often_reopened), Rule()):
        applied(make(rule), Past(tuple(history)), history)


def test_no_event_of_it_is_ever_set_aside():
    options = make(async_options=AsyncOptions(on_rebuild_error="dead_letter")).async_options
    assert (options.on_error, options.on_rebuild_error) == ("stop", "stop")


def test_it_is_found_by_its_rule_and_its_documents():
    projections = Projections()
    process = projections.process("often", often_reopened, produces=Alert)
    assert isinstance(process, EventProcess)
    for asked in ("often", Alert, often_reopened, process):
        assert projections.find(asked).projection is process


# -- in a store --


def registered(kind="a window", page_size=500):
    rule, window = RULES[kind]
    projections = Projections()
    projections.process(
        "often",
        rule,
        produces=Alert,
        consumes=[Reopened],
        window=window,
        async_options=AsyncOptions(page_size=page_size),
    )
    return projections


async def append(store, *facts, tenant=None):
    async with store.session(tenant_id=tenant) as session:
        for project, hours in facts:
            event = NewEvent(Reopened(project), timestamp=START + timedelta(hours=hours))
            session.events.append(uuid4(), Renamed(project), event)
        await session.save_changes()


async def run_until_current(store):
    with trio.fail_after(PATIENCE):
        async with store.build_projection_daemon() as daemon:
            await daemon.start_all()
            await daemon.wait_for_non_stale_results()


async def alerts_in(store, tenant=None):
    """List the alerts with the times they were written."""
    async with store.connection() as connection:
        cursor = await connection.execute(
            f"select id, version from {store.options.schema}.doc_alert"
            " where tenant_id = %s order by id",
            (tenant or "*DEFAULT*",),
        )
        return await cursor.fetchall()


async def expected_in(store, kind="a window", tenant=None, after=0):
    """List the alerts that one run of the rule over all events finds, each written once."""
    rule, _ = RULES[kind]
    events = await store.session(tenant_id=tenant).events.query("type = 'reopened'")

    async def given():
        for event in events:
            yield event

    return sorted([(alert.id, 1) async for alert in rule(given())][after:])


HISTORY = [("ab"[place % 3 % 2], place * 5) for place in range(60)]


@pytest.mark.parametrize("kind", RULES)
@pytest.mark.parametrize("page_size", [1, 4, 500])
async def test_a_restart_in_the_middle_finds_the_same_alerts(serving, kind, page_size):
    done = 0
    for count in (2, 3, 7, 20, 28):
        async with serving(registered(kind, page_size)) as store:
            await append(store, *HISTORY[done : done + count])
            await run_until_current(store)
            done += count
    async with serving(registered(kind, page_size)) as store:
        assert done == len(HISTORY)
        assert await alerts_in(store) == await expected_in(store, kind) != []


@pytest.mark.parametrize("kind", RULES)
async def test_a_rebuild_finds_the_same_alerts(serving, kind):
    async with serving(registered(kind, 7)) as store:
        await append(store, *HISTORY[:30])
        async with store.build_projection_daemon() as daemon:
            await daemon.start_all()
            await daemon.wait_for_non_stale_results()
            await append(store, *HISTORY[30:])
            await daemon.wait_for_non_stale_results()
            before = await alerts_in(store)
            await daemon.rebuild("often")
            assert await alerts_in(store) == before == await expected_in(store, kind)
            await daemon.rewind("often", 40)
            await daemon.wait_for_non_stale_results()
            assert [key for key, _ in await alerts_in(store)] == [key for key, _ in before]


@pytest.mark.parametrize("kind", RULES)
async def test_owners_that_take_turns_find_the_same_alerts(serving, kind):
    async with serving(registered(kind, 3)) as first, serving(registered(kind, 3)) as second:
        for place, fact in enumerate(HISTORY):
            await append(first, fact)
            if place % 4 == 0:
                await run_until_current(second if place % 8 else first)
        await run_until_current(second)
        assert await alerts_in(first) == await expected_in(first, kind)


async def test_tenants_have_memories_of_their_own(serving):
    async with serving(registered(page_size=5), tenancy="conjoined") as store:
        for fact in HISTORY[:20]:
            await append(store, fact, tenant="one")
            await append(store, fact, fact, tenant="two")
            await run_until_current(store)
        for tenant in ("one", "two"):
            assert await alerts_in(store, tenant) == await expected_in(store, tenant=tenant) != []


async def test_what_it_begins_after_is_remembered_and_makes_no_alert(serving):
    projections = Projections()
    projections.process(
        "often",
        every_third,
        produces=Alert,
        consumes=[Reopened],
        async_options=AsyncOptions(start_from=8),
    )
    async with serving(projections) as store:
        await append(store, *[("a", hour) for hour in range(6)])
        await run_until_current(store)
        # The third reopening lies before the start, the sixth after it.
        assert await alerts_in(store) == await expected_in(store, "no window", after=1)
        assert len(await alerts_in(store)) == 2


async def test_an_event_that_fails_holds_the_process_until_it_is_skipped(serving):
    async def touchy(events):
        count = 0
        async for event in events:
            count += 1
            if event.data.project == "poison":
                raise ZeroDivisionError
            yield Alert(event.id, event.data.project, count)

    projections = Projections()
    projections.process("often", touchy, produces=Alert, consumes=[Reopened])
    async with serving(projections) as store:
        await append(store, ("a", 0), ("poison", 1), ("a", 2))
        async with store.build_projection_daemon() as daemon:
            with pytest.raises(ExceptionGroup) as caught:
                await daemon.catch_up()
            [failure] = caught.value.exceptions
            assert isinstance(failure.__cause__, ZeroDivisionError)
            assert await store.progress("often") == 2
            [poison] = await store.session().events.query(
                "data->>'project' = 'poison' and type = 'reopened'"
            )
            await store.skip_event(poison.id)
            await daemon.catch_up()
        alerts = await store.session().query(Alert, "true")
        assert sorted(alert.issues for alert in alerts) == [1, 2]


async def test_the_stores_history_is_what_was_appended(serving):
    hours = [0, 30, 2, 24, 24, 7]
    async with serving(registered(), tenancy="conjoined") as store:
        for tenant in ("other", "mine"):
            await append(store, *[("a", hour) for hour in hours], tenant=tenant)
        events = [
            event
            for event in await store.session(tenant_id="mine").events.query("true")
            if isinstance(event.data, Reopened)
        ]
        past = Past(tuple(events))
        history = store.projection_session("mine").history
        assert history == store.projection_session("mine").history
        assert history != store.projection_session("other").history
        assert len(events) == len(hours)
        ceilings = [0, events[0].sequence - 1, *(event.sequence for event in events)]
        for ceiling in ceilings:
            for floor in ceilings:
                place = {"floor": floor, "ceiling": ceiling, "include_archived": False}
                found = [event async for event in history.read([Reopened], **place)]
                assert found == [event async for event in past.read([Reopened], **place)]
            for hour in range(-1, 32):
                since = START + timedelta(hours=hour)
                place = {"since": since, "ceiling": ceiling, "include_archived": False}
                found = await history.floor_of([Reopened], **place)
                assert found == await past.floor_of([Reopened], **place)


@pytest.mark.parametrize("kind", RULES)
async def test_a_restart_over_a_store_in_memory_finds_the_same_alerts(kind, schema):
    database, found = MemoryDatabase(), []
    for fact in HISTORY:
        options = StoreOptions(schema=schema, projections=registered(kind, 3))
        store = MemoryStore(options, database=database)
        await append(store, fact)
        await run_until_current(store)
    found = [alert.id for alert in await store.session().find(Alert)]
    events = [
        event
        for event in (await store.fetch_page(0, await store.high_water(), types=[Reopened])).events
        if isinstance(event.data, Reopened)
    ]
    rule, _ = RULES[kind]
    assert found == sorted([alert.id async for alert in rule(_each(events))]) != []


async def test_the_stores_history_comes_in_several_readings(serving, monkeypatch):
    monkeypatch.setattr("flowstore.store._history._ROWS_AT_ONCE", 3)
    async with serving(registered()) as store:
        await append(store, *HISTORY[:7])
        read = store.projection_session().history.read
        found = [e.sequence async for e in read((), floor=1, ceiling=13, include_archived=False)]
        assert found == list(range(2, 14))


async def test_archived_events_are_remembered_where_they_count(serving):
    async with serving(registered()) as store:
        async with store.session() as session:
            session.events.append(stream := uuid4(), Reopened("a"))
            await session.save_changes()
            session.events.archive_stream(stream)
            await session.save_changes()
        read = store.projection_session().history.read
        for included, count in ((False, 0), (True, 1)):
            place = {"floor": 0, "ceiling": 1, "include_archived": included}
            assert len([event async for event in read([Reopened], **place)]) == count


# -- in a pipeline of one's own --


async def test_it_runs_in_a_pipeline_of_ones_own_and_a_daemon_goes_on(serving):
    async with serving(registered()) as store:
        process = store.options.projections.find("often").projection
        for part in (HISTORY[:11], HISTORY[11:23]):
            await append(store, *part)
            fresh = make()
            await run(
                event_source(store, floor=fresh, follow=False, page_size=4),
                group_by_stream(),
                projection_sink(store, fresh),
            )
        assert await store.progress(process) == 46
        await append(store, *HISTORY[23:])
        await run_until_current(store)
        assert await alerts_in(store) == await expected_in(store)


async def test_the_same_rule_runs_in_a_stream_block():
    history, found = happened(*HISTORY), []
    await run(SourceBlock(history), StreamBlock(often_reopened), ActionBlock(found.append))
    assert [alert.id for alert in found] == [
        alert.id async for alert in often_reopened(_each(history))
    ]
    assert found


async def _each(events):
    for event in events:
        yield event
