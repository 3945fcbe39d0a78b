"""Events that are handed over are those that a look gives, and only those that nothing can hide below."""

import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import attrs
import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.conninfo import make_conninfo

from flowstore.codec import EventCodec, EventRegistry
from flowstore.errors import ConcurrencyError
from flowstore.projections import Lifecycle
from flowstore.store import StoreOptions, open_event_store
from flowstore.store._append import APPEND_EVENT_TOLD, TOLD
from flowstore.store._handover import LONGEST, Handover

MUCH = 2**20
few = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))


@attrs.frozen
class Said:
    value: Any = None


@attrs.frozen
class Other:
    pass


@attrs.define
class Note:
    id: UUID


@attrs.define
class Count:
    id: UUID
    number: int = 0

    def apply(self, _: Said) -> None:
        self.number += 1


async def append(store, *values, stream_id=None, **more):
    async with store.session() as session:
        session.events.append(stream_id or uuid4(), *map(Said, values), **more)
        await session.save_changes()


# -- the same as a look ----------------------------------------------------------------------------

texts = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=8)
numbers = st.sampled_from(
    ["0", "-0", "-0.0", "1.0", "1.50", "1e2", "1E+2", "1e-7", "1e400", "-1e-400", "1" * 60, "0.1e1"]
) | st.integers().map(str)
scalars = numbers | texts.map(json.dumps) | st.sampled_from(["null", "true", "false", '"\\u00fc"'])
scalars |= texts.map(lambda text: json.dumps(text, ensure_ascii=False))
keys = st.sampled_from(['"a"', '"b"', '"aa"', '"B"', '""']) | texts.map(json.dumps)
spaces = st.sampled_from(["", " ", "\n\t "])
written = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda each: f"[{', '.join(each)}]")
        | st.tuples(spaces, st.lists(st.tuples(keys, spaces, inner), max_size=5)).map(
            lambda made: (
                "{"
                + made[0]
                + ",".join(f"{key}{space}:{value}" for key, space, value in made[1])
                + "}"
            )
        )
    ),
    max_leaves=8,
)
"""JSON as somebody may write it: repeated keys, any order, any way to write a number."""


@few
@given(data=written, headers=st.none() | written)
async def test_the_row_is_byte_by_byte_the_one_that_is_read_whatever_the_json(
    pg_dsn, schema, data, headers
):
    async with open_event_store(pg_dsn, StoreOptions(schema=schema)) as store:
        sql = store._engine.sql
        given_ = (uuid4().hex, None, None, "f", "f", uuid4().hex, "said", data, headers)
        async with store.connection() as connection:
            told = await connection.fetch_row(
                sql.direct(APPEND_EVENT_TOLD), ("*DEFAULT*", *given_, "corr", None, "Ädä")
            )
            stored = await connection.fetch_row(
                sql.direct(
                    "select {event_columns} from {schema}.events e"
                    " where e.sequence = (select max(m.sequence) from {schema}.events m)"
                ),
                (),
            )
    assert told[TOLD:] == stored


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=8,
)


@pytest.mark.parametrize("identity", ["uuid", "string"])
@few
@given(said=st.lists(values, min_size=1, max_size=4), marks=st.booleans())
async def test_what_is_handed_over_is_to_the_last_detail_what_a_look_gives(
    pg_dsn, schema, identity, said, marks
):
    dsn = make_conninfo(pg_dsn, options="-c timezone=America/Caracas -c client_encoding=utf8")
    options = StoreOptions(
        schema=f"{schema}_{identity}", stream_identity=identity, tenancy="conjoined"
    )
    options.events.add_types(Said)
    async with open_event_store(dsn, options) as store:
        floor = await store.high_water()
        more = {"correlation_id": "cörr", "headers": {"a": said}} if marks else {}
        with store.handing_over() as handover:
            for number, value in enumerate(said):
                stream_id = uuid4() if identity == "uuid" else f"Strøm {uuid4()}"
                async with store.session(tenant_id=f"t{number % 2}", **more) as session:
                    session.events.append(stream_id, Said(value))
                    await session.save_changes()
            handed = handover.take(floor, None, 500, MUCH)
        mark, looked = await store.look(floor)
    assert (handed.floor, handed.ceiling, handed.size) == (floor, mark, looked.size)
    assert list(handed.events) == list(looked.events)
    assert repr(handed.events) == repr(looked.events)
    assert len(handed.events) == len(said)


async def test_what_cant_be_decoded_is_a_failure_as_in_a_look(store, pg_dsn):
    with store.handing_over() as handover:
        await append(store, 1)
        await append(store, 2)
    stranger = Handover(EventCodec(EventRegistry()))
    for sequence, each in handover._handed.items():
        stranger.put(sequence, 10, each.read)
    page = stranger.take(0, None, 500, MUCH)
    assert ([failure.sequence for failure in page.failures], page.ceiling) == ([1, 2], 2)
    async with open_event_store(pg_dsn, StoreOptions(schema=store.options.schema)) as other:
        _, looked = await other.look(0)
    assert [attrs.evolve(each, error=None) for each in page.failures] == [
        attrs.evolve(each, error=None) for each in looked.failures
    ]


# -- which are handed over -------------------------------------------------------------------------


async def handed_by(store, work):
    """Do the work while events are handed over; gives the sequences that came."""
    with store.handing_over() as handover:
        await work()
        return sorted(handover._handed)


async def test_a_single_event_in_a_commit_of_its_own_is_handed_over(store):
    async def work():
        await append(store, 1)
        await append(store, 2)

    assert await handed_by(store, work) == [1, 2]
    await work()
    with store.handing_over() as handover:
        assert handover.take(0, None, 500, MUCH) is None


async def test_several_events_arent(store):
    assert await handed_by(store, lambda: append(store, 1, 2)) == []


async def test_an_event_with_a_document_isnt(store):
    async def work():
        async with store.session() as session:
            session.events.append(uuid4(), Said(1))
            session.store(Note(uuid4()))
            await session.save_changes()

    assert await handed_by(store, work) == []


async def test_an_event_of_a_session_that_holds_a_lock_isnt(store):
    stream_id = uuid4()
    await append(store, 1, stream_id=stream_id)

    async def work():
        async with store.session() as session:
            await session.events.append_exclusive(stream_id, Said(2))
            await session.save_changes()

    assert await handed_by(store, work) == []


async def test_an_event_with_inline_projections_isnt(pg_dsn, options):
    options.projections.aggregate_streams_with(Count, lifecycle=Lifecycle.INLINE)
    async with open_event_store(pg_dsn, options) as store:
        assert await handed_by(store, lambda: append(store, 1)) == []


async def test_an_event_that_was_refused_isnt(store):
    async def work():
        with pytest.raises(ConcurrencyError):
            await append(store, 1, expected_version=7)

    assert await handed_by(store, work) == []


async def test_an_event_whose_transaction_is_still_open_isnt(store):
    """Were a connection lent that somebody has begun a transaction on."""
    async with store.connection() as connection:
        await connection.execute("begin")
        engine = attrs.evolve(store._engine, lend=lambda: Again(connection))
        inside = attrs.evolve(store, engine=engine)
        assert await handed_by(inside, lambda: append(inside, 1)) == []
        await connection.execute("rollback")
    assert await store.highest_sequence() == 0


@attrs.frozen
class Again:
    """Lends a connection that is lent."""

    connection: Any

    async def __aenter__(self):
        return self.connection

    async def __aexit__(self, *_):
        pass


async def test_nobody_elses_are(store, pg_dsn, options):
    async with open_event_store(pg_dsn, options) as other:
        assert await handed_by(store, lambda: append(other, 1)) == []


# -- which are taken -------------------------------------------------------------------------------


def row(sequence, kind="said", data='{"value": 1}'):
    at = datetime(2026, 1, 1, tzinfo=UTC)
    return [sequence, UUID(int=sequence), UUID(int=7), sequence, kind, data, at, *[None] * 4, "t"]


def handover_of(*sequences, **more):
    registry = EventRegistry()
    registry.add_types(Said, Other)
    made = Handover(EventCodec(registry))
    for sequence in sequences:
        made.put(sequence, 10, lambda sequence=sequence: row(sequence, **more))
    return made


def taken(handover, mark, names=None, limit=500, max_bytes=MUCH):
    page = handover.take(mark, names, limit, max_bytes)
    if page is None:
        return None
    return page.floor, [event.sequence for event in page.events], page.ceiling


async def test_only_what_follows_the_mark_without_a_gap_is_taken():
    assert taken(handover_of(5), 3) is None
    assert taken(handover_of(4), 3) == (3, [4], 4)
    assert taken(handover_of(6, 5, 4), 3) == (3, [4, 5, 6], 6)
    assert taken(handover_of(4, 5, 7, 8), 3) == (3, [4, 5], 5)
    assert taken(handover_of(2, 3), 3) is None
    assert taken(handover_of(), 0) is None


async def test_nothing_is_taken_twice_and_what_is_beyond_a_gap_waits():
    handover = handover_of(4, 6)
    assert taken(handover, 3) == (3, [4], 4)
    assert taken(handover, 3) is None
    assert taken(handover, 4) is None
    handover.put(5, 10, lambda: row(5))
    assert taken(handover, 4) == (4, [5, 6], 6)
    assert not handover._handed


async def test_what_the_mark_has_passed_is_let_go_of():
    handover = handover_of(1, 2, 9)
    assert taken(handover, 5) is None
    assert set(handover._handed) == {9}


async def test_a_page_ends_at_its_bounds():
    assert taken(handover_of(1, 2, 3), 0, limit=2) == (0, [1, 2], 2)
    assert taken(handover_of(1, 2, 3), 0, max_bytes=25) == (0, [1, 2], 2)
    assert taken(handover_of(1, 2), 0, max_bytes=1) == (0, [1], 1)
    handover = handover_of(1, 2, 3)
    assert taken(handover, 0, limit=1) == (0, [1], 1)
    assert taken(handover, 1, limit=1) == (1, [2], 2)


async def test_others_are_passed_over_and_not_even_decoded():
    handover = handover_of(1, 2)
    handover.put(3, 10, lambda: row(3, kind="nobody knows", data="not JSON"))
    assert taken(handover, 0, names={"said"}) == (0, [1, 2], 3)
    assert taken(handover_of(1, 2), 0, names=frozenset()) == (0, [], 2)


async def test_large_events_and_very_many_are_left_to_a_look():
    handover = handover_of()
    handover.put(1, 2**19, lambda: row(1))
    assert taken(handover, 0) is None
    assert taken(handover_of(*range(1, 102)), 0) is None


async def test_what_has_waited_for_long_isnt_taken(autojump_clock):
    handover = handover_of(1)
    await trio.sleep(LONGEST * 0.9)
    handover.put(2, 10, lambda: row(2))
    await trio.sleep(LONGEST * 0.05)
    assert taken(handover, 0, limit=1) == (0, [1], 1)
    await trio.sleep(LONGEST)
    assert taken(handover, 1) is None


async def test_what_was_forgotten_isnt_taken():
    handover = handover_of(1)
    handover.forget()
    assert taken(handover, 0) is None
