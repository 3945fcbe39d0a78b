"""Documents folded across streams are the fold of all their events in sequence order."""

import itertools
import operator
from typing import Any
from uuid import UUID, uuid4

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flowstore.errors import RegistrationError
from flowstore.events import Event, EventStream, group_by_stream_id
from flowstore.projections import (
    IProjection,
    Lifecycle,
    Projections,
    across_streams_projection,
    aggregate_rule,
    apply_projection,
)


@attrs.frozen
class Crossed:
    country: str
    person: str = ""


@attrs.frozen
class Toured:
    countries: list[str]


@attrs.frozen
class Sunk:
    country: str


@attrs.frozen
class Fee:
    amount: int


@attrs.define
class Country:
    id: str
    seen: list[int] = attrs.field(factory=list)
    fees: int = 0
    version: int = 0

    def apply_visit(self, _: Crossed | Toured, event: Event) -> None:
        self.seen.append(event.sequence)

    def should_delete(self, _: Sunk) -> bool:
        return True


def countries(**more):
    group_by = {
        Crossed: lambda event: event.country,
        Toured: lambda event: event.countries,
        Sunk: lambda event: event.country or None,
    }
    return across_streams_projection(Country, **{"group_by": group_by, **more})


@attrs.frozen
class Keys:
    """A projection of grouped keys alone: what each event's function gave, as documents saw it."""

    given: Any

    async def of(self, session, stream) -> list[str]:
        projection = across_streams_projection(
            Country, group_by={Crossed: self.given, Toured: lambda _: None, Sunk: lambda _: None}
        )
        await apply_projection(projection, session, [stream])
        return [key for _, key in session.documents]


names = st.sampled_from("abc")
happenings = st.one_of(
    st.builds(Crossed, names),
    st.builds(Toured, st.lists(names, max_size=4)),
    st.builds(Sunk, st.sampled_from(["a", ""])),
)
drawn_events = st.lists(st.tuples(st.integers(0, 2), happenings), max_size=25)
drawn_sizes = st.lists(st.integers(1, 6), min_size=1, max_size=4)


def plain_fold(placed):
    """What `countries` says, in Python, at once, from pairs of a sequence and an event."""
    seen: dict[str, list[int]] = {}
    for sequence, event in placed:
        if isinstance(event, Sunk):
            seen.pop(event.country, None)
        else:
            named = {event.country} if isinstance(event, Crossed) else set(event.countries)
            for name in named:
                seen.setdefault(name, []).append(sequence)
    return seen


@given(happened=drawn_events, sizes=drawn_sizes)
async def test_folding_in_pages_is_folding_at_once(stream_of, memory_session, happened, sizes):
    session, projection = memory_session(), countries()
    events = [
        attrs.evolve(stream_of(str(which), event).events[0], sequence=sequence)
        for sequence, (which, event) in enumerate(happened, 1)
    ]
    left, sizes_again = events, itertools.cycle(sizes)
    while left:
        size = next(sizes_again)
        await apply_projection(projection, session, group_by_stream_id(left[:size]))
        left = left[size:]
    kept = {key: document.seen for (_, key), document in session.documents.items()}
    assert kept == plain_fold((event.sequence, event.data) for event in events)


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(happened=drawn_events, sizes=drawn_sizes)
async def test_the_stored_documents_are_the_fold_at_once(opening, followed, happened, sizes):
    projections, ids = Projections(), [uuid4() for _ in range(3)]
    projection = countries()
    projections.add(projection)
    async with opening(projections) as store:
        await store.teardown(projection)  # of the example before, in the same schema
        begun = await store.high_water()
        await store.commit_batch(
            store.projection_session(), shard="Country", floor=0, ceiling=begun
        )
        async with store.session() as session:
            for which, event in happened:
                session.events.append(ids[which], event)
            await session.save_changes()
        await followed(store, projection, sizes)
        documents = await store.session().find(Country)
        page = await store.fetch_page(begun, await store.high_water(), limit=100)
        assert {document.id: document.seen for document in documents} == plain_fold(
            (event.sequence, event.data) for event in page.events
        )


async def test_an_inline_document_follows_the_commit(opening):
    projections = Projections()
    projections.aggregate_across_streams(
        Country,
        group_by={Crossed: lambda e: e.country, Toured: lambda _: None, Sunk: lambda _: None},
        lifecycle=Lifecycle.INLINE,
    )
    async with opening(projections) as store, store.session() as session:
        for _ in range(2):
            session.events.append(uuid4(), Crossed("a"))
            await session.save_changes()
        assert (await session.load(Country, "a")).seen == [1, 2]


async def test_tenants_roll_up_to_a_document_each(opening, followed):
    @attrs.define
    class Usage:
        id: str
        crossings: int = 0

        def apply(self, _: Crossed) -> None:
            self.crossings += 1

    projections = Projections()
    usage = projections.aggregate_across_streams(
        Usage, group_by={Crossed: lambda event: event.tenant_id}
    )
    async with opening(projections, tenancy="conjoined") as store:
        for tenant in "aba":
            async with store.session(tenant_id=tenant) as session:
                session.events.append(uuid4(), Crossed("x"))
                await session.save_changes()
        await followed(store, usage)
        for tenant, count in (("a", 2), ("b", 1)):
            assert await store.session(tenant_id=tenant).load(Usage, tenant) == Usage(tenant, count)


async def test_a_tenants_documents_hold_only_its_events(opening, followed):
    projections, projection = Projections(), countries()
    projections.add(projection)
    async with opening(projections, tenancy="conjoined") as store:
        for tenant in "aba":
            async with store.session(tenant_id=tenant) as session:
                session.events.append(uuid4(), Crossed("x"))
                await session.save_changes()
        await followed(store, projection, [2])
        seen = [(await store.session(tenant_id=t).load(Country, "x")).seen for t in "ab"]
        assert seen == [[1, 3], [2]]


async def test_a_key_named_twice_counts_once(stream_of, memory_session):
    session = memory_session()
    await apply_projection(
        countries(), session, [stream_of("s", Toured(["a", "b", "a"]), Toured([]))]
    )
    assert {key: document.seen for (_, key), document in session.documents.items()} == {
        "a": [1],
        "b": [1],
    }


async def from_the_session(session, event):
    found = await session.load(Country, event.person)
    return None if found is None else (found.id + "'s", event.country)


async def test_a_function_may_ask_the_database(stream_of, memory_session):
    session = memory_session()
    session.store(Country("ada"))
    stream = stream_of("s", Crossed("x", "ada"), Crossed("y", "bob"))
    assert await Keys(from_the_session).of(session, stream) == ["ada", "ada's", "x"]


async def of_both(data: Crossed, envelope: Event) -> str:
    return f"{data.country}{envelope.sequence}"


def of_envelope(envelope: Event) -> str:
    return envelope.data.country


def of_data(crossed: Crossed | Sunk) -> str:
    assert type(crossed) is Crossed
    return crossed.country


def yielding(event: Any):
    yield event.country
    yield None
    yield "more"


@pytest.mark.parametrize(
    ("function", "keys"),
    [
        (of_both, ["x1"]),
        (of_envelope, ["x"]),
        (of_data, ["x"]),
        (yielding, ["x", "more"]),
        (operator.attrgetter("country"), ["x"]),
        (lambda e: e.data.country, ["x"]),
        (lambda e: (e.country, e.stream_id), ["x", "s"]),
        (lambda e: e.sequence, [1]),
        (lambda e: UUID(int=e.version), [UUID(int=1)]),
        (lambda e, more="y": more, ["y"]),
        (lambda *events: events[0].country, ["x"]),
        (lambda _: None, []),
        (lambda _: [], []),
        (lambda _: "", [""]),
    ],
)
async def test_a_function_gets_what_it_asks_for(stream_of, memory_session, function, keys):
    assert await Keys(function).of(memory_session(), stream_of("s", Crossed("x"))) == keys


async def test_where_data_and_envelope_have_a_name_it_is_the_datas(stream_of, memory_session):
    @attrs.frozen
    class Odd:
        sequence: str

    @attrs.define
    class Seen:
        id: str

        def apply(self, _: Odd) -> None: ...

    session = memory_session()
    projection = across_streams_projection(Seen, group_by={Odd: lambda e: e.sequence})
    await apply_projection(projection, session, [stream_of("s", Odd("x"))])
    assert list(session.documents) == [(Seen, "x")]


async def test_what_a_lambda_gets_shows_both(stream_of, memory_session):
    shown = []
    await Keys(lambda e: shown.append(repr(e))).of(
        memory_session(), stream_of("s", Crossed("x", "ada"))
    )
    assert shown == ["<EventView Crossed(country='x', person='ada') sequence=1>"]


async def test_a_name_that_neither_has_says_so(stream_of, memory_session):
    with pytest.raises(AttributeError, match="neither Crossed nor Event has 'contry'"):
        await Keys(lambda e: e.contry).of(memory_session(), stream_of("s", Crossed("x")))


@pytest.mark.parametrize("found", [1.5, b"x", True, [1.5], [["x"]], object()])
async def test_what_is_no_key_is_refused(stream_of, memory_session, found):
    with pytest.raises(RegistrationError, match=r"Country: group_by\[Crossed\] gave"):
        await Keys(lambda _: found).of(memory_session(), stream_of("s", Crossed("x")))


async def test_the_documents_of_a_page_are_loaded_at_once(stream_of, memory_session):
    session = memory_session()
    streams = [stream_of(name, Crossed(name), first=place) for place, name in enumerate("abc", 1)]
    await apply_projection(countries(), session, streams)
    assert session.calls == ["load_many"]


async def test_a_field_called_version_is_the_documents_own(stream_of, memory_session):
    session = memory_session()
    await apply_projection(countries(), session, [stream_of("s", Crossed("a"), Crossed("a"))])
    assert session.documents[Country, "a"].version == 0


# -- fan-out ---------------------------------------------------------------------------------------


@attrs.frozen
class Paid:
    country: str
    fees: list[int]


@attrs.define
class Ledger:
    id: str
    lines: list[str] = attrs.field(factory=list)

    def apply_paid(self, _: Paid, event: Event) -> None:
        self.lines.append(f"paid {event.sequence}")

    def apply_fee(self, fee: Fee, event: Event) -> None:
        self.lines.append(f"fee {fee.amount} {event.sequence} {event.type_name}")


def fees_of(event: Paid):
    for fee in event.fees:
        yield Fee(fee)


async def ledgers(session, stream, **more):
    projection = across_streams_projection(Ledger, **more)
    await apply_projection(projection, session, [stream])
    return {key: document.lines for (_, key), document in session.documents.items()}


async def test_children_follow_their_parent_to_its_documents(stream_of, memory_session):
    stream = stream_of("s", Paid("a", [1, 2]), Paid("b", []), Paid("a", [3]))
    kept = await ledgers(
        memory_session(), stream, group_by={Paid: lambda e: e.country}, fan_out={Paid: fees_of}
    )
    assert kept == {
        "a": ["paid 1", "fee 1 1 Fee", "fee 2 1 Fee", "paid 3", "fee 3 3 Fee"],
        "b": ["paid 2"],
    }


async def test_children_with_a_function_of_their_own_are_grouped_by_it(stream_of, memory_session):
    stream = stream_of("s", Paid("a", [1, 2]))
    by = {Paid: lambda _: None, Fee: lambda fee: f"fee {fee.amount}"}
    kept = await ledgers(memory_session(), stream, group_by=by, fan_out={Paid: fees_of})
    assert kept == {"fee 1": ["fee 1 1 Fee"], "fee 2": ["fee 2 1 Fee"]}


async def test_a_parent_that_is_not_grouped_is_only_its_children(stream_of, memory_session):
    projection = across_streams_projection(
        Ledger, group_by={Fee: lambda _: "all"}, fan_out={Paid: lambda e: map(Fee, e.fees)}
    )
    assert set(projection.consumes) == {Paid, Fee}
    session = memory_session()
    await apply_projection(projection, session, [stream_of("s", Paid("a", [1]))])
    assert session.documents[Ledger, "all"].lines == ["fee 1 1 Fee"]


async def test_a_parent_may_have_no_children(stream_of, memory_session):
    async def none(session, event): ...

    stream = stream_of("s", Paid("a", [1]))
    by = {Paid: lambda e: e.country}
    assert await ledgers(memory_session(), stream, group_by=by, fan_out={Paid: none}) == {
        "a": ["paid 1"]
    }


@pytest.mark.parametrize("found", [5, Fee(1)])
async def test_children_come_in_an_iterable(stream_of, memory_session, found):
    with pytest.raises(RegistrationError, match=r"Ledger: fan_out\[Paid\] gave"):
        await ledgers(
            memory_session(),
            stream_of("s", Paid("a", [])),
            group_by={Paid: lambda e: e.country},
            fan_out={Paid: lambda _: found},
        )


# -- enrichment ------------------------------------------------------------------------------------


async def test_enrich_runs_once_a_batch_with_all_events_in_sequence_order(
    stream_of, memory_session
):
    asked = []

    async def enrich(session, events):
        asked.append([event.sequence for event in events])
        found = await session.load_many(Country, ["x"])
        assert found == []

    session = memory_session()
    streams = [stream_of("s", Crossed("a"), first=2), stream_of("t", Crossed("b"), first=1)]
    await apply_projection(countries(enrich=enrich), session, streams)
    assert asked == [[1, 2]]
    assert session.calls == ["load_many", "load_many"]


async def test_what_enrich_returns_stands_for_the_events(stream_of, memory_session):
    def enrich(_session, events):
        named = {"a": "Austria", "b": "Belgium"}
        return [attrs.evolve(e, data=Crossed(named[e.data.country])) for e in events]

    session = memory_session()
    await apply_projection(
        countries(enrich=enrich), session, [stream_of("s", Crossed("a"), Crossed("b"))]
    )
    assert [key for _, key in session.documents] == ["Austria", "Belgium"]


async def test_enrich_may_not_return_bare_data(stream_of, memory_session):
    with pytest.raises(RegistrationError, match=r"enrich of 'Country' returned Crossed"):
        await apply_projection(
            countries(enrich=lambda _session, _events: [Crossed("a")]),
            memory_session(),
            [stream_of("s", Crossed("a"))],
        )


# -- registration ----------------------------------------------------------------------------------


def groups(*types, **more):
    return {"group_by": dict.fromkeys(types, lambda e: e.country), **more}


class NoHandlers:
    def __init__(self, id: str) -> None: ...  # noqa: A002 - the field is called so


def takes_crossed(event: Crossed): ...


@pytest.mark.parametrize(
    ("kind", "given", "words"),
    [
        (NoHandlers, groups(Crossed), ["NoHandlers", "no handlers"]),
        (Country, {"group_by": {}}, ["Country: group_by is empty"]),
        (Country, {"group_by": [Crossed]}, ["Country: group_by", "maps event types"]),
        (Country, groups(Crossed, Toured), ["Country handles Sunk"]),
        (Country, groups(Crossed, Toured, Sunk, Fee), ["group_by names Fee", "no handler"]),
        (Country, groups(Crossed, Toured, Sunk, "Fee"), ["group_by names 'Fee'"]),
        (Country, groups(Crossed, Toured, Sunk, int), ["group_by takes int"]),
        (Country, groups(Event), ["group_by takes Event"]),
        (Country, {"group_by": {Crossed: "country"}}, ["group_by[Crossed] is 'country'"]),
        (Country, {"group_by": {Crossed: lambda: 1}}, ["group_by[Crossed]", "no event"]),
        (Country, {"group_by": {Crossed: lambda a, b: 1}}, ["[Crossed]", "'a', 'b'", "session"]),
        (Country, {"group_by": {Crossed: lambda e, *, key: 1}}, ["[Crossed]", "'key'"]),
        (Country, {"group_by": {Sunk: takes_crossed}}, ["[Sunk]", "takes a Crossed", "for Sunk"]),
        (Country, groups(Crossed, Toured, Sunk, fan_out={Toured: 5}), ["fan_out[Toured] is 5"]),
        (Country, groups(Crossed, Toured, Sunk, fan_out=5), ["fan_out is 5"]),
        (Country, groups(Crossed, Toured, Sunk, enrich=5), ["Country: enrich is 5"]),
        (Country, groups(Crossed, Toured, Sunk, enrich=lambda e: e), ["enrich", "session, events"]),
        (Country, groups(Crossed, Toured, Sunk, name=""), ["''", "name"]),
        (Country, groups(Crossed, Toured, Sunk, version=0), ["0", "version"]),
        (Country, groups(Crossed, Toured, Sunk, lifecycle=Lifecycle.LIVE), ["can't be live"]),
    ],
    ids=itertools.count(),
)
def test_a_grouping_that_cannot_work_is_refused(kind, given, words):
    projections = Projections()
    with pytest.raises(RegistrationError) as caught:
        projections.aggregate_across_streams(kind, **given)
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert len(projections) == 0


def test_it_is_an_iprojection_found_by_its_document_type():
    projections = Projections()
    projection = projections.aggregate_across_streams(Country, **groups(Crossed, Toured, Sunk))
    assert isinstance(projection, IProjection)
    assert (projection.name, projection.produces) == ("Country", Country)
    assert projections.find(Country).projection is projection


def test_the_class_stays_foldable_by_stream():
    stream = EventStream("s", [])
    assert aggregate_rule(Country).keeps_version is True
    assert aggregate_rule(Country).fold(None, stream) is None
