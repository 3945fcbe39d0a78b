"""Importing in bulk, and exporting as lines of JSON."""

import io
import json
import random
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from uuid import UUID, uuid4

import attrs
import pytest
import trio
from psycopg import sql

from flowstore.errors import (
    ConcurrencyError,
    EventIdConflictError,
    InvalidEventError,
    StreamArchivedError,
)
from flowstore.events import Archived, NewEvent
from flowstore.store import StoreOptions, _import, open_event_store

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


@attrs.frozen
class Happened:
    what: str


@attrs.frozen
class Measured:
    values: list[float]


@attrs.define
class History:
    id: UUID
    seen: list[str] = attrs.field(factory=list)

    def apply(self, happened: Happened) -> None:
        self.seen.append(happened.what)


@pytest.fixture
async def target(pg_dsn, dsn):
    """Another store, in a database of its own."""
    async with open_event_store(dsn, StoreOptions(schema="target")) as opened:
        yield opened


async def append(store, stream_id, *events, **marks):
    async with store.session(**marks) as session:
        session.events.append(stream_id, *events)
        await session.save_changes()


async def fetch(store, stream_id, **asked):
    return await store.session().events.fetch_stream(stream_id, **asked)


async def state(store, stream_id):
    return await store.session().events.fetch_stream_state(stream_id)


async def everything(store):
    page = await store.fetch_page(0, await store.high_water(), limit=10_000, include_archived=True)
    return page.events


# -- bringing in ---------------------------------------------------------------------------------


async def test_events_get_places_in_the_order_of_their_source(store):
    one, two = sorted([uuid4(), uuid4()], reverse=True)
    pairs = [(one, Happened("1")), (two, Happened("2")), (one, Happened("3"))]
    assert await store.import_events(pairs) == 3
    events = await everything(store)
    assert [(each.stream_id, each.version, each.sequence) for each in events] == [
        (one, 1, 1),
        (two, 1, 2),
        (one, 2, 3),
    ]
    assert [each.data.what for each in events] == ["1", "2", "3"]
    state = await store.session().events.fetch_stream_state(one)
    assert (state.version, state.archived) == (2, False)


async def test_streams_go_on_where_they_are_and_can_be_appended_to_afterwards(store):
    stream_id = uuid4()
    await append(store, stream_id, Happened("1"))
    await store.import_events((stream_id, Happened(what)) for what in "23")
    await append(store, stream_id, Happened("4"))
    assert [event.version for event in await fetch(store, stream_id)] == [1, 2, 3, 4]


async def test_recorded_events_are_the_same_afterwards_but_for_their_sequence(store, target):
    stream_id = uuid4()
    await append(store, uuid4(), Happened("elsewhere"))
    given = NewEvent(Happened('\t"\\ \n é'), timestamp=NOON, headers={"a": [1, None]})
    await append(store, stream_id, given, Happened("b"), user_name="me", correlation_id="c")
    recorded = await fetch(store, stream_id)
    await target.import_events((event.stream_id, event) for event in recorded)
    imported = await fetch(target, stream_id)
    assert [event.sequence for event in imported] == [1, 2]
    assert [attrs.evolve(event, sequence=event.sequence + 1) for event in imported] == recorded


async def test_a_new_event_brings_its_own_id_time_and_headers(store):
    new = NewEvent(
        Happened("a"), id=uuid4(), timestamp=NOON, headers={"k": 1}, causation_id="cause"
    )
    stream_id = uuid4()
    await store.import_events([(stream_id, new)])
    (event,) = await fetch(store, stream_id)
    assert (event.id, event.timestamp, event.headers) == (new.id, NOON, {"k": 1})
    assert (event.correlation_id, event.causation_id) == (None, "cause")


async def test_a_source_may_be_asynchronous(store):
    async def source():
        for number in range(3):
            await trio.lowlevel.checkpoint()
            yield "stream", Happened(str(number))

    options = StoreOptions(schema=f"{store.options.schema}_text", stream_identity="string")
    async with open_event_store(store.dsn, options) as other:
        assert await other.import_events(source()) == 3
        assert len(await fetch(other, "stream")) == 3
        async with other.connection() as connection:
            drop = sql.SQL("drop schema {} cascade").format(sql.Identifier(options.schema))
            await connection.execute(drop)


async def test_a_source_of_several_parts_is_one_transaction(store, monkeypatch):
    streams = [uuid4() for _ in range(7)]
    total = _import.EVENTS_AT_ONCE + 10
    pairs = [(streams[number % 7], Happened(str(number))) for number in range(total)]

    def broken():
        yield from pairs
        yield streams[0], Happened("nul\0")

    with pytest.raises(InvalidEventError, match="NUL"):
        await store.import_events(broken())
    assert await store.highest_sequence() == 0
    assert await store.session().events.fetch_stream_state(streams[0]) is None
    assert await store.import_events(pairs) == total
    events = await everything(store)
    assert [event.data.what for event in events] == [str(number) for number in range(total)]


async def copies(store):
    """Count the statements that the events came by: each has one time for all that it stores."""
    table = sql.Identifier(store.options.schema, "events")
    async with store.connection() as connection:
        query = sql.SQL("select count(distinct recorded) from {}").format(table)
        return (await (await connection.execute(query)).fetchone())[0]


async def test_events_of_streams_that_came_before_go_on_in_the_same_copy(store, monkeypatch):
    streams = [uuid4() for _ in range(7)]
    total = 2 * _import.EVENTS_AT_ONCE + 10
    pairs = [(streams[number % 7], Happened(str(number))) for number in range(total)]
    assert await store.import_events(pairs) == total
    assert await copies(store) == 1
    monkeypatch.setattr("flowstore.store._import.EVENTS_IN_COPY", total // 2)
    assert await store.import_events(pairs) == total
    assert await copies(store) == 3


@pytest.mark.parametrize("seed", range(6))
async def test_order_and_versions_hold_however_the_source_is_cut(store, monkeypatch, seed):
    monkeypatch.setattr("flowstore.store._files.EVENTS_IN_PART", 3)
    monkeypatch.setattr("flowstore.store._import.EVENTS_AT_ONCE", 10)
    monkeypatch.setattr("flowstore.store._import.EVENTS_IN_COPY", 20)
    draw = random.Random(seed)
    streams = [uuid4() for _ in range(draw.randint(1, 40))]
    for stream_id in draw.sample(streams, len(streams) // 3):
        await append(store, stream_id, Happened("before"), Happened("before"))
    known = await everything(store)
    # Streams come up one after the other, and again at any time.
    chosen = [streams[draw.randrange(1 + place // 4) % len(streams)] for place in range(170)]
    pairs = [(stream_id, Happened(str(place))) for place, stream_id in enumerate(chosen)]
    assert await store.import_events(pairs) == len(pairs)
    events = await everything(store)
    assert [event.data.what for event in events[len(known) :]] == [e.what for _, e in pairs]
    for stream_id in streams:
        versions = [event.version for event in events if event.stream_id == stream_id]
        assert versions == list(range(1, len(versions) + 1))
        if versions:
            assert (await state(store, stream_id)).version == versions[-1]
            await append(store, stream_id, Happened("after"))


@pytest.mark.parametrize("place", [0, 5, 11, 12, 29, 59])
async def test_what_is_refused_halfway_leaves_nothing_and_a_store_that_works(
    store, monkeypatch, place
):
    monkeypatch.setattr("flowstore.store._files.EVENTS_IN_PART", 3)
    monkeypatch.setattr("flowstore.store._import.EVENTS_AT_ONCE", 10)
    archived, stream_id = uuid4(), uuid4()
    await append(store, archived, Archived())
    recorded = attrs.evolve((await everything(store))[0], data=Happened("late"), version=9)
    before = await store.highest_sequence()
    for wrong, error in [
        ((archived, Happened("late")), StreamArchivedError),
        ((stream_id, attrs.evolve(recorded, id=uuid4())), ConcurrencyError),
        ((stream_id, NewEvent(Happened("again"), id=recorded.id)), EventIdConflictError),
        ((stream_id, Happened("nul\0")), InvalidEventError),
    ]:
        pairs = [(stream_id, Happened(str(number))) for number in range(60)]
        pairs[place] = wrong
        with pytest.raises(error):
            await store.import_events(pairs)
        assert await state(store, stream_id) is None
        assert len(await everything(store)) == before
    assert await store.import_events([(stream_id, Happened("a"))]) == 1


async def test_imported_events_are_recorded_when_they_come_whatever_their_own_time(store):
    async def clock():
        async with store.connection() as connection:
            cursor = await connection.execute("select clock_timestamp()")
            return (await cursor.fetchone())[0]

    before = await clock()
    new = NewEvent(Happened("old"), timestamp=NOON)
    await store.import_events([(uuid4(), new), (uuid4(), Happened("new"))])
    assert await store.sequence_before(before) == 0
    assert await store.sequence_before(await clock()) == 2
    assert await store.high_water(leading_edge_buffer=60) == 0


async def test_nothing_is_an_import_too(store):
    assert await store.import_events([]) == 0


async def test_whatever_the_source_raises_comes_out_and_nothing_is_stored(store):
    def broken():
        yield uuid4(), Happened("a")
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await store.import_events(broken())
    assert await store.highest_sequence() == 0


@pytest.mark.parametrize("item", [5, (1, 2, 3), ("text", Happened("a")), (uuid4(), {"a": 1})])
async def test_what_is_no_pair_of_stream_and_event_is_refused(store, item):
    with pytest.raises(InvalidEventError):
        await store.import_events([item])


async def test_a_recorded_event_that_is_not_the_next_of_its_stream_is_refused(store, target):
    stream_id = uuid4()
    await append(store, stream_id, *map(Happened, "abc"))
    first, second, third = await fetch(store, stream_id)
    with pytest.raises(ConcurrencyError, match="version 3 can't follow") as caught:
        await target.import_events([(stream_id, first), (stream_id, third)])
    assert (caught.value.expected, caught.value.found) == (2, 1)
    with pytest.raises(ConcurrencyError):
        await target.import_events([(stream_id, second)])
    assert await target.highest_sequence() == 0


async def test_an_event_id_that_is_stored_already_or_comes_twice_is_refused(store):
    known, twice = uuid4(), uuid4()
    await append(store, uuid4(), NewEvent(Happened("a"), id=known))
    for event_id in (known, twice):
        event = NewEvent(Happened("b"), id=event_id)
        with pytest.raises(EventIdConflictError) as caught:
            await store.import_events([(uuid4(), event), (uuid4(), event)])
        assert caught.value.event_id == event_id


async def test_an_archived_stream_takes_no_imports(store):
    stream_id = uuid4()
    await append(store, stream_id, Archived())
    with pytest.raises(StreamArchivedError):
        await store.import_events([(stream_id, Happened("a"))])


async def test_an_imported_archived_event_archives_its_stream(store):
    stream_id = uuid4()
    await store.import_events([(stream_id, Happened("a")), (stream_id, Archived("over"))])
    assert (await store.session().events.fetch_stream_state(stream_id)).archived
    assert await fetch(store, stream_id) == []
    assert len(await fetch(store, stream_id, include_archived=True)) == 2


async def test_the_mark_stays_below_an_import_that_is_under_way(store):
    held, go_on = trio.Event(), trio.Event()

    async def source():
        for number in range(_import.EVENTS_AT_ONCE):
            yield uuid4(), Happened(str(number))
        held.set()
        await go_on.wait()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.import_events, source())
        await held.wait()
        await append(store, uuid4(), Happened("beside"))
        assert await store.high_water() == 0
        (holder,) = await store.open_appends()
        assert holder.bound == 0
        go_on.set()
    assert await store.high_water() == _import.EVENTS_AT_ONCE + 1


async def test_waiters_are_woken(store):
    async with trio.open_nursery() as nursery:
        with trio.fail_after(60):
            nursery.start_soon(store.wait_for_appends, 60)
            await trio.testing.wait_all_tasks_blocked()
            await store.import_events([(uuid4(), Happened("a"))])


async def test_tenants_are_kept_apart(opening):
    stream_id = uuid4()
    async with opening(tenancy="conjoined") as store:
        await append(store, stream_id, Happened("a"), tenant_id="one")
        (event,) = await store.session(tenant_id="one").events.fetch_stream(stream_id)
        await store.import_events([(stream_id, Happened("x"))], tenant_id="two")
        moved = attrs.evolve(event, tenant_id="three", id=uuid4())
        await store.import_events([(stream_id, moved)], tenant_id="two")
        for tenant, what in (("one", "a"), ("two", "x"), ("three", "a")):
            (found,) = await store.session(tenant_id=tenant).events.fetch_stream(stream_id)
            assert (found.tenant_id, found.version, found.data.what) == (tenant, 1, what)


async def test_a_tenant_in_a_store_of_one_is_refused(store):
    with pytest.raises(ValueError, match="tenant"):
        await store.import_events([], tenant_id="one")


# -- out and in again ----------------------------------------------------------------------------


async def fill(store):
    """Store events of every sort; give the streams."""
    plain, archived, compacted = (uuid4() for _ in range(3))
    async with store.session(user_name="me", headers={"h": "é \u2028"}) as session:
        events = map(Happened, ["a", "b\n"])
        session.events.start_stream(plain, *events, stream_type=History)
        session.events.append(archived, Measured([0.1, 1e300, -0.0]), Archived("x"))
        await session.save_changes()
    await append(store, compacted, *map(Happened, "abc"))
    async with store.session() as session:
        await session.events.compact_stream(History, compacted, version=2)
        await session.save_changes()
    return plain, archived, compacted


def without_sequences(events):
    return [attrs.evolve(event, sequence=0) for event in events]


@pytest.mark.parametrize("kind", ["path", "text path", "file", "trio file"])
async def test_what_was_exported_is_the_same_when_it_is_imported(store, target, tmp_path, kind):
    plain, archived, compacted = await fill(store)
    path = tmp_path / "events.jsonl"
    memory = io.StringIO()
    place = {
        "path": path,
        "text path": str(path),
        "file": memory,
        "trio file": trio.wrap_file(memory),
    }[kind]
    assert await store.export_events(place) == 6
    memory.seek(0)
    assert await target.import_events(place) == 6
    target.options.events.add_types(Happened, Measured)
    assert without_sequences(await everything(target)) == without_sequences(await everything(store))
    for stream_id in (plain, archived):
        assert await state(target, stream_id) == await state(store, stream_id)
    assert (await state(target, compacted)).version == 3


async def test_a_line_is_an_object_with_the_events_fields(store, tmp_path):
    stream_id = uuid4()
    await append(store, stream_id, NewEvent(Happened("a"), timestamp=NOON))
    path = tmp_path / "events.jsonl"
    await store.export_events(path)
    (line,) = path.read_text(encoding="utf-8").splitlines()
    value = json.loads(line)
    assert (value["stream_id"], value["version"], value["type"]) == (
        str(stream_id),
        1,
        "happened",
    )
    assert (value["data"], value["tenant_id"]) == ({"what": "a"}, None)
    assert datetime.fromisoformat(value["timestamp"]) == NOON


async def test_only_stream_type_and_data_have_to_be_in_a_line(store):
    stream_id = uuid4()
    lines = [
        json.dumps({"stream_id": str(stream_id), "type": "happened", "data": {"what": what}})
        for what in "ab"
    ]
    assert await store.import_events(io.StringIO("\n\n".join(lines))) == 2
    store.options.events.add_types(Happened)
    assert [event.data.what for event in await fetch(store, stream_id)] == ["a", "b"]


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("{", "line 2 isn't JSON"),
        ("[1]", "line 2 holds"),
        ('{"type": "x", "data": 1}', "line 2 .* has no 'stream_id'"),
        ('{"stream_id": "x", "type": "x", "data": 1}', "line 2 .*UUID"),
        ('{"stream_id": "%s", "type": 5, "data": 1}', "type is 5"),
        ('{"stream_id": "%s", "type": "x", "data": "\\u0000"}', "line 2 .*NUL"),
        ('{"stream_id": "%s", "type": "x", "data": NaN}', "line 2 .*NaN"),
        ('{"stream_id": "%s", "type": "x", "data": 1, "version": "a"}', "version is 'a'"),
        ('{"stream_id": "%s", "type": "x", "data": 1, "timestamp": "2020-01-01"}', "time zone"),
    ],
)
async def test_a_line_that_is_no_event_is_named(store, line, what):
    good = json.dumps({"stream_id": str(uuid4()), "type": "happened", "data": {}})
    bad = line.replace("%s", str(uuid4()))
    with pytest.raises(InvalidEventError, match=what):
        await store.import_events(io.StringIO(f"{good}\n{bad}\n"))
    assert await store.highest_sequence() == 0


async def test_a_file_that_is_not_there_is_the_systems_error(store, tmp_path):
    with pytest.raises(FileNotFoundError):
        await store.import_events(Path(tmp_path / "none"))


async def test_an_export_of_several_parts_is_complete(store, tmp_path, monkeypatch):
    numbers = count()
    monkeypatch.setattr("flowstore.store._files.EVENTS_AT_ONCE", 3)
    stream_id = uuid4()
    await append(store, stream_id, *(Happened(str(next(numbers))) for _ in range(10)))
    path = tmp_path / "events.jsonl"
    assert await store.export_events(path) == 10
    values = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [value["data"]["what"] for value in values] == [str(number) for number in range(10)]
