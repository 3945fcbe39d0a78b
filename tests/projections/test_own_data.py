"""What a document takes of an event is its own: the event stays as it was, for whoever folds it next."""

import dataclasses
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal, NewType
from uuid import UUID

import attrs
import msgspec
import pytest

from flowstore.codec import EventCodec, EventRegistry
from flowstore.events import Event
from flowstore.projections import aggregate_rule
from flowstore.projections._own_data import is_settled


@attrs.frozen
class Begun:
    tags: list[str]


@attrs.define
class Counted:
    """Not frozen: a document may hold the event itself, and change it."""

    number: int = 0


@attrs.frozen
class Tagged:
    tag: str


@attrs.define
class Applying:
    id: str
    tags: list[str] = attrs.field(factory=list)

    def apply(self, begun: Begun) -> None:
        self.tags = begun.tags

    def apply_tagged(self, tagged: Tagged) -> None:
        self.tags.append(tagged.tag)


@attrs.define
class Creating:
    id: str
    tags: list[str]

    @classmethod
    def create(cls, begun: Begun, event: Event) -> "Creating":
        return cls(event.stream_id, event.data.tags)

    def apply_tagged(self, tagged: Tagged) -> None:
        self.tags.append(tagged.tag)


@attrs.define
class Evolving:
    id: str
    tags: list[str]

    @staticmethod
    def evolve(state: "Evolving | None", event: Begun | Tagged) -> "Evolving":
        if isinstance(event, Begun):
            return Evolving("a", event.tags)
        state.tags.append(event.tag)
        return state


@attrs.define
class Holding:
    id: str
    last: Counted | None = None

    def apply(self, counted: Counted) -> None:
        if self.last is not None:
            self.last.number += counted.number
        else:
            self.last = counted


@pytest.mark.parametrize("aggregate", [Applying, Creating, Evolving])
def test_an_event_that_is_folded_again_says_the_same(stream_of, aggregate):
    stream = stream_of("a", Begun(["x"]), Tagged("y"))
    rule = aggregate_rule(aggregate)
    assert rule.fold(None, stream).tags == ["x", "y"]
    assert stream.events[0].data == Begun(["x"])
    assert rule.fold(None, stream).tags == ["x", "y"]


def test_two_documents_that_took_the_same_list_have_one_each(stream_of):
    first, second = stream_of("a", Begun(["x"])), stream_of("a", Tagged("y"))
    rule = aggregate_rule(Applying)
    one, other = rule.fold(None, first), rule.fold(None, first)
    rule.fold(one, second)
    assert (one.tags, other.tags) == (["x", "y"], ["x"])


def test_an_event_that_is_not_frozen_is_not_shared_either(stream_of):
    stream = stream_of("a", Counted(1), Counted(2))
    rule = aggregate_rule(Holding)
    assert [rule.fold(None, stream).last.number for _ in range(2)] == [3, 3]


def test_an_event_that_can_not_be_changed_is_handed_over_as_it_is(stream_of):
    taken = []

    @attrs.define
    class Keeping:
        id: str

        def apply(self, tagged: Tagged) -> None:
            taken.append(tagged)

    stream = stream_of("a", Tagged("x"))
    aggregate_rule(Keeping).fold(None, stream)
    assert taken[0] is stream.events[0].data


# -- which types can't be changed --------------------------------------------------------------------

Number = NewType("Number", int)


class Colour(Enum):
    RED = "red"


@attrs.frozen
class Frozen:
    name: str
    many: tuple[Decimal, ...] = ()
    some: frozenset[UUID] = frozenset()
    maybe: datetime | None = None
    number: Number = Number(0)
    colour: Colour = Colour.RED
    word: Literal["a", "b"] = "a"
    noted: Annotated[int, "positive"] = 1
    inner: "Frozen | None" = None


@dataclasses.dataclass(frozen=True)
class FrozenData:
    inner: Frozen


class FrozenStruct(msgspec.Struct, frozen=True):
    name: str


@dataclasses.dataclass
class OpenData:
    name: str


class OpenStruct(msgspec.Struct):
    name: str


@attrs.frozen
class Nested:
    inner: tuple[OpenData, ...]


@attrs.frozen
class Anything:
    value: Any


@attrs.frozen
class Unresolved:
    value: "NotThere"  # noqa: F821


@pytest.mark.parametrize("kind", [str, Frozen, FrozenData, FrozenStruct, Tagged, Colour, Number])
def test_types_that_can_not_be_changed(kind):
    assert is_settled(kind)


@pytest.mark.parametrize(
    "kind",
    [
        Begun,
        Counted,
        OpenData,
        OpenStruct,
        Nested,
        Anything,
        Unresolved,
        list,
        dict[str, int],
        tuple,
    ],
)
def test_types_that_can(kind):
    assert not is_settled(kind)


@attrs.define
class Loose:
    id: str
    value: Any = None

    def apply(self, tagged: Tagged) -> None:
        self.value["tags"].append(tagged.tag)


def test_a_compacted_state_is_restored_anew_each_time(stream_of):
    compacted = EventCodec(EventRegistry()).compacted(Loose("a", {"tags": ["x"]}))
    stream = stream_of("a", compacted, Tagged("y"))
    rule = aggregate_rule(Loose)
    assert [rule.fold(None, stream).value for _ in range(2)] == [{"tags": ["x", "y"]}] * 2
    assert compacted.state["value"] == {"tags": ["x"]}
