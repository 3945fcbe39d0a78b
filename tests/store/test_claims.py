"""A shard has one owner: whoever claimed it last."""

from uuid import uuid4

import attrs
import pytest
import trio

from flowstore.errors import ProgressConflictError, ShardEditedError
from flowstore.events import DeadLetter
from flowstore.projections import AsyncOptions
from flowstore.store import open_event_store
from flowstore.testing import MemoryStore


@attrs.frozen
class Happened:
    what: str = ""


@attrs.define
class Note:
    id: str
    text: str = ""


@attrs.define
class Notes:
    name: str = "Notes"
    consumes: tuple = (Happened,)
    produces: type | None = Note
    async_options: AsyncOptions = attrs.field(factory=AsyncOptions)

    async def apply(self, session, streams):
        note = await session.load(Note, "a") or Note("a")
        note.text += "".join(event.data.what for stream in streams for event in stream.events)
        session.store(note)


NOTES = Notes()


@pytest.fixture
def options(options):
    options.projections.add(NOTES)
    return options


@pytest.fixture(params=["postgres", "memory"])
async def store(request, pg_dsn, options):
    if request.param == "memory":
        yield MemoryStore(options)
    else:
        async with open_event_store(pg_dsn, options) as opened:
            yield opened


async def commit(store, claim, floor, ceiling, *documents, **more):
    unit = store.projection_session()
    unit.store(*documents)
    await store.commit_batch(unit, shard="Notes", floor=floor, ceiling=ceiling, claim=claim, **more)


async def test_a_claim_tells_where_the_shard_stands(store):
    first = await store.claim(NOTES)
    assert (first.sequence, first.started) == (0, False)
    await commit(store, first, 0, 5)
    second = await store.claim(NOTES)
    assert (second.sequence, second.started) == (5, True)
    assert second.epoch > first.epoch


async def test_a_claim_is_no_progress(store):
    await store.claim(NOTES)
    assert await store.progress("Notes") == 0


async def test_a_shard_that_was_brought_to_0_has_a_place(store):
    await commit(store, await store.claim(NOTES), 0, 0)
    standing = await store.standing(NOTES)
    assert (standing.sequence, standing.started) == (0, True)


async def test_a_shard_that_nobody_knows_stands_nowhere(store):
    standing = await store.standing(NOTES)
    assert (standing.sequence, standing.started, standing.edits) == (0, False, 0)


async def test_an_owners_commits_follow_each_other(store):
    claim = await store.claim(NOTES)
    await commit(store, claim, 0, 5, Note("a"))
    await commit(store, claim, 5, 9, Note("b"))
    assert await store.progress("Notes") == 9


async def test_a_stale_owners_commit_fails_after_another_claimed(store):
    stale = await store.claim(NOTES)
    await commit(store, stale, 0, 5)
    owner = await store.claim(NOTES)
    with pytest.raises(ProgressConflictError, match="not this owner's any more") as caught:
        await commit(store, stale, 5, 9, Note("a"), dead_letters=[DeadLetter("Notes", 6, "E", "")])
    assert (caught.value.expected, caught.value.found) == (5, 5)
    assert await store.session().load(Note, "a") is None
    assert await store.dead_letters() == []
    await commit(store, owner, 5, 9)


async def test_a_stale_owners_first_commit_fails_too(store):
    stale = await store.claim(NOTES)
    await store.claim(NOTES)
    with pytest.raises(ProgressConflictError):
        await commit(store, stale, 0, 9, Note("a"))
    assert await store.progress("Notes") == 0


@pytest.mark.parametrize("place", [0, 5])
async def test_an_owner_is_stale_after_a_rewind_to_the_very_place_it_stands_at(store, place):
    stale = await store.claim(NOTES)
    await commit(store, stale, 0, place)
    await store.rewind(NOTES, place)
    with pytest.raises(ProgressConflictError):
        await commit(store, stale, place, 9, Note("a"))
    assert await store.progress("Notes") == place


async def test_an_owner_is_stale_after_a_teardown(store):
    stale = await store.claim(NOTES)
    await store.teardown(NOTES)
    with pytest.raises(ProgressConflictError):
        await commit(store, stale, 0, 9, Note("a"))


async def test_looking_where_a_shard_stands_takes_it_from_nobody(store):
    owner = await store.claim(NOTES)
    assert await store.standing(NOTES) == owner
    await commit(store, owner, 0, 9)


async def test_epochs_never_come_again(store):
    seen = []
    for _ in range(3):
        seen.append((await store.claim(NOTES)).epoch)
        await store.teardown(NOTES)
        seen.append((await store.claim(NOTES)).epoch)
        await store.rewind(NOTES, 0)
    assert seen == sorted(set(seen))


async def test_a_rewind_gives_a_place_and_forgets_the_letters_above(store):
    letters = [DeadLetter("Notes", place, "E", "m") for place in (3, 4, 5)]
    await commit(store, None, 0, 9, Note("a"), dead_letters=letters)
    await store.rewind(NOTES, 4)
    assert await store.progress("Notes") == 4
    assert [letter.sequence for letter in await store.dead_letters()] == [3, 4]
    assert await store.session().load(Note, "a") == Note("a")


async def test_a_rewind_of_a_shard_that_never_ran_gives_it_a_place(store):
    await store.rewind(NOTES, 0)
    assert (await store.standing(NOTES)).started


@pytest.mark.parametrize(
    ("place", "expected"), [(None, (0, False)), (0, (0, True)), (7, (7, True))]
)
async def test_a_teardown_leaves_the_place_that_it_is_told(store, place, expected):
    await commit(store, None, 0, 9)
    await store.teardown(NOTES, place=place)
    standing = await store.standing(NOTES)
    assert (standing.sequence, standing.started) == expected


async def test_without_a_claim_the_floor_alone_decides(store):
    owner = await store.claim(NOTES)
    await commit(store, None, 0, 5)
    await commit(store, attrs.evolve(await store.standing(NOTES), epoch=None), 5, 6)
    with pytest.raises(ProgressConflictError):
        await commit(store, owner, 0, 5)


async def test_of_many_owners_at_once_the_last_one_commits(store):
    claims = []

    async def claim():
        claims.append(await store.claim(NOTES))

    async with trio.open_nursery() as nursery:
        for _ in range(6):
            nursery.start_soon(claim)
    *stale, owner = sorted(claims, key=lambda each: each.epoch)
    assert len({each.epoch for each in claims}) == 6
    for each in stale:
        with pytest.raises(ProgressConflictError):
            await commit(store, each, 0, 1)
    await commit(store, owner, 0, 1)


# -- beside a retried letter --


@pytest.fixture
async def letter(store):
    """The second of three events, set aside, while the note has the other two."""
    async with store.session() as session:
        session.events.append(uuid4(), *map(Happened, "abc"))
        await session.save_changes()
    letter = DeadLetter("Notes", 2, "ValueError", "broken")
    await commit(store, None, 0, 3, Note("a", "ac"), dead_letters=[letter])
    return letter


@pytest.mark.parametrize("owned", [True, False])
async def test_a_page_begun_before_a_letter_was_retried_is_refused_as_edited(store, letter, owned):
    claim = await store.claim(NOTES)
    claim = claim if owned else attrs.evolve(claim, epoch=None)
    await store.retry_dead_letter(letter)
    with pytest.raises(ShardEditedError) as caught:
        await commit(store, claim, 3, 4, Note("a", "acd"))
    assert (caught.value.shard, caught.value.edits) == ("Notes", claim.edits + 1)
    assert (await store.session().load(Note, "a")).text == "acb"
    assert await store.progress("Notes") == 3
    await commit(store, attrs.evolve(claim, edits=caught.value.edits), 3, 4, Note("a", "acbd"))
    assert await store.progress("Notes") == 4


async def test_an_owner_that_is_stale_and_edited_is_stale(store, letter):
    stale = await store.claim(NOTES)
    await store.retry_dead_letter(letter)
    await store.claim(NOTES)
    with pytest.raises(ProgressConflictError):
        await commit(store, stale, 3, 4)


async def test_a_letter_that_is_gone_edits_nothing(store, letter):
    await store.discard_dead_letter(letter)
    claim = await store.claim(NOTES)
    await store.retry_dead_letter(letter)
    await commit(store, claim, 3, 4)
