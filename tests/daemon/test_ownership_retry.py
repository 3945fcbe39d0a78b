"""A dead letter that is retried beside a running shard: neither overwrites the other's document."""

from uuid import UUID

import attrs
import pytest
import trio

from flowstore.blocks import run
from flowstore.daemon import event_source, group_by_stream, projection_sink
from flowstore.projections import AsyncOptions

STREAM = UUID(int=1)


@attrs.frozen
class Said:
    what: str


@attrs.define
class Text:
    id: UUID
    text: str = ""


@attrs.define(eq=False, slots=False)
class Texts:
    """Joins what was said; stands still between loading and storing when told to."""

    name: str = "Texts"
    consumes: tuple = (Said,)
    produces: type | None = Text
    async_options: AsyncOptions = attrs.field(factory=AsyncOptions)
    broken: bool = True
    pause_at: str = ""
    loaded: trio.Event = attrs.field(factory=trio.Event)
    opened: trio.Event = attrs.field(factory=trio.Event)
    applied: list = attrs.field(factory=list)

    async def apply(self, session, streams):
        for stream in streams:
            said = "".join(event.data.what for event in stream.events)
            if self.broken and "b" in said:
                raise ValueError("broken")
            text = await session.load(Text, stream.id) or Text(stream.id)
            self.applied.append(said)
            if said == self.pause_at:
                self.loaded.set()
                await self.opened.wait()
            session.store(attrs.evolve(text, text=text.text + said))


@pytest.fixture
def texts():
    return Texts()


@pytest.fixture
def options(options, texts):
    options.projections.add(texts)
    return options


async def say(store, words):
    async with store.session() as session:
        session.events.append(STREAM, *map(Said, words))
        await session.save_changes()


async def text_of(store):
    return (await store.session().load(Text, STREAM)).text


@pytest.fixture
async def letter(store, texts):
    """An event that was set aside, and would succeed now."""
    await say(store, "abc")
    async with store.build_projection_daemon() as daemon:
        await daemon.start_all()
        await daemon.wait_for_non_stale_results(60)
    (letter,) = await store.dead_letters()
    assert await text_of(store) == "ac"
    texts.broken = False
    texts.applied.clear()
    return letter


async def test_a_page_that_was_loaded_before_the_retry_is_applied_again(store, texts, letter):
    texts.pause_at = "d"
    async with store.build_projection_daemon() as daemon:
        await daemon.start_all()
        await say(store, "d")
        with trio.fail_after(60):
            await texts.loaded.wait()
        await store.retry_dead_letter(letter)
        assert await text_of(store) == "acb"
        texts.opened.set()
        await daemon.wait_for_non_stale_results(60)
        assert await text_of(store) == "acbd"
        assert texts.applied == ["d", "b", "d"]
        assert daemon.statuses()[0].state == "running"
        await say(store, "e")
        await daemon.wait_for_non_stale_results(60)
    assert await text_of(store) == "acbde"
    assert texts.applied == ["d", "b", "d", "e"]
    assert await store.dead_letters() == []


async def test_a_retry_that_was_begun_before_a_page_sees_it_wait(store, texts, letter):
    texts.pause_at = "b"
    async with store.build_projection_daemon() as daemon, trio.open_nursery() as nursery:
        await daemon.start_all()
        nursery.start_soon(store.retry_dead_letter, letter)
        with trio.fail_after(60):
            await texts.loaded.wait()
        await say(store, "d")
        with trio.fail_after(60):
            while texts.applied != ["b", "d"]:  # noqa: ASYNC110 - the projection tells no event
                await trio.sleep(0.01)
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert await text_of(store) == "ac"  # the page waits for the retry
        texts.opened.set()
        await daemon.wait_for_non_stale_results(60)
    assert await text_of(store) == "acbd"
    assert texts.applied == ["b", "d", "d"]


async def test_a_retry_after_the_page_adds_to_it(store, texts, letter):
    async with store.build_projection_daemon() as daemon:
        await daemon.start_all()
        await say(store, "d")
        await daemon.wait_for_non_stale_results(60)
        await store.retry_dead_letter(letter)
        await say(store, "e")
        await daemon.wait_for_non_stale_results(60)
    assert await text_of(store) == "acdbe"


async def test_a_sink_without_a_daemon_applies_its_page_again_too(store, texts, letter):
    await say(store, "d")
    texts.pause_at = "d"
    source = event_source(store, floor=texts, follow=False)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run, source, group_by_stream(), projection_sink(store, texts))
        with trio.fail_after(60):
            await texts.loaded.wait()
        await store.retry_dead_letter(letter)
        texts.opened.set()
    assert await text_of(store) == "acbd"


async def test_an_event_is_set_aside_while_another_letter_is_retried(store, texts, letter):
    texts.async_options = AsyncOptions(page_size=1)
    failed, opened = trio.Event(), trio.Event()
    apply = texts.apply

    async def fail_once_seen(session, streams):
        if any(event.data.what == "x" for stream in streams for event in stream.events):
            failed.set()
            await opened.wait()
            raise ValueError("x")
        await apply(session, streams)

    texts.apply = fail_once_seen
    async with store.build_projection_daemon() as daemon:
        await daemon.start_all()
        await say(store, "x")
        with trio.fail_after(60):
            await failed.wait()
        await store.retry_dead_letter(letter)
        opened.set()
        await daemon.wait_for_non_stale_results(60)
        assert daemon.statuses()[0].state == "running"
    assert await text_of(store) == "acb"
    assert [each.sequence for each in await store.dead_letters()] == [4]
