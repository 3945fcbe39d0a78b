"""Pages that are folded and committed together do what each would have done alone."""

from uuid import UUID, uuid4

import attrs
import pytest
import trio
import trio.testing

from flowstore.daemon import DaemonSettings, Store
from flowstore.errors import DatabaseUnavailableError
from flowstore.projections import AsyncOptions

STREAMS = [UUID(int=number) for number in range(1, 8)]
PATIENCE = 60


@attrs.frozen
class Counted:
    by: int = 1


@attrs.frozen
class Closed:
    pass


@attrs.define
class Total:
    id: UUID
    number: int = 0
    seen: list[int] = attrs.field(factory=list)

    def apply(self, counted: Counted) -> None:
        self.seen.append(counted.by)
        applied.append(counted.by)
        if counted.by in poison:
            raise ZeroDivisionError
        self.number += counted.by

    def should_delete(self, _: Closed) -> bool:
        return True


@attrs.define
class Noted:
    id: UUID
    number: int = 0

    def apply(self, counted: Counted) -> None:
        self.number += counted.by


@attrs.define
class Log:
    id: UUID
    seen: list[str] = attrs.field(factory=list)

    def apply(self, _: Counted) -> None:
        self.seen.append("x" * 200)


poison: set[int] = set()
applied: list[int] = []


@pytest.fixture(autouse=True)
def no_poison():
    poison.clear()
    applied.clear()


@pytest.fixture
def totals(store):
    store.options.projections.aggregate_streams_with(Total, async_options=AsyncOptions(page_size=5))
    return store


@pytest.fixture
def commits(monkeypatch):
    """What is committed, as (floor, ceiling); `before` and `after` are called beside each."""
    watched = Commits()
    commit_batch = Store.commit_batch

    async def commit(store, unit, **where):
        number = len(watched.spans)
        watched.spans.append((where["floor"], where["ceiling"]))
        await watched.before(number)
        await commit_batch(store, unit, **where)
        await watched.after(number)

    monkeypatch.setattr(Store, "commit_batch", commit)
    return watched


async def _nothing(_number):
    await trio.lowlevel.checkpoint()


@attrs.define
class Commits:
    spans: list = attrs.field(factory=list)
    before: object = _nothing
    after: object = _nothing


async def append(store, numbers):
    async with store.session() as session:
        for number in numbers:
            session.events.append(STREAMS[number % len(STREAMS)], Counted(number))
        await session.save_changes()


async def found(store):
    async with store.session() as session:
        documents = await session.load_many(Total, STREAMS)
    return {document.id: (document.number, document.seen) for document in documents}


async def folded_further():
    """Let a page be folded that comes after what is being committed, if one does.

    The test holds either way: whether what is committed was the last is a matter of timing.
    """
    before = len(applied)
    with trio.move_on_after(0.5):
        while len(applied) == before:  # noqa: ASYNC110  a plain function notes it
            await trio.sleep(0.001)


def expected(numbers):
    of = {stream: [n for n in numbers if STREAMS[n % len(STREAMS)] == stream] for stream in STREAMS}
    return {stream: (sum(own), own) for stream, own in of.items() if own}


async def catch_up(store, settings=None):
    with trio.fail_after(PATIENCE):
        async with store.build_projection_daemon(settings=settings) as daemon:
            await daemon.start_all()
            await daemon.wait_for_non_stale_results()
            return daemon.statuses()[0]


async def test_a_replay_commits_many_pages_as_one(totals, commits):
    numbers = range(1, 101)
    await append(totals, numbers)
    async with totals.build_projection_daemon() as daemon:
        await daemon.rebuild(Total)
    assert [span for span in commits.spans if span != (0, 0)] == [(0, 100)]
    assert await found(totals) == expected(numbers)


async def test_a_span_ends_at_its_bound_in_bytes(totals, commits):
    await append(totals, range(1, 101))
    small = DaemonSettings(span_bytes=1, held_bytes=1)
    async with totals.build_projection_daemon(settings=small) as daemon:
        await daemon.rebuild(Total)
    spans = [span for span in commits.spans if span != (0, 0)]
    assert len(spans) > 1
    assert [floor for floor, _ in spans[1:]] == [ceiling for _, ceiling in spans[:-1]]
    assert await found(totals) == expected(range(1, 101))


async def test_exactly_the_event_that_fails_is_set_aside(totals):
    poison.update({33, 71})
    await append(totals, range(1, 101))
    status = await catch_up(totals)
    assert (status.progress, status.error) == (100, None)
    assert [letter.sequence for letter in await totals.dead_letters()] == [33, 71]
    assert await found(totals) == expected([n for n in range(1, 101) if n not in poison])


async def test_a_rebuild_names_the_event_that_fails(totals):
    await append(totals, range(1, 101))
    poison.add(71)
    async with totals.build_projection_daemon() as daemon:
        with pytest.raises(Exception, match="71") as caught:
            await daemon.rebuild(Total)
    assert caught.value.sequence == 71
    assert await totals.progress(Total) == 70
    assert await found(totals) == expected(range(1, 71))


@pytest.mark.parametrize("which", [1, 2, 3])
async def test_a_commit_whose_reply_is_lost_neither_doubles_nor_loses(totals, commits, which):
    async def lose(number):
        if number == which:
            raise DatabaseUnavailableError("the reply was lost")

    commits.after = lose
    await append(totals, range(1, 101))
    status = await catch_up(totals, DaemonSettings(span_bytes=1))
    assert (status.progress, await totals.dead_letters()) == (100, [])
    assert await found(totals) == expected(range(1, 101))


@pytest.mark.parametrize("which", [1, 2])
async def test_a_span_that_can_not_be_written_leaves_nothing_behind(totals, commits, which):
    async def refuse(number):
        if number == which:
            await folded_further()
            raise ValueError("no")

    commits.before = refuse
    await append(totals, range(1, 301))
    status = await catch_up(totals, DaemonSettings(span_bytes=1))
    assert (status.progress, await totals.dead_letters()) == (300, [])
    assert await found(totals) == expected(range(1, 301))


async def test_what_a_retried_letter_writes_beside_a_span_stays(totals, commits):
    poison.add(3)
    await append(totals, range(1, 11))
    await catch_up(totals)
    (letter,) = await totals.dead_letters()
    poison.clear()

    async def retry(_number):
        commits.before = _nothing
        await folded_further()
        await totals.retry_dead_letter(letter)

    commits.before = retry
    await append(totals, range(11, 301))
    status = await catch_up(totals, DaemonSettings(span_bytes=1))
    assert (status.progress, await totals.dead_letters()) == (300, [])
    numbers = {stream: number for stream, (number, _) in expected(range(1, 301)).items()}
    assert {stream: number for stream, (number, _) in (await found(totals)).items()} == numbers


async def test_what_is_stopped_in_the_middle_of_a_span_goes_on_there(totals, commits):
    reached, go_on = trio.Event(), trio.Event()

    async def wait(number):
        if number == 1:
            reached.set()
            await go_on.wait()

    commits.before = wait
    await append(totals, range(1, 101))
    with trio.fail_after(PATIENCE):
        async with totals.build_projection_daemon(settings=DaemonSettings(span_bytes=1)) as daemon:
            async with trio.open_nursery() as nursery:
                await daemon.start_all()
                await reached.wait()
                nursery.start_soon(daemon.stop_all)
                await trio.testing.wait_all_tasks_blocked()
                go_on.set()
            stopped = daemon.statuses()[0]
    assert stopped.state == "stopped"
    assert stopped.progress == await totals.progress(Total)
    await catch_up(totals)
    assert await found(totals) == expected(range(1, 101))


async def test_what_is_rolled_back_in_the_middle_of_a_span_comes_again(totals, commits):
    reached = trio.Event()

    async def never(number):
        if number == 2:
            commits.before = _nothing
            reached.set()
            await trio.sleep_forever()

    commits.before = never
    await append(totals, range(1, 101))
    impatient = DaemonSettings(span_bytes=1, stop_and_drain_timeout=0)
    with trio.fail_after(PATIENCE):
        async with totals.build_projection_daemon(settings=impatient) as daemon:
            await daemon.start_all()
            await reached.wait()
    assert await totals.progress(Total) < 100
    await catch_up(totals)
    assert await found(totals) == expected(range(1, 101))


async def test_at_the_tail_each_page_is_committed_at_once(totals, commits):
    with trio.fail_after(PATIENCE):
        async with totals.build_projection_daemon() as daemon:
            await daemon.start_all()
            for number in range(1, 6):
                await append(totals, [number])
                await daemon.wait_for(Total, number)
    assert [span for span in commits.spans if span != (0, 0)] == [(n, n + 1) for n in range(5)]


async def test_at_the_tail_a_document_mended_by_hand_is_taken_as_it_is(totals, schema):
    mend = f"update {schema}.doc_total set data = jsonb_set(data, '{{number}}', '1000')"
    with trio.fail_after(PATIENCE):
        async with totals.build_projection_daemon() as daemon:
            await daemon.start_all()
            await append(totals, [7])
            await daemon.wait_for(Total, 1)
            async with totals.connection() as connection:
                await connection.execute(mend)
            await append(totals, [14])
            await daemon.wait_for(Total, 2)
    assert await found(totals) == {STREAMS[0]: (1014, [7, 14])}


async def test_a_document_that_ends_and_begins_again_within_a_span(totals):
    stream = STREAMS[0]
    for number in range(1, 31):
        async with totals.session() as session:
            event = Closed() if number % 10 == 0 else Counted(number)
            session.events.append(stream, event, *[Counted(0)] * 3)
            await session.save_changes()
    async with totals.build_projection_daemon() as daemon:
        await daemon.rebuild(Total)
    assert (await found(totals))[stream] == (0, [0, 0, 0])


async def test_a_span_knows_of_two_tenants_documents_of_one_id(opening):
    stream = uuid4()
    async with opening(tenancy="conjoined") as store:
        options = AsyncOptions(page_size=2)
        store.options.projections.aggregate_streams_with(Total, async_options=options)
        for number in range(1, 11):
            for tenant in ("a", "b"):
                async with store.session(tenant_id=tenant) as session:
                    session.events.append(stream, Counted(number if tenant == "a" else -number))
                    await session.save_changes()
        async with store.build_projection_daemon() as daemon:
            await daemon.rebuild(Total)
        numbers = []
        for tenant in ("a", "b"):
            async with store.session(tenant_id=tenant) as session:
                numbers.append((await session.load(Total, stream)).number)
    assert numbers == [55, -55]


async def test_a_span_is_known_that_was_committed_and_cancelled_before_it_could_say_so(
    totals, commits, monkeypatch
):
    """The page behind it fails at that moment; where the tail is near, reading on waits for it."""
    is_committed = trio.Event()
    fetch_page = Store.fetch_page

    async def fetch(store, floor, mark, **how):
        if floor == 5:
            await is_committed.wait()
        return await fetch_page(store, floor, mark, **how)

    async def say_nothing(number):
        if number == 1:  # the first is the shard's beginning
            is_committed.set()
            await trio.sleep_forever()

    monkeypatch.setattr(Store, "fetch_page", fetch)
    commits.after = say_nothing
    poison.add(7)
    await append(totals, range(1, 9))
    assert (await catch_up(totals)).progress == 8
    assert commits.spans[1:3] == [(0, 5), (5, 6)]
    assert [letter.sequence for letter in await totals.dead_letters()] == [7]
    assert await found(totals) == expected([n for n in range(1, 9) if n != 7])


async def test_a_document_is_written_once_a_span_however_many_pages_it_has(totals, commits):
    written = []
    totals.options.events.converter.register_unstructure_hook(
        Noted,
        lambda noted: written.append(noted.number) or attrs.asdict(noted) | {"id": str(noted.id)},
    )
    options = AsyncOptions(page_size=50)
    totals.options.projections.aggregate_streams_with(Noted, async_options=options)
    async with totals.session() as session:
        for number in range(1_000):
            session.events.append(UUID(int=number % 100), Counted(number))
        await session.save_changes()
    async with totals.build_projection_daemon() as daemon:
        await daemon.rebuild(Noted)
    spans = len([span for span in commits.spans if span != (0, 0)])
    # A few are written once a page for their size: of 50 documents that each page has.
    assert len(written) <= 100 * spans + 20 * 5
    assert sum(written[-100:]) == sum(range(1_000))


async def test_a_span_ends_in_time_where_one_event_goes_to_many_documents(totals, commits):
    """What documents have grown by isn't known before they are written: a few of them tell."""
    many = [UUID(int=1000 + number) for number in range(100)]
    totals.options.projections.aggregate_across_streams(
        Log, group_by={Counted: lambda _: many}, async_options=AsyncOptions(page_size=5)
    )
    await append(totals, range(1, 51))
    small = DaemonSettings(span_bytes=500_000)
    async with totals.build_projection_daemon(settings=small) as daemon:
        await daemon.rebuild(Log)
    assert len([span for span in commits.spans if span != (0, 0)]) > 3
    async with totals.session() as session:
        found = await session.load_many(Log, many)
    assert [len(each.seen) for each in found] == [50] * len(many)
