"""Progress commits with its effects, guarded by where it stood."""

from functools import partial
from uuid import UUID, uuid4

import attrs
import pytest
import trio

from flowstore.errors import (
    DatabaseError,
    FlowstoreError,
    ProgressConflictError,
    UnknownProjectionError,
)
from flowstore.events import DeadLetter
from flowstore.projections import AsyncOptions


@attrs.frozen
class Happened:
    pass


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
    version: int = 1

    def apply(self, session, streams):
        raise NotImplementedError


@attrs.define
class Card:
    id: UUID


@attrs.define
class Sheet:
    id: int


IDENTITIES = {Note: str, Card: lambda number: UUID(int=number), Sheet: lambda number: number}

FEW_OR_MANY = pytest.mark.parametrize("count", [1, 100, 101])
"""Up to a hundred documents are written in one statement with the progress, more in their own."""


@pytest.fixture
def options(options):
    options.projections.add(Notes())
    return options


async def commit(store, floor, ceiling, *documents, shard="Notes", **more):
    unit = store.projection_session()
    unit.store(*documents)
    await store.commit_batch(unit, shard=shard, floor=floor, ceiling=ceiling, **more)


async def test_progress_is_0_before_the_first_commit(store):
    assert await store.progress("Notes") == 0


async def test_documents_and_progress_commit_together(store):
    await commit(store, 0, 5, Note("a"))
    await commit(store, 5, 7, Note("b"))
    assert await store.progress("Notes") == 7
    assert len(await store.session().load_many(Note, "ab")) == 2


@FEW_OR_MANY
@pytest.mark.parametrize("kind", [Note, Card, Sheet])
async def test_a_pages_documents_are_written_and_written_again(store, kind, count):
    ids = [IDENTITIES[kind](number) for number in range(count)]
    await commit(store, 0, 5, *map(kind, ids))
    await commit(store, 5, 7, *map(kind, reversed(ids)))
    assert await store.progress("Notes") == 7
    assert await store.session().load_many(kind, ids) == [*map(kind, ids)]


@FEW_OR_MANY
async def test_of_a_page_whose_floor_is_wrong_no_document_is_written(store, count):
    await commit(store, 0, 5, *[Note(str(number), "first") for number in range(count)])
    with pytest.raises(ProgressConflictError):
        await commit(store, 4, 9, *[Note(str(number), "second") for number in range(count)])
    found = await store.session().load_many(Note, [str(number) for number in range(count)])
    assert {note.text for note in found} == {"first"}


@FEW_OR_MANY
async def test_a_page_locks_no_document_before_the_progress(store, schema, count):
    """Whoever is behind somebody else at a shard keeps nobody from its documents."""
    notes = [Note(str(number)) for number in range(count)]
    await commit(store, 0, 5, *notes)
    async with (
        store.connection() as holder,
        store.connection() as other,
        trio.open_nursery() as nursery,
        holder.transaction(),
    ):
        await holder.execute(f"select from {schema}.progress where shard = 'Notes' for update")
        nursery.start_soon(partial(commit, store, 5, 6, *notes))
        await blocked(other, holder)
        cursor = await other.execute(f"select id from {schema}.doc_note for update nowait")
        assert len(await cursor.fetchall()) == count
    assert await store.progress("Notes") == 6


async def blocked(connection, holder):
    """Wait until somebody waits for what a connection has locked."""
    query = "select count(*) from pg_stat_activity where %s = any (pg_blocking_pids(pid))"
    with trio.fail_after(20):
        while True:
            cursor = await connection.execute(query, (holder.info.backend_pid,))
            if (await cursor.fetchone())[0]:
                return
            await trio.sleep(0.01)


@FEW_OR_MANY
async def test_a_document_that_is_refused_keeps_progress_where_it_was(store, count):
    await commit(store, 0, 5, Note("a"))
    async with store.connection() as connection:
        await connection.execute(
            f"alter table {store.options.schema}.doc_note add check (data->>'text' <> 'refused')"
        )
    notes = [Note(str(number), "refused") for number in range(count)]
    with pytest.raises(DatabaseError):
        await commit(store, 5, 6, *notes)
    assert await store.progress("Notes") == 5


async def test_what_is_stored_and_deleted_in_one_page_is_done_in_order(store):
    await commit(store, 0, 5, Note("a"), Note("b"), Note("c"))
    unit = store.projection_session()
    unit.store(Note("a", "again"))
    unit.delete_by_id(Note, "b")
    unit.store(Card(uuid4()))
    await store.commit_batch(unit, shard="Notes", floor=5, ceiling=6)
    found = await store.session().load_many(Note, "abc")
    assert found == [Note("a", "again"), Note("c")]


@pytest.mark.parametrize("name", ["Notes", Notes, Note, Notes(), Notes(name="Notes")])
async def test_a_projection_answers_to_its_name_type_and_class(store, name):
    await commit(store, 0, 5)
    assert await store.progress(name) == 5


async def test_an_unknown_projection_lists_the_known(store):
    with pytest.raises(UnknownProjectionError, match="'Notes'"):
        await store.progress("Nots")


@pytest.mark.parametrize("floor", [0, 4, 6])
async def test_whoever_stands_elsewhere_commits_nothing(store, floor):
    await commit(store, 0, 5)
    with pytest.raises(ProgressConflictError) as caught:
        await commit(store, floor, 9, Note("a"), dead_letters=[DeadLetter("Notes", 6, "E", "m")])
    assert (caught.value.shard, caught.value.expected, caught.value.found) == ("Notes", floor, 5)
    assert await store.progress("Notes") == 5
    assert await store.session().load(Note, "a") is None
    assert await store.dead_letters() == []


async def test_a_shard_without_progress_stands_at_0(store):
    with pytest.raises(ProgressConflictError) as caught:
        await commit(store, 3, 9, Note("a"))
    assert caught.value.found == 0
    assert await store.progress("Notes") == 0


async def test_of_two_owners_one_wins_each_page(store):
    won = []

    async def own(name):
        floor = 0
        while floor < 20:
            try:
                await commit(store, floor, floor + 1, Note(str(floor), name))
            except ProgressConflictError as conflict:
                floor = conflict.found
            else:
                floor += 1
                won.append(floor)

    async with trio.open_nursery() as nursery:
        for name in "abc":
            nursery.start_soon(own, name)
    assert sorted(won) == list(range(1, 21))
    assert await store.progress("Notes") == 20


async def test_a_failing_statement_keeps_progress_where_it_was(store):
    unit = store.projection_session()
    unit.store(Note("a"))
    unit.execute("select 1/0")
    with pytest.raises(DatabaseError):
        await store.commit_batch(unit, shard="Notes", floor=0, ceiling=5)
    assert await store.progress("Notes") == 0
    assert await store.session().load(Note, "a") is None


async def test_a_deferred_constraint_keeps_progress_where_it_was(store, schema):
    async with store.connection() as connection:
        await connection.execute(
            f"create table {schema}.flat (a int, unique (a) deferrable initially deferred)"
        )
    unit = store.projection_session()
    for _ in range(2):
        unit.execute(f"insert into {schema}.flat values (1)")
    with pytest.raises(DatabaseError) as caught:
        await store.commit_batch(unit, shard="Notes", floor=0, ceiling=5)
    assert caught.value.sqlstate == "23505"
    assert await store.progress("Notes") == 0
    await commit(store, 0, 5)


async def test_a_projections_session_does_not_commit_by_itself(store):
    with pytest.raises(FlowstoreError, match="save_changes"):
        await store.projection_session().save_changes()


@pytest.mark.parametrize("rebuilding", [True, False])
async def test_callbacks_are_called_after_the_commit_but_not_in_a_rebuild(store, rebuilding):
    called = []
    unit = store.projection_session()
    unit.after_commit(lambda: called.append(1))
    await store.commit_batch(unit, shard="Notes", floor=0, ceiling=1, rebuilding=rebuilding)
    assert called == [] if rebuilding else [1]


async def test_dead_letters_are_kept_until_they_are_discarded(store):
    first = DeadLetter("Notes", 3, "ValueError", 'a "quoted" \\ message', "where\nfrom")
    second = DeadLetter("Other", 2, "ValueError", "nul \0 and \ud800", "")
    await commit(store, 0, 5, dead_letters=[first])
    await commit(store, 0, 5, shard="Other", dead_letters=[second])
    assert await store.dead_letters("Notes") == [first]
    letters = await store.dead_letters()
    assert [letter.message for letter in letters] == [first.message, "nul \\0 and ?"]
    await store.discard_dead_letter(first)
    await store.discard_dead_letter(first)
    assert len(await store.dead_letters()) == 1


async def test_teardown_takes_a_projection_back_to_nothing_and_leaves_others_alone(store):
    await commit(store, 0, 5, Note("a"), dead_letters=[DeadLetter("Notes", 1, "E", "m")])
    await commit(store, 0, 7, shard="Other", dead_letters=[DeadLetter("Other", 1, "E", "m")])
    await store.teardown(Notes())
    assert await store.progress("Notes") == 0
    assert await store.session().find(Note) == []
    assert [letter.shard for letter in await store.dead_letters()] == ["Other"]


async def test_teardown_lets_a_projection_delete_what_it_wrote_by_sql(store, schema):
    @attrs.define
    class Flat(Notes):
        name: str = "Flat"
        produces: type | None = None

        async def teardown(self, session):
            session.execute(f"delete from {schema}.flat where a = %s", 1)

    async with store.connection() as connection:
        await connection.execute(f"create table {schema}.flat (a int)")
        await connection.execute(f"insert into {schema}.flat values (1), (2)")
        await store.teardown(Flat())
        cursor = await connection.execute(f"select a from {schema}.flat")
        assert await cursor.fetchall() == [(2,)]
