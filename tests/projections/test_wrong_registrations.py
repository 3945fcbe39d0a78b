"""What can't work is refused when it is registered, or when the store opens, by name and place."""

from collections.abc import Callable
from uuid import UUID

import attrs
import pytest

from flowstore.errors import RegistrationError
from flowstore.projections import (
    AsyncOptions,
    Composite,
    FlatTable,
    Lifecycle,
    Projections,
    aggregate_projection,
)


@attrs.frozen
class Opened:
    title: str = ""


@attrs.frozen
class Closed:
    pass


def make(identity, name="Issue"):
    """Make an aggregate whose `id` is annotated so."""

    class Issue:
        id: identity

        def __init__(self, id):  # noqa: A002  # the field is called so
            self.id = id

        def apply_opened(self, _: Opened) -> None: ...

    Issue.__qualname__ = Issue.__name__ = name
    return Issue


@attrs.define
class Issue:
    id: UUID
    title: str = ""

    def apply_opened(self, opened: Opened) -> None:
        self.title = opened.title


@attrs.define
class Board:
    id: str
    issues: int = 0

    def apply_opened(self, _: Opened) -> None:
        self.issues += 1


@attrs.frozen
class Entry:
    id: str


def entry(opened: Opened) -> Entry:
    return Entry(opened.title)


class Stateless:
    id: UUID

    @staticmethod
    def evolve(event: Opened) -> None: ...


class Swapped:
    id: UUID

    @staticmethod
    def evolve(event: Opened, state) -> None: ...


def table(name="issues"):
    return FlatTable(name, key="id", key_type=UUID, columns={"title": str}).on(
        Opened, set={"title": "title"}
    )


def composed(projections):
    composite = Composite("all").stage(Issue, table())
    projections.add(composite)
    return composite


def hear(session, events): ...


# -- at registration --


def count_letters(opened: Opened) -> int:
    return len(opened.title)


@attrs.frozen
class Case:
    register: Callable
    words: list[str]


CASES = {
    "a name twice": Case(
        lambda p: (p.subscribe("Issue", hear), p.aggregate_streams_with(Issue)),
        ["'Issue' is registered already", "another name"],
    ),
    "a name twice, of two classes": Case(
        lambda p: (p.aggregate_streams_with(Board), p.aggregate_streams_with(Issue, name="Board")),
        ["'Board' is registered already", ".Board", ".Issue"],
    ),
    "an aggregate that is no class": Case(
        lambda p: p.aggregate_streams_with("Issue"), ["'Issue' can't be an aggregate"]
    ),
    "an aggregate across streams that is no class": Case(
        lambda p: p.aggregate_across_streams(None, group_by={}), ["None can't be an aggregate"]
    ),
    "an aggregate of Python's own": Case(
        lambda p: p.aggregate_streams_with(int), ["int has no field 'id'"]
    ),
    "a transform to a number": Case(
        lambda p: p.transform(count_letters), ["count_letters makes int", "no field 'id'"]
    ),
    "options that are none": Case(
        lambda p: p.aggregate_streams_with(Issue, async_options={"page_size": 5}),
        ["async_options of 'Issue'", "AsyncOptions"],
    ),
    "a document type twice": Case(
        lambda p: (
            p.aggregate_streams_with(Board),
            p.aggregate_across_streams(Board, group_by={Opened: "title".join}, name="other"),
        ),
        ["Board is produced by 'Board' already", "'other'"],
    ),
    "two versions of one class": Case(
        lambda p: (
            p.aggregate_streams_with(Issue),
            p.aggregate_streams_with(Issue, name="next", version=2),
        ),
        ["Issue is produced by 'Issue' already", "'next'"],
    ),
    "a name twice in a composite": Case(
        lambda _: Composite("all").stage(Issue).stage(Issue),
        ["composite 'all', stage 2", "'Issue'"],
    ),
    "evolve without state": Case(
        lambda p: p.aggregate_streams_with(Stateless),
        ["Stateless.evolve", "takes no state", "evolve(state, event)"],
    ),
    "evolve with state and event swapped": Case(
        lambda p: p.aggregate_streams_with(Swapped),
        ["Swapped.evolve", "annotate 'state' with an event type"],
    ),
    "an event by its name": Case(
        lambda p: p.subscribe("heard", hear, consumes=["Opened"]), ["'Opened'", "isn't a class"]
    ),
    "an event by its name in a table": Case(
        lambda _: table().on("Closed"), ["flat table 'issues'", "'Closed'", "event's class"]
    ),
    "an event by its name in a grouping": Case(
        lambda p: p.aggregate_across_streams(Board, group_by={"Opened": lambda e: e.title}),
        ["Board: group_by names 'Opened'", "isn't a class"],
    ),
    "an event handled and not grouped": Case(
        lambda p: p.aggregate_across_streams(Board, group_by={Closed: lambda _: "x"}),
        ["Board handles Opened", "group_by doesn't name"],
    ),
    "a table's rule after registration": Case(
        lambda p: (p.add(ready := table()), ready.on(Closed, set={"title": None})),
        ["flat table 'issues'", "registered already", "Closed"],
    ),
    "a table's deletion after registration": Case(
        lambda p: (p.add(ready := table()), ready.delete_on(Closed)),
        ["flat table 'issues'", "registered already", "Closed"],
    ),
    "a rule of a member after registration": Case(
        lambda p: composed(p).members[1].delete_on(Closed),
        ["flat table 'issues'", "registered already", "Closed"],
    ),
    "a stage after registration": Case(
        lambda p: composed(p).stage(Board), ["composite 'all', stage 2", "too late"]
    ),
    "a table without rules": Case(
        lambda p: p.add(FlatTable("issues", key="id", key_type=UUID, columns={})),
        ["flat table 'issues'", "no rules"],
    ),
    "a live grouping": Case(
        lambda p: p.aggregate_across_streams(
            Board, group_by={Opened: lambda e: e.title}, lifecycle=Lifecycle.LIVE
        ),
        ["'Board' can't be live", "only an aggregate"],
    ),
    "a live transform": Case(
        lambda p: p.transform(entry, lifecycle=Lifecycle.LIVE), ["'entry' can't be live"]
    ),
    "a live table": Case(
        lambda p: p.add(table(), lifecycle=Lifecycle.LIVE), ["'issues' can't be live"]
    ),
    "a live composite": Case(
        lambda p: p.add(Composite("all").stage(Issue), lifecycle=Lifecycle.LIVE),
        ["'all' can't be live"],
    ),
    "an inline subscription": Case(
        lambda p: p.add(Projections().subscribe("heard", hear), lifecycle=Lifecycle.INLINE),
        ["'heard' can't be inline", "order"],
    ),
    "an enriched live aggregate": Case(
        lambda p: p.aggregate_streams_with(Issue, enrich=hear, lifecycle=Lifecycle.LIVE),
        ["'Issue' can't be live with enrich="],
    ),
    "an enrichment that takes nothing": Case(
        lambda p: p.aggregate_streams_with(Issue, enrich=lambda: None),
        ["Issue: enrich", "(session, events)"],
    ),
    "a lifecycle by its name": Case(
        lambda p: p.aggregate_streams_with(Issue, lifecycle="inline"),
        ["'inline'", "no lifecycle of 'Issue'"],
    ),
    "a version of nothing": Case(
        lambda p: p.aggregate_streams_with(Issue, version=0), ["0 can't be", "from 1"]
    ),
    "options that are a dictionary": Case(
        lambda p: p.add(Composite("all", async_options={}).stage(Issue)), ["async_options", "{}"]
    ),
    "a page of nothing": Case(lambda _: AsyncOptions(page_size=0), ["page_size is 0"]),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_what_cannot_work_is_refused_by_name_and_place(case):
    with pytest.raises(RegistrationError) as caught:
        case.register(Projections())
    assert all(word in str(caught.value) for word in case.words), str(caught.value)


# -- when the store opens --


@pytest.mark.parametrize("lifecycle", Lifecycle)
@pytest.mark.parametrize(
    ("stream_identity", "identity", "words"),
    [
        ("uuid", int, ["Issue.id is annotated int", "by UUID", "stream_identity='string'"]),
        ("uuid", str, ["Issue.id is annotated str", "by UUID", "stream_identity='string'"]),
        ("string", UUID, ["Issue.id is annotated UUID", "by str", "stream_identity='uuid'"]),
        ("string", int, ["Issue.id is annotated int", "by str"]),
    ],
)
async def test_an_id_that_no_stream_has_is_refused_when_the_store_opens(
    opening, stream_identity, identity, words, lifecycle
):
    projections = Projections()
    projections.aggregate_streams_with(make(identity), lifecycle=lifecycle)
    with pytest.raises(RegistrationError) as caught:
        async with opening(projections, stream_identity=stream_identity):
            raise AssertionError
    assert all(word in str(caught.value) for word in words), str(caught.value)


async def test_an_id_that_no_stream_has_is_refused_in_a_composite(opening):
    projections = Projections()
    projections.add(Composite("all").stage(aggregate_projection(make(int, "Inner"))))
    with pytest.raises(RegistrationError, match=r"Inner\.id is annotated int"):
        async with opening(projections):
            raise AssertionError


async def test_a_key_across_streams_is_no_streams_identity(opening):
    projections = Projections()
    projections.aggregate_across_streams(Board, group_by={Opened: lambda e: e.title})
    async with opening(projections) as store:
        assert await store.progress(Board) == 0
