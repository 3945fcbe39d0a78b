"""An aggregate's handlers, found by name and annotation, fold its stream."""

import dataclasses
from typing import Any, Union
from uuid import UUID

import attrs
import pytest

from flowstore.errors import RegistrationError
from flowstore.events import Event
from flowstore.projections import aggregate_rule


@attrs.frozen
class Opened:
    title: str = ""


@attrs.frozen
class Reopened:
    title: str = ""


@attrs.frozen
class LoudlyOpened(Opened):
    pass


@attrs.frozen
class Closed:
    finally_: bool = False


@attrs.frozen
class Ignored:
    pass


def fold(aggregate: type, stream):
    return aggregate_rule(aggregate).fold(None, stream)


@attrs.define
class Issue:
    id: str
    opened: int = 0
    title: str = ""

    def apply_opened(self, event: Opened | Reopened) -> None:
        self.opened += 1
        self.title = event.title


def test_a_missing_aggregate_is_made_with_the_streams_identity(stream_of):
    assert fold(Issue, stream_of("a", Opened("x"))) == Issue("a", 1, "x")


def test_a_union_takes_each_of_its_types(stream_of):
    assert fold(Issue, stream_of("a", Opened(), Reopened(), Reopened())).opened == 3


def test_typing_union_takes_each_of_its_types(stream_of):
    @attrs.define
    class Counter:
        id: str
        count: int = 0

        def apply(self, _: Union[Opened, Closed]) -> None:  # noqa: UP007  # the older spelling
            self.count += 1

    assert fold(Counter, stream_of("a", Opened(), Closed())).count == 2


def test_annotations_may_be_text(stream_of):
    @attrs.define
    class Counter:
        id: str
        count: int = 0

        def apply_it(self, _: "Opened | Closed", envelope: "Event") -> "NotThere":  # noqa: F821  # only the parameters matter
            self.count += envelope.version

    assert fold(Counter, stream_of("a", Opened(), Closed())).count == 3


def test_an_event_without_a_handler_changes_nothing(stream_of):
    assert fold(Issue, stream_of("a", Ignored())) is None
    assert fold(Issue, stream_of("a", Opened("x"), Ignored())) == Issue("a", 1, "x")


def test_a_subclass_of_an_event_is_another_event(stream_of):
    assert fold(Issue, stream_of("a", LoudlyOpened())) is None


def test_a_second_parameter_gets_the_envelope(stream_of):
    @attrs.define
    class Seen:
        id: str
        sequences: list[int] = attrs.field(factory=list)

        def apply_opened(self, _: Opened, event: Event) -> None:
            self.sequences.append(event.sequence)

    assert fold(Seen, stream_of("a", Opened(), Opened(), first=7)).sequences == [7, 8]


def test_other_parameters_with_defaults_are_left_alone(stream_of):
    @attrs.define
    class Scaled:
        id: str
        total: int = 0

        def apply_opened(self, _: Opened, by: int = 10) -> None:
            self.total += by

    assert fold(Scaled, stream_of("a", Opened())).total == 10


def test_what_a_handler_returns_takes_the_aggregates_place(stream_of):
    @attrs.frozen
    class Frozen:
        id: str
        opened: int = 0

        def apply_opened(self, _: Opened) -> "Frozen":
            return attrs.evolve(self, opened=self.opened + 1)

    assert fold(Frozen, stream_of("a", Opened(), Opened())) == Frozen("a", 2)


def test_what_a_handler_returns_is_of_the_aggregates_class(stream_of):
    @attrs.define
    class Careless:
        id: str

        def apply_opened(self, event: Opened) -> Any:
            return event.title

    with pytest.raises(RegistrationError, match=r"Careless\.apply_opened returned 'x'"):
        fold(Careless, stream_of("a", Opened("x")))


@attrs.define
class Created:
    id: str
    title: str
    by: str = ""

    @classmethod
    def create_opened(cls, event: Opened) -> "Created":
        return cls("whatever", event.title, "opened")

    @staticmethod
    def create_reopened(event: Reopened, envelope: Event) -> "Created":
        return Created(str(envelope.stream_id), event.title, "reopened")

    def apply_opened(self, event: Opened) -> None:
        self.title += event.title


def test_create_makes_what_is_missing_and_apply_is_left_out(stream_of):
    assert fold(Created, stream_of("a", Opened("x"))) == Created("a", "x", "opened")


def test_create_may_ask_for_the_envelope(stream_of):
    assert fold(Created, stream_of("a", Reopened("x"))) == Created("a", "x", "reopened")


def test_create_is_left_out_where_there_is_an_aggregate(stream_of):
    stream = stream_of("a", Opened("x"), Opened("y"), Reopened("z"))
    assert fold(Created, stream) == Created("a", "xy", "opened")


def test_the_identity_of_what_is_created_is_the_streams(stream_of):
    stream_id = UUID(int=5)
    assert fold(Created, stream_of(stream_id, Opened("x"))).id == stream_id


def test_create_may_decline(stream_of):
    @attrs.define
    class Choosy:
        id: str

        @classmethod
        def create(cls, event: Opened) -> "Choosy | None":
            return cls("a") if event.title else None

    assert fold(Choosy, stream_of("a", Opened())) is None
    assert fold(Choosy, stream_of("a", Opened(), Opened("x"))) == Choosy("a")


def test_an_event_that_cannot_begin_an_aggregate_is_an_error_naming_the_stream(stream_of):
    @attrs.define
    class Needy:
        id: str
        title: str

        @classmethod
        def create(cls, event: Opened) -> "Needy":
            return cls("a", event.title)

        def apply_closed(self, _: Closed) -> None:
            self.title = ""

    with pytest.raises(RegistrationError, match=r"begin with Closed in stream 'a'.*'title'"):
        fold(Needy, stream_of("a", Closed()))


@attrs.define
class Deletable:
    id: str
    count: int = 0

    def apply_any(self, _: Opened | Closed) -> None:
        self.count += 1

    def should_delete_closed(self, event: Closed) -> bool:
        return event.finally_ or self.count >= 3

    def should_delete_reopened(self, _: Reopened, event: Event) -> bool:
        return event.version == 2


def test_should_delete_ends_the_aggregate(stream_of):
    assert fold(Deletable, stream_of("a", Opened(), Closed(finally_=True))) is None


def test_should_delete_is_asked_after_the_event_was_applied(stream_of):
    assert fold(Deletable, stream_of("a", Opened(), Closed())) == Deletable("a", 2)
    assert fold(Deletable, stream_of("a", Opened(), Opened(), Closed())) is None


def test_should_delete_may_ask_for_the_envelope(stream_of):
    assert fold(Deletable, stream_of("a", Opened(), Reopened())) is None
    assert fold(Deletable, stream_of("a", Reopened(), Reopened())) is None
    assert fold(Deletable, stream_of("a", Opened(), Opened(), Reopened())) is not None


def test_a_later_event_begins_a_new_aggregate(stream_of):
    stream = stream_of("a", Opened(), Opened(), Closed(finally_=True), Opened())
    assert fold(Deletable, stream) == Deletable("a", 1)


def test_should_delete_alone_begins_nothing(stream_of):
    assert fold(Deletable, stream_of("a", Reopened())) is None


@attrs.define
class Versioned:
    id: str
    version: int = 0

    def apply_opened(self, _: Opened) -> None:
        pass


@attrs.frozen
class FrozenVersioned:
    id: str
    version: int = 0

    def apply_opened(self, _: Opened) -> None:
        pass


@dataclasses.dataclass(frozen=True)
class DataVersioned:
    id: str
    version: int = 0

    def apply_opened(self, _: Opened) -> None:
        pass


@pytest.mark.parametrize("aggregate", [Versioned, FrozenVersioned, DataVersioned])
def test_a_field_version_follows_the_stream_over_events_without_a_handler(aggregate, stream_of):
    rule = aggregate_rule(aggregate)
    assert rule.keeps_version
    assert rule.fold(None, stream_of("a", Opened(), Opened(), Ignored())) == aggregate("a", 3)


def test_a_class_without_a_field_version_is_left_alone(stream_of):
    assert not aggregate_rule(Issue).keeps_version
    assert not hasattr(fold(Issue, stream_of("a", Opened())), "version")


@attrs.frozen
class Account:
    id: str
    balance: int = 0

    @staticmethod
    def evolve(
        state: "Account | None", event: Opened | Closed, envelope: Event
    ) -> "Account | None":
        if isinstance(event, Closed):
            return None
        if state is None:
            return Account(str(envelope.stream_id), 100)
        return attrs.evolve(state, balance=state.balance + 1)


def test_evolve_returns_the_next_state(stream_of):
    assert fold(Account, stream_of("a", Opened(), Opened())) == Account("a", 101)


def test_evolve_ends_the_aggregate_with_none(stream_of):
    assert fold(Account, stream_of("a", Opened(), Closed())) is None


def test_evolve_as_a_method_works_on_a_begun_aggregate(stream_of):
    @attrs.frozen
    class Tally:
        id: str
        count: int = 0

        def evolve(self, _: Opened) -> "Tally":
            return attrs.evolve(self, count=self.count + 1)

    assert fold(Tally, stream_of("a", Opened(), Opened())) == Tally("a", 2)


def test_inherited_handlers_count_and_overriding_ones_replace_them(stream_of):
    @attrs.define
    class LoudIssue(Issue):
        def apply_closed(self, _: Closed) -> None:
            self.title += "!"

    @attrs.define
    class QuietIssue(LoudIssue):
        def apply_closed(self, _: Closed) -> None:
            self.title = ""

    assert fold(LoudIssue, stream_of("a", Opened("x"), Closed())) == LoudIssue("a", 1, "x!")
    assert fold(QuietIssue, stream_of("a", Opened("x"), Closed())) == QuietIssue("a", 1, "")


def test_a_plain_class_can_be_an_aggregate(stream_of):
    class Plain:
        def __init__(self, id):  # noqa: A002  # the field is called so
            self.id = id
            self.count = 0

        def apply_opened(self, _: Opened):
            self.count += 1

    assert vars(fold(Plain, stream_of("a", Opened()))) == {"id": "a", "count": 1}


def test_fields_and_helpers_may_begin_like_handlers(stream_of):
    @attrs.define
    class Dated:
        id: str
        created: str = ""
        applied: list[str] = attrs.field(factory=list)

        @property
        def apply_count(self) -> int:
            return len(self.applied)

        def created_recently(self) -> bool:
            return bool(self.created)

        def apply_opened(self, event: Opened) -> None:
            self.applied.append(event.title)

    assert fold(Dated, stream_of("a", Opened("x"))).apply_count == 1


def test_the_rule_names_what_it_consumes():
    assert set(aggregate_rule(Deletable).consumes) == {Opened, Closed, Reopened}


def test_a_frozen_struct_has_its_version_filled(stream_of):
    msgspec = pytest.importorskip("msgspec", reason="msgspec is not installed")

    class Counted(msgspec.Struct, frozen=True):
        id: str
        opened: int = 0
        version: int = 0

        def apply_opened(self, _: Opened) -> "Counted":
            return msgspec.structs.replace(self, opened=self.opened + 1)

    Counted.apply_opened.__annotations__["return"] = Counted
    assert fold(Counted, stream_of("a", Opened(), Opened())) == Counted("a", 2, 2)
