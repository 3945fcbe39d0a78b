"""Text that PostgreSQL can't keep is refused as an event that can't be stored, before it is sent."""

from uuid import UUID

import attrs
import pytest

from flowstore.errors import InvalidEventError
from flowstore.events import Event, NewEvent

UNSTORABLE = ["\ud800", "a\udfffb", "nul\0"]


@attrs.frozen
class Happened:
    what: str = ""


@pytest.mark.parametrize("text", UNSTORABLE)
async def test_an_identity_of_text(opening, text):
    async with opening(stream_identity="string") as store, store.session() as session:
        for verb in (session.events.append, session.events.start_stream):
            with pytest.raises(InvalidEventError, match="identity"):
                verb(text, Happened())
        with pytest.raises(InvalidEventError, match="identity"):
            await session.events.fetch_stream(text)
        with pytest.raises(InvalidEventError, match="identity"):
            await store.import_events([(text, Happened())])
        with pytest.raises(InvalidEventError, match="identity"):
            await store.mask_stream(text)
        assert session.events.pending == ()


@pytest.mark.parametrize("text", [*UNSTORABLE, 7])
@pytest.mark.parametrize("name", ["correlation_id", "causation_id", "user_name"])
async def test_what_a_session_says_about_its_events(store, name, text):
    with pytest.raises(InvalidEventError, match=name):
        store.session(**{name: text}).events.append(UUID(int=1), Happened())


@pytest.mark.parametrize("text", [*UNSTORABLE, 7])
@pytest.mark.parametrize("name", ["correlation_id", "causation_id"])
async def test_what_an_event_says_about_itself(store, name, text):
    event = NewEvent(Happened(), **{name: text})
    with pytest.raises(InvalidEventError, match=name):
        store.session().events.append(UUID(int=1), event)
    with pytest.raises(InvalidEventError, match=name):
        await store.import_events([(UUID(int=1), event)])
    assert await store.highest_sequence() == 0


@pytest.mark.parametrize("text", UNSTORABLE)
async def test_what_a_recorded_event_says_about_itself(store, text):
    async with store.session() as session:
        action = session.events.append(UUID(int=1), Happened())
        await session.save_changes()
    (event,) = action.events
    assert isinstance(event, Event)
    for name in ("correlation_id", "causation_id", "user_name"):
        changed = attrs.evolve(event, **{name: text})
        with pytest.raises(InvalidEventError, match=name):
            await store.import_events([(UUID(int=2), changed)])


@pytest.mark.parametrize("text", UNSTORABLE)
async def test_a_streams_type(store, text):
    with pytest.raises(InvalidEventError, match="stream_type"):
        store.session().events.start_stream(UUID(int=1), Happened(), stream_type=text)


async def test_text_beyond_ascii_is_kept(store):
    session = store.session(correlation_id="zusammengehörig 😀", user_name="Zoë")
    session.events.append(UUID(int=1), Happened())
    await session.save_changes()
    (event,) = await store.session().events.fetch_stream(UUID(int=1))
    assert (event.correlation_id, event.user_name) == ("zusammengehörig 😀", "Zoë")
