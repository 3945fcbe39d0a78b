"""Applying what was set aside once more."""

from uuid import UUID, uuid4

import attrs
import pytest

from flowstore.errors import InvalidEventError, UnknownProjectionError
from flowstore.events import DeadLetter
from flowstore.projections import AsyncOptions


@attrs.frozen
class Happened:
    what: str


@attrs.define
class Note:
    id: UUID
    text: str = ""


@attrs.define
class Notes:
    """Keeps a note for each stream, and fails while it is broken."""

    name: str = "Notes"
    consumes: tuple = (Happened,)
    produces: type | None = Note
    async_options: AsyncOptions = attrs.field(factory=AsyncOptions)
    broken: bool = False
    committed: list = attrs.field(factory=list)

    async def apply(self, session, streams):
        for stream in streams:
            note = await session.load(Note, stream.id) or Note(stream.id)
            note.text += "".join(event.data.what for event in stream.events)
            session.store(note)
            session.after_commit(lambda: self.committed.append(1))
        if self.broken:
            raise ValueError("broken")


@pytest.fixture
def notes():
    return Notes()


@pytest.fixture
def options(options, notes):
    options.projections.add(notes)
    return options


@pytest.fixture
async def stream_id(store):
    """A stream whose second event was set aside."""
    stream_id = uuid4()
    async with store.session() as session:
        session.events.append(stream_id, *map(Happened, "abc"))
        await session.save_changes()
    unit = store.projection_session()
    unit.store(Note(stream_id, "ac"))
    letter = DeadLetter("Notes", 2, "ValueError", "broken")
    await store.commit_batch(unit, shard="Notes", floor=0, ceiling=3, dead_letters=[letter])
    return stream_id


async def retry(store):
    (letter,) = await store.dead_letters("Notes")
    await store.retry_dead_letter(letter)
    return letter


async def text_of(store, stream_id):
    return (await store.session().load(Note, stream_id)).text


async def test_the_event_is_applied_and_the_letter_is_gone(store, stream_id, notes):
    await retry(store)
    assert await text_of(store, stream_id) == "acb"
    assert await store.dead_letters() == []
    assert await store.progress("Notes") == 3
    assert notes.committed == [1]


async def test_a_projection_that_fails_again_keeps_the_letter(store, stream_id, notes):
    notes.broken = True
    with pytest.raises(ValueError, match="broken"):
        await retry(store)
    assert await text_of(store, stream_id) == "ac"
    assert len(await store.dead_letters()) == 1
    assert notes.committed == []


async def test_a_letter_that_is_gone_applies_nothing(store, stream_id):
    letter = await retry(store)
    await store.retry_dead_letter(letter)
    assert await text_of(store, stream_id) == "acb"


async def test_an_event_that_is_to_be_skipped_is_not_applied(store, stream_id):
    _, second, _ = await store.session().events.fetch_stream(stream_id)
    await store.skip_event(second.id)
    await retry(store)
    assert await text_of(store, stream_id) == "ac"
    assert await store.dead_letters() == []


async def test_an_event_that_is_gone_is_told(store, stream_id):
    letter = DeadLetter("Notes", 99, "ValueError", "broken")
    unit = store.projection_session()
    await store.commit_batch(unit, shard="Notes", floor=3, ceiling=4, dead_letters=[letter])
    with pytest.raises(InvalidEventError, match="99"):
        await store.retry_dead_letter(letter)
    assert letter in await store.dead_letters()


async def test_an_unknown_projection_is_named(store):
    with pytest.raises(UnknownProjectionError, match="Nobody"):
        await store.retry_dead_letter(DeadLetter("Nobody", 1, "E", "m"))
