"""Whatever is done to it, the memory store answers as PostgreSQL's does.

A machine draws a program of operations. Once it is complete it is run on both stores, an operation
at a time on the one and then the other, and what each says, or refuses, is compared; at the end
everything that is stored. Sequences are compared by their order, because holes may differ.

`FLOWSTORE_EXAMPLES` says how many programs are drawn.
"""

import itertools
import os
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import attrs
import trio
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from psycopg import sql

from flowstore.errors import EventIdConflictError, ProgressConflictError
from flowstore.events import Archived, Compacted, DeadLetter, NewEvent
from flowstore.projections import FlatTable, Lifecycle
from flowstore.store import StoreOptions, open_event_store
from flowstore.testing import MemoryDatabase, MemoryStore, RecordingProjection

STREAMS, SESSIONS, IDS = 3, 3, 4
PATIENCE = 60
LONG_AGO = datetime(1999, 1, 1, tzinfo=UTC)


@attrs.frozen
class Added:
    amount: int


@attrs.frozen
class Noted:
    text: str


@attrs.frozen
class Closed:
    pass


@attrs.frozen
class Poison:
    pass


@attrs.define
class Tally:
    id: UUID
    total: int = 0
    notes: list[str] = attrs.field(factory=list)
    version: int = 0

    def apply_added(self, added: Added) -> None:
        self.total += added.amount

    def apply_noted(self, noted: Noted) -> None:
        self.notes.append(noted.text)

    def apply_poison(self, poison: Poison) -> None:
        raise ValueError("poison")

    def should_delete(self, closed: Closed) -> bool:
        return True


@attrs.define
class Note:
    id: str
    text: str


@attrs.define
class Guarded:
    id: str
    number: int


SUMS = FlatTable("sums", key="stream", key_type=UUID, columns={"total": int, "text": str})
SUMS.on(Added, increment={"total": "amount"})
SUMS.on(Noted, set={"text": "text"}, insert=False)
SUMS.delete_on(Closed)


def options(schema):
    made = StoreOptions(schema=schema)
    made.events.add_types(Added, Noted, Closed, Poison)
    made.events.mask(Noted, lambda noted: Noted("***"))
    made.projections.aggregate_streams_with(Tally, lifecycle=Lifecycle.INLINE)
    made.projections.add(SUMS, lifecycle=Lifecycle.INLINE)
    made.documents.type(Guarded, optimistic_concurrency=True)
    return made


@attrs.define(eq=False)
class Side:
    """One of the two stores, and what a program does to it.

    Every verb gives what can be compared: no sequences, no times of the clock, no drawn ids.
    """

    store: Any
    program: int
    floor: int
    sessions: dict[int, Any] = attrs.field(factory=dict)
    called: list[int] = attrs.field(factory=list)
    claimed: Any = None

    # -- names of this program's own, because examples share a schema ------------------------

    def stream(self, number):
        return UUID(int=self.program << 16 | number)

    def event_id(self, number):
        return UUID(int=1 << 100 | self.program << 16 | number)

    def document_id(self, number):
        return f"{self.program}-{number}"

    def shard(self):
        return f"shard {self.program}"

    def session(self, number):
        if number not in self.sessions:
            self.sessions[number] = self.store.session(user_name="ada", headers={"of": number})
        return self.sessions[number]

    def events(self, drawn):
        return [
            NewEvent(
                data,
                id=None if number is None else self.event_id(number),
                timestamp=None if number is None else LONG_AGO + timedelta(days=number),
            )
            for data, number in drawn
        ]

    def told(self, event):
        data = event.data
        if isinstance(data, Compacted):
            data = (data.aggregate, data.state["total"], data.state["notes"])
        when = event.timestamp if event.timestamp.year < 2000 else None
        drawn = event.id.int >> 100 != 1 or event.id
        facts = (event.type_name, drawn, when, event.headers, event.user_name)
        return (event.stream_id, event.version, data, *facts)

    async def run(self, verb, given):
        try:
            return "gives", await getattr(self, verb)(**given)
        except (ProgressConflictError, EventIdConflictError) as error:
            # The one tells sequences, the other any of several ids that are taken.
            return "refuses", type(error)
        except Exception as error:  # noqa: BLE001  whatever it is, the other has to raise it too
            facts = vars(error) if hasattr(error, "__dict__") else {}
            plain = {name: value for name, value in facts.items() if name != "__notes__"}
            return "refuses", type(error).__name__, str(error), plain

    # -- writing -----------------------------------------------------------------------------

    async def start(self, session, stream, drawn):
        events = self.session(session).events
        action = events.start_stream(self.stream(stream), *self.events(drawn), stream_type=Tally)
        return len(action.events)

    async def append(self, session, stream, drawn, expected):
        events = self.session(session).events
        made = self.events(drawn)
        events.append(self.stream(stream), *made, expected_version=expected)

    async def append_optimistic(self, session, stream, drawn):
        made = self.events(drawn)
        await self.session(session).events.append_optimistic(self.stream(stream), *made)

    async def append_exclusive(self, session, stream, drawn):
        events = self.session(session).events
        made = self.events(drawn)
        await events.append_exclusive(self.stream(stream), *made, lock_timeout=0.02)

    async def fetch_for_writing(self, session, stream, drawn, exclusive, enforce):
        handle = await self.session(session).events.fetch_for_writing(
            Tally,
            self.stream(stream),
            exclusive=exclusive,
            lock_timeout=0.02,
            enforce_consistency=enforce,
        )
        if drawn:
            handle.append(*self.events(drawn))
        return handle.aggregate, handle.starting_version, handle.current_version

    async def archive(self, session, stream):
        self.session(session).events.archive_stream(self.stream(stream))

    async def compact(self, session, stream, version):
        events = self.session(session).events
        await events.compact_stream(Tally, self.stream(stream), version=version)

    async def put(self, session, document, number):
        self.session(session).store(Note(self.document_id(document), f"text {number}"))

    async def delete(self, session, document, guarded):
        kind = Guarded if guarded else Note
        self.session(session).delete_by_id(kind, self.document_id(document))

    async def change(self, session, document, number):
        used, name = self.session(session), self.document_id(document)
        found = await used.load(Guarded, name)
        used.store(Guarded(name, number))
        return found

    async def overwrite(self, session, document, number):
        self.session(session).store(Guarded(self.document_id(document), number))

    async def call_later(self, session, number):
        self.session(session).after_commit(partial(self.called.append, number))

    async def save(self, session):
        used = self.session(session)
        pending = used.events.pending
        await used.save_changes()
        events = [event for action in pending for event in action.events]
        in_order = sorted(events, key=lambda event: event.sequence)
        return [self.told(event) for event in events], [self.told(event) for event in in_order]

    async def leave(self, session):
        used = self.sessions.pop(session, None)
        if used is not None:
            await used.__aexit__(None, None, None)

    async def bring_in(self, pairs):
        source = [
            (self.stream(stream), event)
            for stream, drawn in pairs
            for event in self.events([drawn])
        ]
        return await self.store.import_events(source)

    async def mask(self, stream):
        return await self.store.mask_stream(self.stream(stream))

    async def skip(self, place):
        page = await self.page()
        if page:
            await self.store.skip_event(page[place % len(page)].id)

    async def skip_by_id(self, number):
        await self.store.skip_event(self.event_id(number))

    # -- reading -----------------------------------------------------------------------------

    async def fetch(self, session, stream, version, first, archived):
        found = await self.session(session).events.fetch_stream(
            self.stream(stream), version=version, from_version=first, include_archived=archived
        )
        return [self.told(event) for event in found]

    async def fetch_as_of(self, session, stream, day):
        events = self.session(session).events
        found = await events.fetch_stream(self.stream(stream), as_of=LONG_AGO + timedelta(days=day))
        return [self.told(event) for event in found]

    async def fold(self, session, stream, version):
        events = self.session(session).events
        latest = await events.fetch_latest(Tally, self.stream(stream))
        return latest, await events.aggregate_stream(Tally, self.stream(stream), version=version)

    async def state(self, session, stream):
        found = await self.session(session).events.fetch_stream_state(self.stream(stream))
        if found is None:
            return None
        times = [
            time if time.year < 2000 else None for time in (found.created, found.last_timestamp)
        ]
        return (found.version, found.archived, found.stream_type, found.tenant_id, times)

    async def load_event(self, session, number):
        found = await self.session(session).events.load(self.event_id(number))
        return found and self.told(found)

    async def load(self, session):
        names = [self.document_id(number) for number in range(IDS)]
        used = self.session(session)
        return await used.load_many(Note, names), await used.load_many(Guarded, names)

    async def find(self, session, number):
        found = await self.session(session).find(Note, text=f"text {number}")
        return [note for note in found if note.id.startswith(f"{self.program}-")]

    async def page(self, *, archived=False, types=(), limit=1000):
        mark = await self.store.high_water()
        page = await self.store.fetch_page(
            self.floor, mark, types=types, limit=limit, include_archived=archived
        )
        return page.events

    async def read_page(self, archived, typed, limit):
        types = (Added, Archived) if typed else ()
        return [
            self.told(each) for each in await self.page(archived=archived, types=types, limit=limit)
        ]

    # -- a shard -----------------------------------------------------------------------------

    @property
    def projection(self):
        return RecordingProjection(name=self.shard())

    async def claim(self):
        self.claimed = await self.store.claim(self.projection)
        standing = await self.store.standing(self.projection)
        assert standing == self.claimed
        return standing.started, standing.epoch, standing.edits

    async def rewind(self, place):
        events = await self.page(archived=True)
        sequence = events[place].sequence if place < len(events) else 0
        await self.store.rewind(self.projection, sequence)
        return await self.letters()

    async def letters(self):
        places = {event.sequence: self.told(event) for event in await self.page(archived=True)}
        found = await self.store.dead_letters(self.projection)
        return [(places.get(each.sequence), each.message) for each in found]

    async def tear_down(self):
        await self.store.teardown(self.projection)

    async def project(self, limit, wrong_floor, sets_aside, claimed):
        progress = await self.store.progress(self.projection)
        mark = await self.store.high_water()
        page = await self.store.fetch_page(max(progress, self.floor), mark, limit=limit)
        unit = self.store.projection_session()
        unit.store(*(Note(self.document_id(0), self.story(event)) for event in page.events))
        letters = [
            DeadLetter(self.shard(), event.sequence, "ValueError", "a\0b")
            for event in page.events[:sets_aside]
        ]
        await self.store.commit_batch(
            unit,
            shard=self.shard(),
            floor=progress + 1 if wrong_floor else progress,
            ceiling=page.ceiling,
            dead_letters=letters,
            claim=self.claimed if claimed else None,
        )
        return [self.told(event) for event in page.events], await self.letters()

    @staticmethod
    def story(event):
        return f"{event.stream_id}@{event.version}"

    # -- everything --------------------------------------------------------------------------

    async def everything(self):
        progress = await self.store.progress(self.projection)
        events = await self.page(archived=True)
        places = {event.sequence: self.told(event)[:2] for event in events}
        return {
            "events": [self.told(event) for event in events],
            "projected": [self.told(event) for event in await self.page()],
            "streams": [await self.stream_as_it_is(number) for number in range(STREAMS)],
            "documents": await self.load("reading"),
            "tallies": await self.session("reading").load_many(Tally, map(self.stream, range(9))),
            "rows": await self.rows(),
            "progress": [places[sequence] for sequence in places if sequence <= progress],
            "letters": await self.letters(),
            "called": self.called,
        }

    async def stream_as_it_is(self, number):
        state = await self.state("reading", number)
        return state, await self.fetch("reading", number, None, 0, archived=True)

    async def rows(self):
        wanted = {self.stream(number) for number in range(STREAMS)}
        if isinstance(self.store, MemoryStore):
            found = [(r["stream"], r["total"], r["text"]) for r in self.store.table_rows("sums")]
        else:
            async with self.store.connection() as connection:
                query = sql.SQL("select stream, total, text from {} order by stream::text")
                table = sql.Identifier(self.store.options.schema, "sums")
                cursor = await connection.execute(query.format(table))
                found = await cursor.fetchall()
        return [row for row in found if row[0] in wanted]


def waits_for(side, verb, given):
    """Tell whether another session's lock would keep an operation waiting for ever."""
    others = {
        number: each for number, each in side.sessions.items() if number != given.get("session")
    }
    held = set()
    for session in others.values():
        transaction = session._locks.transaction
        if transaction is not None:
            # A stream that doesn't exist yet has no row, and keeps out only who asks for it so.
            wanted = {"streams", "kept streams"} if verb == "mask" else {"streams"}
            held |= {key[1] for table, key in transaction._held if table in wanted}
    if verb == "save":
        queue = side.session(given["session"])._queue
        touched = {queued.action.stream_id for queued in queue.appends}
        touched |= {getattr(each, "stream_id", None) for each in queue.operations}
        return bool(touched & held)
    return bool(held) and verb in {"bring_in", "mask", "skip", "skip_by_id"}


async def play(dsn, schema, number, program):
    """Run a program on both stores and compare."""
    async with open_event_store(dsn, options(schema)) as database:
        memory = MemoryStore(options(schema), database=MemoryDatabase())
        sides = (
            Side(database, number, await database.highest_sequence()),
            Side(memory, number, 0),
        )
        try:
            for verb, given in program:
                await step(sides, verb, given)
        finally:
            with trio.CancelScope(shield=True):
                for side, session in itertools.product(sides, range(SESSIONS)):
                    await side.leave(session)
        stored = [await side.everything() for side in sides]
        assert stored[0] == stored[1]


async def step(sides, verb, given):
    """Do the same to both, and compare what they say."""
    if waits_for(sides[1], verb, given):
        return
    answers = []
    for side in sides:
        with trio.fail_after(PATIENCE):
            answers.append(await side.run(verb, given))
    assert answers[0] == answers[1], (verb, given)


# -- the machine ---------------------------------------------------------------------------------

streams, sessions = st.integers(0, STREAMS - 1), st.integers(0, SESSIONS - 1)
documents, numbers = st.integers(0, IDS - 1), st.integers(0, 2)
data = st.one_of(
    st.builds(Added, st.integers(-5, 5)),
    st.builds(Noted, st.sampled_from(["", "ü☃", "b"])),
    st.sampled_from([Added(1)] * 4 + [Closed(), Poison(), Archived("old")]),
)
drawn = st.tuples(data, st.sampled_from([None] * 4 + [0, 1, 2, 3]))
some = st.lists(drawn, min_size=1, max_size=3)
few = st.lists(drawn, max_size=2)
versions = st.none() | st.integers(0, 4)


class Program(RuleBasedStateMachine):
    """Gathers operations; runs them when all are there, so that one event loop sees them all."""

    def __init__(self, play):
        super().__init__()
        self.play = play
        self.program = []

    def teardown(self):
        self.play(self.program)

    def add(self, verb, **given):
        self.program.append((verb, given))

    def queue(self, verb, *, saves, **given):
        self.add(verb, **given)
        if saves:
            self.add("save", session=given["session"])

    @rule(session=sessions, stream=streams, drawn=some, saves=st.booleans())
    def start(self, **given):
        self.queue("start", **given)

    @rule(session=sessions, stream=streams, drawn=few, expected=versions, saves=st.booleans())
    def append(self, **given):
        self.queue("append", **given)

    @rule(session=sessions, stream=streams, drawn=some)
    def append_whatever_there_is(self, **given):
        self.queue("append", expected=None, saves=True, **given)

    @rule(session=sessions, stream=streams, drawn=some, saves=st.booleans())
    def append_optimistic(self, **given):
        self.queue("append_optimistic", **given)

    @rule(session=sessions, stream=streams, drawn=some, saves=st.booleans())
    def append_exclusive(self, **given):
        self.queue("append_exclusive", **given)

    @rule(
        session=sessions,
        stream=streams,
        drawn=few,
        exclusive=st.booleans(),
        enforce=st.booleans(),
        saves=st.booleans(),
    )
    def fetch_for_writing(self, **given):
        self.queue("fetch_for_writing", **given)

    @rule(session=sessions, stream=streams, saves=st.booleans())
    def archive(self, **given):
        self.queue("archive", **given)

    @rule(session=sessions, stream=streams, version=versions, saves=st.booleans())
    def compact(self, **given):
        self.queue("compact", **given)

    @rule(session=sessions, document=documents, number=numbers, saves=st.booleans())
    def put(self, **given):
        self.queue("put", **given)

    @rule(session=sessions, document=documents, guarded=st.booleans(), saves=st.booleans())
    def delete(self, **given):
        self.queue("delete", **given)

    @rule(session=sessions, document=documents, number=numbers, saves=st.booleans())
    def change(self, **given):
        self.queue("change", **given)

    @rule(session=sessions, document=documents, number=numbers, saves=st.booleans())
    def overwrite(self, **given):
        self.queue("overwrite", **given)

    @rule(session=sessions, number=numbers)
    def call_later(self, **given):
        self.add("call_later", **given)

    @rule(session=sessions, leaves=st.booleans())
    def end(self, session, leaves):
        self.add("leave" if leaves else "save", session=session)

    @rule(pairs=st.lists(st.tuples(streams, drawn), max_size=4))
    def bring_in(self, **given):
        self.add("bring_in", **given)

    @rule(stream=streams, place=st.integers(0, 9), number=st.integers(0, 3))
    def amend(self, stream, place, number):
        self.add("mask", stream=stream)
        self.add("skip", place=place)
        self.add("skip_by_id", number=number)

    @rule(
        session=sessions,
        stream=streams,
        version=versions,
        first=st.integers(0, 4),
        archived=st.booleans(),
        number=numbers,
    )
    def look(self, session, stream, version, first, archived, number):
        one = {"session": session, "stream": stream}
        self.add("fetch", **one, version=version, first=first, archived=archived)
        self.add("fetch_as_of", **one, day=number)
        self.add("fold", **one, version=version)
        self.add("state", **one)
        self.add("load_event", session=session, number=number)
        self.add("load", session=session)
        self.add("find", session=session, number=number)

    @rule(archived=st.booleans(), typed=st.booleans(), limit=st.integers(1, 4))
    def read_page(self, **given):
        self.add("read_page", **given)

    @rule(place=st.integers(0, 5), how=st.sampled_from(["claim", "claim", "rewind", "tear_down"]))
    def move(self, place, how):
        self.add(how, **({"place": place} if how == "rewind" else {}))

    @rule(
        limit=st.integers(1, 4),
        wrong_floor=st.sampled_from([False, False, False, True]),
        sets_aside=st.integers(0, 2),
        claimed=st.booleans(),
    )
    def project(self, **given):
        self.add("project", **given)


def test_a_program_does_the_same_to_both(pg_dsn, schema):
    counter = itertools.count(1)

    def run(program):
        trio.run(play, pg_dsn, schema, next(counter), program)

    run_state_machine_as_test(
        partial(Program, run),
        settings=settings(
            max_examples=int(os.environ.get("FLOWSTORE_EXAMPLES", "15")),
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
        ),
    )
