"""A transform makes one document of one event."""

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowstore.errors import RegistrationError
from flowstore.events import Event, group_by_stream_id
from flowstore.projections import IProjection, apply_projection, transform_projection


@attrs.frozen
class Opened:
    number: int


@attrs.frozen
class Closed:
    number: int


@attrs.frozen
class Entry:
    id: int
    text: str


def entry(event: Opened | Closed, envelope: Event) -> Entry | None:
    if event.number < 0:
        return None
    return Entry(event.number, f"{type(event).__name__} at {envelope.sequence}")


async def documents_of(source, session, *streams):
    await apply_projection(transform_projection(source), session, streams)
    return {key: document.text for (_, key), document in session.documents.items()}


async def test_each_event_makes_a_document(stream_of, memory_session):
    stream = stream_of("a", Opened(5), Closed(6))
    made = await documents_of(entry, memory_session(), stream)
    assert made == {5: "Opened at 1", 6: "Closed at 2"}


async def test_none_writes_nothing(stream_of, memory_session):
    assert await documents_of(entry, memory_session(), stream_of("a", Opened(-1))) == {}


async def test_events_of_other_types_are_passed_over(stream_of, memory_session):
    assert await documents_of(entry, memory_session(), stream_of("a", Entry(1, ""))) == {}


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 2)), max_size=20))
async def test_the_last_event_in_the_store_wins(stream_of, memory_session, happened):
    events = [
        attrs.evolve(stream_of(stream_id, Opened(number)).events[0], sequence=sequence)
        for sequence, (stream_id, number) in enumerate(happened, 1)
    ]
    made = await documents_of(entry, memory_session(), *group_by_stream_id(events))
    last = {number: sequence for sequence, (_, number) in enumerate(happened, 1)}
    assert made == {number: f"Opened at {sequence}" for number, sequence in last.items()}


class Entries:
    def __init__(self, prefix: str = "no") -> None:
        self.prefix = prefix

    def transform_opened(self, event: Opened) -> Entry:
        return Entry(event.number, f"{self.prefix} opened")

    @staticmethod
    def transform_closed(event: Closed) -> Entry | None:
        return Entry(event.number, "closed")

    def other(self, event: str) -> str:
        return event


async def test_a_class_gathers_several_transforms(stream_of, memory_session):
    stream = stream_of("a", Opened(1), Closed(2))
    assert await documents_of(Entries, memory_session(), stream) == {1: "no opened", 2: "closed"}


async def test_an_instance_keeps_what_it_was_made_with(stream_of, memory_session):
    made = await documents_of(Entries("well"), memory_session(), stream_of("a", Opened(1)))
    assert made == {1: "well opened"}


def test_the_annotations_say_what_it_consumes_and_produces():
    projection = transform_projection(entry)
    assert isinstance(projection, IProjection)
    assert (projection.name, projection.consumes) == ("entry", (Opened, Closed))
    assert projection.produces is Entry


async def test_a_document_of_another_type_is_refused(stream_of, memory_session):
    def liar(event: Opened) -> Entry:
        return event  # pyright: ignore[reportReturnType]  # the point

    with pytest.raises(RegistrationError, match=r"'liar' made Opened\(number=1\)"):
        await documents_of(liar, memory_session(), stream_of("a", Opened(1)))
