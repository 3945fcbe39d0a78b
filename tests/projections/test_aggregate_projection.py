"""A view kept page by page is the aggregate folded at once."""

import itertools

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowstore.errors import RegistrationError
from flowstore.events import Compacted, Event, EventStream, group_by_stream_id
from flowstore.projections import IProjection, aggregate_projection, apply_projection


@attrs.frozen
class Deposited:
    amount: int


@attrs.frozen
class Withdrawn:
    amount: int


@attrs.frozen
class Closed:
    pass


@attrs.frozen
class Noticed:
    pass


@attrs.define
class Account:
    id: str
    balance: int = 0
    seen: list[int] = attrs.field(factory=list)

    def apply_moved(self, event: Deposited | Withdrawn, envelope: Event) -> None:
        self.balance += event.amount if isinstance(event, Deposited) else -event.amount
        self.seen.append(envelope.version)

    def should_delete_closed(self, _: Closed) -> bool:
        return True

    def should_delete_withdrawn(self, _: Withdrawn) -> bool:
        return self.balance < 0


@attrs.define
class VersionedAccount(Account):
    version: int = 0
    versions_before: list[int] = attrs.field(factory=list)

    def apply_moved(self, event: Deposited | Withdrawn, envelope: Event) -> None:
        self.versions_before.append(self.version)
        super().apply_moved(event, envelope)


@attrs.frozen
class FrozenAccount:
    id: str
    balance: int
    version: int = 0

    @classmethod
    def create(cls, event: Deposited, envelope: Event) -> "FrozenAccount":
        return cls(str(envelope.stream_id), event.amount)

    def apply_deposited(self, event: Deposited) -> "FrozenAccount":
        return attrs.evolve(self, balance=self.balance + event.amount)

    @staticmethod
    def evolve(state: "FrozenAccount | None", event: Closed | Withdrawn) -> "FrozenAccount | None":
        if state is None or isinstance(event, Closed):
            return None
        return attrs.evolve(state, balance=state.balance - event.amount)


happenings = st.one_of(  # mostly deposits, or accounts end before anything comes of them
    st.builds(Deposited, st.integers(0, 5)),
    st.builds(Deposited, st.integers(5, 9)),
    st.builds(Withdrawn, st.integers(0, 5)),
    st.just(Closed()),
    st.just(Noticed()),
)
every_aggregate = pytest.mark.parametrize("aggregate", [Account, VersionedAccount, FrozenAccount])


def pages_of(stream: EventStream, sizes: list[int]) -> list[EventStream]:
    pages, rest, sizes_again = [], stream.events, itertools.cycle(sizes)
    while rest:
        size = next(sizes_again)
        pages.append(EventStream(stream.id, rest[:size]))
        rest = rest[size:]
    return pages


@every_aggregate
@given(happened=st.lists(happenings), sizes=st.lists(st.integers(1, 4), min_size=1))
def test_folding_in_pages_is_folding_at_once(stream_of, aggregate, happened, sizes):
    rule = aggregate_projection(aggregate).rule
    stream = stream_of("a", *happened)
    state = None
    for page in pages_of(stream, sizes):
        state = rule.fold(state, page)
    assert state == rule.fold(None, stream)


@every_aggregate
@given(
    happened=st.lists(st.tuples(st.sampled_from("abc"), happenings), max_size=30),
    page_size=st.integers(1, 7),
)
async def test_the_view_is_the_live_aggregate_whatever_the_page_size(
    stream_of, memory_session, aggregate, happened, page_size
):
    projection, session = aggregate_projection(aggregate), memory_session()
    streams = {
        stream_id: stream_of(stream_id, *(data for at, data in happened if at == stream_id))
        for stream_id in "abc"
    }
    versions = {stream_id: iter(stream.events) for stream_id, stream in streams.items()}
    events = [
        attrs.evolve(next(versions[stream_id]), sequence=place)
        for place, (stream_id, _) in enumerate(happened, 1)
    ]
    for start in range(0, len(events), page_size):
        page = group_by_stream_id(events[start : start + page_size])
        await apply_projection(projection, session, page)

    live = {
        stream_id: projection.rule.fold(
            None, EventStream(stream_id, [e for e in events if e.stream_id == stream_id])
        )
        for stream_id in "abc"
    }
    kept = {stream_id: session.documents.get((aggregate, stream_id)) for stream_id in "abc"}
    assert kept == live


async def test_all_documents_of_a_page_are_loaded_at_once(stream_of, memory_session):
    session = memory_session()
    streams = [stream_of(stream_id, Deposited(1)) for stream_id in "abc"]
    await aggregate_projection(Account).apply(session, streams)
    assert session.calls == ["load_many"]
    assert len(session.documents) == 3


async def test_a_page_that_concerns_nothing_asks_nothing(stream_of, memory_session):
    session = memory_session()
    await aggregate_projection(Account).apply(session, [stream_of("a", Noticed())])
    assert session.calls == []


async def test_a_deleted_aggregate_is_deleted_from_the_view(stream_of, memory_session):
    session, projection = memory_session(), aggregate_projection(Account)
    await projection.apply(session, [stream_of("a", Deposited(1))])
    await projection.apply(session, [stream_of("a", Closed(), first=2)])
    assert session.documents == {}


async def test_what_begins_and_ends_in_one_page_is_never_written(stream_of, memory_session):
    session = memory_session()
    await aggregate_projection(Account).apply(session, [stream_of("a", Deposited(1), Closed())])
    assert session.calls == ["load_many"]
    assert session.documents == {}


def test_it_is_an_iprojection():
    projection = aggregate_projection(Account)
    assert isinstance(projection, IProjection)
    assert projection.produces is Account
    assert set(projection.consumes) == {Deposited, Withdrawn, Closed, Compacted}


# -- enrichment --


@attrs.frozen
class Sold:
    article: str
    price: int = 0


@attrs.define
class Price:
    id: str
    amount: int


@attrs.define
class Till:
    id: str
    total: int = 0

    def apply_sold(self, sold: Sold) -> None:
        self.total += sold.price


async def with_prices(session, events):
    found = await session.load_many(Price, {event.data.article for event in events})
    prices = {price.id: price.amount for price in found}
    return [
        attrs.evolve(event, data=attrs.evolve(event.data, price=prices.get(event.data.article, 0)))
        for event in events
    ]


async def test_enrich_runs_once_a_batch_and_handlers_see_what_it_put_in(stream_of, memory_session):
    session = memory_session()
    session.store(Price("lamp", 30), Price("chair", 50))
    projection = aggregate_projection(Till, enrich=with_prices)
    first = stream_of("a", Sold("lamp"), Sold("chair"))
    await apply_projection(projection, session, [first, stream_of("b", Sold("lamp"), first=3)])
    assert [session.documents[Till, key].total for key in "ab"] == [80, 30]
    assert session.calls == ["load_many", "load_many"]


async def test_a_plain_enrich_may_leave_the_events_as_they_are(stream_of, memory_session):
    seen = []
    projection = aggregate_projection(
        Till, enrich=lambda _, events: seen.extend(event.sequence for event in events)
    )
    streams = [stream_of("a", Sold("x", 1), first=2), stream_of("b", Sold("x", 2))]
    await apply_projection(projection, session := memory_session(), streams)
    assert seen == [1, 2]
    assert session.documents[Till, "a"].total == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda events: events[1:],
        lambda events: [*events, events[-1]],
        lambda events: [attrs.evolve(event, stream_id="elsewhere") for event in events],
    ],
    ids=["fewer", "more", "elsewhere"],
)
async def test_enrich_may_not_change_which_events_there_are(stream_of, memory_session, change):
    projection = aggregate_projection(Till, enrich=lambda _, events: change(events))
    with pytest.raises(RegistrationError, match="returned other events than it got"):
        await apply_projection(projection, memory_session(), [stream_of("a", Sold("x"), Sold("y"))])
