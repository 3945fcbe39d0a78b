"""How often a commit waits for the server, told by libpq's own trace of the protocol."""

import tempfile
from uuid import UUID, uuid4

import attrs
import pytest

from flowstore.projections import Lifecycle
from flowstore.store import open_event_store


@attrs.frozen
class Happened:
    what: str = ""


@attrs.define
class Note:
    id: UUID


@attrs.define
class Count:
    id: UUID
    number: int = 0

    def apply(self, _: Happened) -> None:
        self.number += 1


@pytest.fixture
async def store(pg_dsn, options):
    """A store whose pool has one connection, so that everything is seen on it."""
    async with open_event_store(pg_dsn, options, max_connections=1) as opened:
        yield opened


class Trace:
    """Notes what is sent over the pool's connection."""

    def __init__(self, store):
        self.store, self.sent = store, []

    async def __aenter__(self):
        self.file = tempfile.TemporaryFile()  # noqa: SIM115 - closed on leaving
        async with self.store.connection() as connection:
            connection.pgconn.trace(self.file.fileno())
        return self

    async def __aexit__(self, *_):
        async with self.store.connection() as connection:
            connection.pgconn.untrace()
        with self.file as file:
            file.seek(0)
            lines = [line.split(b"\t") for line in file.read().splitlines()]
        sent = [line[3:] for line in lines if len(line) > 3 and line[1] == b"F"]
        self.sent = [kind.decode() for kind, *_ in without_notifications(sent)]

    @property
    def round_trips(self):
        return sum(kind in ("Sync", "Query") for kind in self.sent)


def without_notifications(sent):
    """Leave out what the store's notifier sends over the same connection, in between."""
    message = []
    for line in sent:
        message.append(line)
        if line[0] in (b"Sync", b"Query"):
            told = b" ".join(part for each in message for part in each)
            if b"pg_notify" not in told and b"'flowstore_" not in told:
                yield from message
            message = []


async def save(store, fill):
    session = store.session()
    fill(session)
    await session.save_changes()


async def traced(store, fill):
    for _ in range(3):  # until the statements are prepared
        await save(store, fill)
    async with Trace(store) as trace:
        await save(store, fill)
    return trace


def append_widely(session):
    for _ in range(12):
        session.events.start_stream(uuid4(), Happened(), Happened())
        session.events.append(uuid4(), Happened())


def append_and_write(session):
    append_widely(session)
    session.store(Note(uuid4()), Note(uuid4()))
    session.execute("select %s", 1)
    session.delete_by_id(Note, uuid4())


async def test_appending_to_many_streams_is_one_statement(store):
    trace = await traced(store, append_widely)
    assert (trace.sent.count("Execute"), trace.round_trips) == (1, 1)


async def test_events_documents_and_sql_together_take_one_round_trip_and_the_commit(store):
    trace = await traced(store, append_and_write)
    assert trace.round_trips == 2


async def test_reading_a_document_takes_one_round_trip(store):
    async def load():
        await store.session().load_many(Note, [uuid4(), uuid4()])

    await load()
    await load()
    async with Trace(store) as trace:
        await load()
    assert trace.round_trips == 1


def store_one(unit):
    unit.store(Note(uuid4()))


def store_and_run(unit):
    store_one(unit)
    unit.execute("select 1")


def store_and_be_told(unit):
    store_one(unit)
    unit.after_commit(lambda: None)


@pytest.mark.parametrize(
    ("fill", "round_trips"),
    [(lambda _: None, 1), (store_one, 1), (store_and_run, 2), (store_and_be_told, 2)],
)
async def test_committing_a_page_takes_one_round_trip_and_at_most_the_commit(
    store, fill, round_trips
):
    """Whoever is told of a commit has it seen through, which a commit of its own allows."""
    for floor in range(3):
        async with Trace(store) as trace:
            unit = store.projection_session()
            fill(unit)
            await store.commit_batch(unit, shard="s", floor=floor, ceiling=floor + 1)
    assert trace.round_trips == round_trips


@pytest.mark.parametrize("streams", [1, 30])
async def test_inline_projections_cost_a_fixed_number_of_round_trips(options, store, streams):
    options.projections.aggregate_streams_with(Count, lifecycle=Lifecycle.INLINE)

    def append(session):
        for _ in range(streams):
            session.events.append(uuid4(), Happened())

    trace = await traced(store, append)
    assert trace.round_trips == 5  # begin, append, load, write, commit
