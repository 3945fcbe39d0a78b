"""What is wrong with a projection is found at registration, by class and method."""

import abc
from collections.abc import Iterator
from typing import Any, Protocol

import attrs
import pytest

from flowstore.errors import RegistrationError
from flowstore.events import Event
from flowstore.projections import Projections, aggregate_rule, transform_projection


@attrs.frozen
class Opened:
    pass


@attrs.frozen
class Closed:
    pass


class AbstractEvent(abc.ABC):
    @abc.abstractmethod
    def what(self) -> str: ...


class EventProtocol(Protocol):
    number: int


class Base:
    def __init__(self, id: str) -> None:  # noqa: A002  # the field is called so
        self.id = id


class NoHandlers(Base):
    def other(self, event: Opened) -> None: ...


class OnlyDeletes(Base):
    def should_delete(self, _: Opened) -> bool:
        return True


class Unannotated(Base):
    def apply_it(self, event) -> None: ...


class NoEvent(Base):
    def apply_it(self) -> None: ...


class KeywordEvent(Base):
    def apply_it(self, *, event: Opened) -> None: ...


class Unresolvable(Base):
    def apply_it(self, event: "Nowhere") -> None: ...  # noqa: F821  # the point


class TakesAny(Base):
    def apply_it(self, event: Any) -> None: ...


class TakesObject(Base):
    def apply_it(self, event: object) -> None: ...


class TakesOptional(Base):
    def apply_it(self, event: Opened | None) -> None: ...


class TakesListOf(Base):
    def apply_it(self, event: list[Opened]) -> None: ...


class TakesInstance(Base):
    def apply_it(self, event: 3) -> None: ...


class TakesEnvelope(Base):
    def apply_it(self, event: Event) -> None: ...


class TakesAbstract(Base):
    def apply_it(self, event: AbstractEvent) -> None: ...


class TakesProtocol(Base):
    def apply_it(self, event: EventProtocol) -> None: ...


class NeedsMore(Base):
    def apply_it(self, event: Opened, more: int) -> None: ...


class NeedsThree(Base):
    def apply_it(self, event: Opened, envelope: Event, more: int) -> None: ...


class Async(Base):
    async def apply_it(self, event: Opened) -> None: ...


class Generator(Base):
    def apply_it(self, event: Opened) -> Iterator[int]:
        yield 1


class StaticApply(Base):
    @staticmethod
    def apply_it(event: Opened) -> None: ...


class ClassApply(Base):
    @classmethod
    def apply_it(cls, event: Opened) -> None: ...


class ClassDelete(Base):
    def apply_it(self, event: Opened) -> None: ...

    @classmethod
    def should_delete_it(cls, event: Opened) -> bool: ...


class MethodCreate(Base):
    def create_it(self, event: Opened) -> None: ...


class ClassEvolve(Base):
    @classmethod
    def evolve(cls, event: Opened) -> None: ...


class TwoApply(Base):
    def apply_one(self, event: Opened) -> None: ...

    def apply_two(self, event: Closed | Opened) -> None: ...


class TwoCreate(Base):
    @classmethod
    def create_one(cls, event: Opened) -> Any: ...

    @classmethod
    def create_two(cls, event: Opened) -> Any: ...


class TwoDelete(Base):
    def apply_one(self, event: Opened) -> None: ...

    def should_delete_one(self, event: Opened) -> bool: ...

    def should_delete_two(self, event: Opened) -> bool: ...


class ApplyAndEvolve(Base):
    def apply_one(self, event: Opened) -> None: ...

    def evolve(self, event: Opened) -> Any: ...


@attrs.define
class NoId:
    name: str = ""

    def apply_it(self, event: Opened) -> None: ...


@attrs.define
class NotConstructible:
    id: str
    title: str

    def apply_it(self, event: Opened) -> None: ...


@attrs.define
class IdNotGiven:
    id: str = attrs.field(init=False)

    def apply_it(self, event: Opened) -> None: ...


@pytest.mark.parametrize(
    ("aggregate", "words"),
    [
        (NoHandlers, ["NoHandlers", "no handlers"]),
        (OnlyDeletes, ["OnlyDeletes", "no handlers"]),
        (Unannotated, ["Unannotated.apply_it", "annotate 'event'"]),
        (NoEvent, ["NoEvent.apply_it", "takes no event"]),
        (KeywordEvent, ["KeywordEvent.apply_it", "takes no event"]),
        (Unresolvable, ["Unresolvable.apply_it", "'Nowhere' is not defined"]),
        (TakesAny, ["TakesAny.apply_it", "Any", "isn't a class"]),
        (TakesObject, ["TakesObject.apply_it", "object", "no event type"]),
        (TakesOptional, ["TakesOptional.apply_it", "NoneType"]),
        (TakesListOf, ["TakesListOf.apply_it", "isn't a class"]),
        (TakesInstance, ["TakesInstance.apply_it"]),
        (TakesEnvelope, ["TakesEnvelope.apply_it", "takes Event first"]),
        (TakesAbstract, ["TakesAbstract.apply_it", "AbstractEvent", "no instances"]),
        (TakesProtocol, ["TakesProtocol.apply_it", "EventProtocol", "no instances"]),
        (NeedsMore, ["NeedsMore.apply_it", "needs 'more'"]),
        (NeedsThree, ["NeedsThree.apply_it", "needs 'more'"]),
        (Async, ["Async.apply_it", "is async"]),
        (Generator, ["Generator.apply_it", "generator"]),
        (StaticApply, ["StaticApply.apply_it", "make it a method"]),
        (ClassApply, ["ClassApply.apply_it", "make it a method"]),
        (ClassDelete, ["ClassDelete.should_delete_it", "make it a method"]),
        (MethodCreate, ["MethodCreate.create_it", "@classmethod"]),
        (ClassEvolve, ["ClassEvolve.evolve", "@staticmethod"]),
        (TwoApply, ["TwoApply.apply_one", "TwoApply.apply_two", "both take Opened"]),
        (TwoCreate, ["TwoCreate.create_one", "TwoCreate.create_two", "Opened"]),
        (TwoDelete, ["TwoDelete.should_delete_one", "TwoDelete.should_delete_two"]),
        (ApplyAndEvolve, ["ApplyAndEvolve.apply_one", "ApplyAndEvolve.evolve"]),
        (NoId, ["NoId", "no field 'id'"]),
        (NotConstructible, ["NotConstructible", "apply_it", "lacks 'title'"]),
        (IdNotGiven, ["IdNotGiven", "takes no id"]),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_an_aggregate_that_cannot_be_folded_is_refused(aggregate, words):
    projections = Projections()
    with pytest.raises(RegistrationError) as caught:
        projections.aggregate_streams_with(aggregate)
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert len(projections) == 0


def test_an_aggregate_that_only_creates_needs_nothing_but_an_id():
    @attrs.define
    class Snapshot:
        id: str
        title: str

        @classmethod
        def create(cls, _: Opened) -> "Snapshot":
            return cls("", "")

    assert aggregate_rule(Snapshot).consumes == (Opened,)


@attrs.frozen
class Entry:
    id: str


def no_annotation(event) -> Entry: ...


def no_return(event: Opened): ...


def returns_nothing(event: Opened) -> None: ...


def returns_two(event: Opened) -> Entry | Opened: ...


def returns_no_document(event: Opened) -> Closed: ...


async def waits(event: Opened) -> Entry: ...


class NoTransforms:
    def other(self, event: Opened) -> Entry: ...


class TwoTransforms:
    def transform_a(self, event: Opened) -> Entry: ...

    def transform_b(self, event: Opened) -> Entry: ...


class TwoDocuments:
    def transform_a(self, event: Opened) -> Entry: ...

    def transform_b(self, event: Closed) -> Base: ...


class NeedsArguments:
    def __init__(self, needed: int) -> None: ...

    def transform(self, event: Opened) -> Entry: ...


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (no_annotation, ["no_annotation", "annotate 'event'"]),
        (no_return, ["no_return", "what it makes"]),
        (returns_nothing, ["returns_nothing", "what it makes"]),
        (returns_two, ["returns_two", "one document type"]),
        (returns_no_document, ["returns_no_document", "Closed", "no field 'id'"]),
        (waits, ["waits", "is async"]),
        (NoTransforms, ["NoTransforms", "no handlers"]),
        (TwoTransforms, ["TwoTransforms.transform_b", "Opened"]),
        (TwoDocuments, ["TwoDocuments", "Entry", "Base"]),
        (NeedsArguments, ["NeedsArguments", "without arguments"]),
        (lambda event: event, ["<lambda>", "annotate 'event'"]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_transform_that_cannot_work_is_refused(source, words):
    with pytest.raises(RegistrationError) as caught:
        transform_projection(source)
    assert all(word in str(caught.value) for word in words), str(caught.value)
