"""A scenario says what documents come of events, and tells where they don't."""

from datetime import UTC, datetime
from uuid import UUID

import attrs
import pytest

from flowstore.errors import RegistrationError
from flowstore.events import Event, NewEvent
from flowstore.projections import transform_projection
from flowstore.testing import ProjectionScenario

HERE, THERE = UUID(int=7), UUID(int=8)


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
    changed: datetime | None = None

    def apply_opened(self, opened: Opened) -> None:
        self.title = opened.title

    def apply_comment(self, commented: Commented, event: Event) -> None:
        self.words += commented.words
        self.changed = event.timestamp if event.headers else None

    def should_delete(self, _: Withdrawn) -> bool:
        return True


SCENARIO = ProjectionScenario(Issue, stream_id=HERE)


def test_then_passes_where_the_documents_are_those_expected():
    SCENARIO.given(Opened("a"), Commented(2)).when(Commented(3)).then(Issue(HERE, "a", 5))


def test_then_names_the_document_and_its_fields():
    with pytest.raises(AssertionError) as caught:
        SCENARIO.given(Opened("a"), Commented(2)).then(Issue(HERE, "b", 3))
    assert str(caught.value) == (
        f"Issue '{HERE}': title is 'b' expected, 'a' found, words is 3 expected, 2 found"
    )


def test_a_document_too_many_or_too_few_fails():
    with pytest.raises(AssertionError, match=f"Issue '{HERE}' exists found only"):
        SCENARIO.given(Opened("a")).then()
    with pytest.raises(AssertionError, match=f"Issue '{THERE}' exists expected only"):
        SCENARIO.given(Opened("a")).then(Issue(HERE, "a"), Issue(THERE))


def test_nothing_is_expected_of_a_document_that_was_deleted():
    SCENARIO.given(Opened("a")).when(Withdrawn()).then(None)
    SCENARIO.given(Opened("a"), Withdrawn()).then()


def test_events_of_another_stream_make_another_document():
    both = SCENARIO.given(Opened("a")).given(Opened("b"), stream_id=THERE)
    both.then(Issue(THERE, "b"), Issue(HERE, "a"))
    assert both.documents() == [Issue(HERE, "a"), Issue(THERE, "b")]


def test_a_scenario_is_not_changed_by_what_follows_it():
    opened = SCENARIO.given(Opened("a"))
    opened.when(Commented(1)).then(Issue(HERE, "a", 1))
    opened.then(Issue(HERE, "a"))


def test_a_new_event_brings_its_time_and_headers():
    when = datetime(2026, 3, 4, tzinfo=UTC)
    event = NewEvent(Commented(1), timestamp=when, headers={"from": "mail"})
    SCENARIO.given(event).then(Issue(HERE, words=1, changed=when))


def test_any_projection_may_stand_in_a_scenario():
    def title_of(opened: Opened, event: Event) -> Issue:
        return Issue(event.stream_id, opened.title.upper())

    scenario = ProjectionScenario(transform_projection(title_of), stream_id=THERE)
    scenario.given(Opened("x"), Commented(2)).then(Issue(THERE, "X"))


def test_an_aggregate_that_cannot_be_folded_is_refused_at_once():
    with pytest.raises(RegistrationError, match="Opened"):
        ProjectionScenario(Opened)
