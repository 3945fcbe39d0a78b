"""Pages fold alike for projections that keep all they know in documents, and for no others."""

from typing import ClassVar
from uuid import UUID

import attrs
import pytest
import trio
from cattrs.preconf.json import make_converter
from hypothesis import Phase, given, settings

from flowstore.projections import (
    AsyncOptions,
    aggregate_projection,
    aggregate_rule,
    transform_projection,
)
from flowstore.testing import (
    NotInMemoryError,
    check_pages_fold_alike,
    event_histories,
    page_sizes,
)
from flowstore.testing._placing import place

FINDING = settings(phases=[Phase.generate], max_examples=300, database=None)


@attrs.frozen
class Opened:
    title: str


@attrs.frozen
class Commented:
    words: int


@attrs.frozen
class Withdrawn:
    pass


@attrs.define
class Issue:
    id: UUID
    title: str = ""
    words: int = 0
    version: int = 0

    def apply_opened(self, opened: Opened) -> None:
        self.title = opened.title

    def apply_comment(self, commented: Commented) -> None:
        self.words += commented.words

    def should_delete(self, _: Withdrawn) -> bool:
        return True


@attrs.define(slots=False)
class Forgetful:
    """Remembers the last comment outside its fields, where no store keeps it."""

    id: UUID
    longest: int = 0

    def apply_comment(self, commented: Commented) -> None:
        self._last = max(getattr(self, "_last", 0), commented.words)
        self.longest = self._last


class Recount:
    """Counts the events of the page, and forgets what the document had."""

    name = "recount"
    consumes: ClassVar = (Commented,)
    produces = Issue
    async_options = AsyncOptions()

    async def apply(self, session, streams):
        for stream in streams:
            session.store(Issue(stream.id, words=len(stream.events)))


class Waiting(Recount):
    async def apply(self, session, streams):
        await trio.lowlevel.checkpoint()


class Sql(Recount):
    def apply(self, session, streams):
        session.execute("delete from elsewhere")


HISTORIES = event_histories(Opened, Commented, Withdrawn)


def comments(*words):
    return place([(UUID(int=1), Commented(each), 1) for each in words])


@given(history=HISTORIES, cuts=page_sizes())
def test_an_aggregate_folds_alike_however_its_history_is_cut(history, cuts):
    check_pages_fold_alike(Issue, history, cuts)


def each_comment(commented: Commented) -> Issue | None:
    return Issue(UUID(int=commented.words % 3), words=commented.words)


@given(history=HISTORIES, cuts=page_sizes())
def test_a_transform_folds_alike_however_its_history_is_cut(history, cuts):
    check_pages_fold_alike(transform_projection(each_comment), history, cuts)


@pytest.mark.parametrize("make", [aggregate_rule, aggregate_projection])
def test_rules_and_projections_are_taken_as_classes_are(make):
    check_pages_fold_alike(make(Issue), comments(1, 2, 3), [1])


@pytest.mark.parametrize("bug", [Forgetful, Recount()])
def test_a_projection_that_depends_on_where_pages_end_is_found(bug):
    @FINDING
    @given(history=HISTORIES, cuts=page_sizes())
    def law(history, cuts):
        check_pages_fold_alike(bug, history, cuts)

    with pytest.raises(AssertionError, match="the history gives other documents"):
        law()


def test_the_story_names_one_cut_the_fields_and_the_documents_events():
    ours, others = comments(5, 1), place([(UUID(int=2), Opened("x"), 1)], after=2)
    with pytest.raises(AssertionError) as caught:
        check_pages_fold_alike(Forgetful, [*ours, *others], [1])
    stream = "00000000-0000-0000-0000-000000000001"
    assert str(caught.value) == (
        "cut after sequence 1, the history gives other documents\n"
        f"  Forgetful '{stream}': longest is 5 at once, 1 in pages\n"
        f"  page 1  sequence 1, version 1 of stream '{stream}': Commented(words=5)\n"
        f"  page 2  sequence 2, version 2 of stream '{stream}': Commented(words=1)"
    )


def test_a_document_that_only_pages_make_is_told():
    class Clearing(Recount):
        def apply(self, session, streams):
            for stream in streams:
                if len(stream.events) == 1:
                    session.store(Issue(stream.id))

    with pytest.raises(AssertionError, match="exists in pages only"):
        check_pages_fold_alike(Clearing(), comments(1, 2), [1])


def test_what_waits_for_more_than_its_session_needs_a_store():
    with pytest.raises(NotInMemoryError, match="'recount' waits for something other"):
        trio.run(in_trio, Waiting())


async def in_trio(projection):
    check_pages_fold_alike(projection, comments(1), [1])


def test_what_executes_sql_needs_a_store():
    with pytest.raises(NotInMemoryError, match="delete from elsewhere"):
        check_pages_fold_alike(Sql(), comments(1), [1])


@pytest.mark.parametrize("cuts", [[], [0], [3, -1]])
def test_pages_of_no_events_are_refused(cuts):
    with pytest.raises(ValueError, match="no page sizes"):
        check_pages_fold_alike(Issue, comments(1), cuts)


def test_what_is_no_projection_is_refused():
    with pytest.raises(TypeError, match="no projection"):
        check_pages_fold_alike(object(), [], [1])


def test_a_projection_that_gives_other_documents_each_time_is_found():
    class Restless(Recount):
        calls = 0

        def apply(self, session, streams):
            Restless.calls += 1
            if Restless.calls == 2:
                session.store(Issue(UUID(int=9)))

    with pytest.raises(AssertionError, match="depends on something other than its events"):
        check_pages_fold_alike(Restless(), comments(1), [1])


def test_the_applications_converter_is_used():
    converter = make_converter()
    converter.register_unstructure_hook(UUID, str)
    converter.register_structure_hook(UUID, lambda text, _: UUID(text))
    check_pages_fold_alike(Issue, comments(1, 2), [1], converter=converter)


def test_tenants_are_kept_apart():
    first, second = comments(1, 2)
    history = [attrs.evolve(first, tenant_id="a"), attrs.evolve(second, tenant_id="b")]
    check_pages_fold_alike(Issue, history, [1])


def test_the_story_names_the_tenant():
    history = [attrs.evolve(event, tenant_id="b") for event in comments(5, 1)]
    with pytest.raises(AssertionError, match="of tenant 'b': longest is 5 at once, 1 in pages"):
        check_pages_fold_alike(Forgetful, history, [1])
