"""Shards that stand at the same place share a fetch; one that falls behind holds nobody."""

from collections import Counter
from contextlib import asynccontextmanager
from uuid import UUID, uuid4

import attrs
import pytest
import trio

from flowstore.daemon import DaemonSettings
from flowstore.daemon._reasons import InHand
from flowstore.daemon._sharing import SharedPages
from flowstore.projections import AsyncOptions
from flowstore.store import EventStore


@attrs.frozen
class Counted:
    by: int = 1


@attrs.frozen
class Other:
    pass


@attrs.frozen
class Rare:
    pass


@attrs.frozen
class Begun:
    tags: list[str]


@attrs.frozen
class Tagged:
    tag: str


@attrs.define
class First:
    id: UUID
    tags: list[str] = attrs.field(factory=list)

    def apply(self, begun: Begun) -> None:
        self.tags = begun.tags

    def apply_tagged(self, tagged: Tagged) -> None:
        self.tags.append(tagged.tag)


@attrs.define
class Second(First):
    pass


@attrs.define
class Third(First):
    pass


TYPES = (Counted, Other, Rare)


@pytest.fixture
def options(options):
    options.events.add_types(*TYPES)
    return options


@pytest.fixture
def fetched(monkeypatch):
    """The (floor, ceiling, types) of every page that was read of the store, alone or with a mark."""
    pages = []
    fetch_page = EventStore.fetch_page

    async def note(self, floor, mark, **options):
        page = await fetch_page(self, floor, mark, **options)
        pages.append((page.floor, page.ceiling, frozenset(options["types"])))
        return page

    look = EventStore.look

    async def note_look(self, floor, **options):
        mark, page = await look(self, floor, **options)
        if mark > floor:
            pages.append((page.floor, page.ceiling, frozenset(options["types"])))
        return mark, page

    monkeypatch.setattr(EventStore, "fetch_page", note)
    monkeypatch.setattr(EventStore, "look", note_look)
    return pages


async def append(store, *events):
    async with store.session() as session:
        session.events.append(uuid4(), *events)
        await session.save_changes()


@asynccontextmanager
async def running(store, **settings):
    async with store.build_projection_daemon(DaemonSettings(**settings)) as daemon:
        await daemon.start_all()
        await daemon.wait_for_non_stale_results(timeout=20)
        yield daemon


async def test_ten_shards_at_the_tail_read_a_page_once(store, make_recorder, table, fetched):
    names = [f"shard_{number}" for number in range(10)]
    for name in names:
        store.options.projections.add(make_recorder(name=name))
    async with running(store) as daemon:
        for _ in range(8):
            await append(store, Counted(), Other())
            await daemon.wait_for_non_stale_results(timeout=20)
    # The first may come while not every shard has begun to read.
    assert Counter(floor for floor, _, _ in fetched if floor) == Counter(range(2, 16, 2))
    for name in names:
        assert await table.sequences(store, name) == list(range(1, 17))


async def test_shards_of_different_types_share_and_each_gets_its_own(
    store, make_recorder, table, fetched
):
    wanted = {"all": (), "counted": (Counted,), "two": (Counted, Other), "rare": (Rare,)}
    for name, consumes in wanted.items():
        store.options.projections.add(make_recorder(*consumes, name=name))
    async with running(store) as daemon:
        for _ in range(5):
            await append(store, Counted(), Other(), Rare(), Counted())
            await daemon.wait_for_non_stale_results(timeout=20)
    # The first may come while not every shard has begun to read.
    assert Counter(floor for floor, _, _ in fetched if floor) == {4: 1, 8: 1, 12: 1, 16: 1}
    events = [(Counted, Other, Rare, Counted)[number % 4] for number in range(20)]
    for name, consumes in wanted.items():
        expected = [n for n, kind in enumerate(events, 1) if not consumes or kind in consumes]
        assert await table.sequences(store, name) == expected
        assert await store.progress(name) == 20


async def test_a_union_of_types_leaves_out_what_nobody_consumes(store, make_recorder, fetched):
    store.options.projections.add(make_recorder(Counted, name="counted"))
    store.options.projections.add(make_recorder(Other, name="other"))
    async with running(store) as daemon:
        for _ in range(2):
            await append(store, Rare(), Counted())
            await daemon.wait_for_non_stale_results(timeout=20)
    assert fetched[-1] == (2, 4, frozenset({Counted, Other}))


async def test_who_reads_archived_streams_shares_with_nobody_who_does_not(
    store, make_recorder, table, fetched
):
    store.options.projections.add(make_recorder(name="living"))
    asking = AsyncOptions(include_archived=True)
    store.options.projections.add(make_recorder(name="all", async_options=asking))
    stream_id = uuid4()
    async with store.session() as session:
        session.events.append(stream_id, Counted())
        session.events.archive_stream(stream_id)
        await session.save_changes()
    await append(store, Counted())
    async with running(store):
        pass
    assert await table.sequences(store, "living") == [2]
    assert await table.sequences(store, "all") == [1, 2]
    assert len(fetched) == 2


async def test_a_shard_of_rare_events_catches_up_in_as_few_fetches_as_alone(
    store, make_recorder, table, fetched
):
    options = AsyncOptions(page_size=20)
    for number in range(3):
        common = make_recorder(name=f"common_{number}", async_options=options)
        store.options.projections.add(common)
    store.options.projections.add(make_recorder(Rare, name="rare", async_options=options))
    for _ in range(30):
        await append(store, *[Counted()] * 99, Rare())
    async with running(store):
        pass
    places = Counter(floor for floor, _, types in fetched if types == {Rare})
    # Thirty events, in pages of twenty: two fetches, of which one goes to the mark.
    assert places == {0: 1, 2000: 1}
    assert await table.sequences(store, "rare") == list(range(100, 3001, 100))
    assert await store.progress("rare") == 3000


async def test_a_shard_that_falls_behind_holds_nobody_and_comes_back(
    store, make_recorder, table, fetched
):
    gate = trio.Event()
    slow = make_recorder(name="slow", async_options=AsyncOptions(page_size=50))

    async def wait_at_the_gate(_):
        await gate.wait()

    slow.before = wait_at_the_gate
    store.options.projections.add(slow)
    for number in range(3):
        store.options.projections.add(make_recorder(name=f"fast_{number}"))
    async with store.build_projection_daemon() as daemon:
        await daemon.start_all()
        for round_ in range(1, 41):
            await append(store, *[Counted()] * 50)
            with trio.fail_after(20):
                for number in range(3):
                    await daemon.wait_for(f"fast_{number}", 50 * round_)
        held = sum(len(page.events) for page in daemon._pages.kept)
        assert held <= 1000
        assert {status.name: status.progress for status in daemon.statuses()}["slow"] == 0
        gate.set()
        await daemon.wait_for_non_stale_results(timeout=20)
        before = len(fetched)
        await append(store, Counted(), Other())
        await daemon.wait_for_non_stale_results(timeout=20)
        assert len(fetched) == before + 1
        assert daemon._pages.kept == ()
    for name in ("slow", "fast_0", "fast_2"):
        assert await table.sequences(store, name) == list(range(1, 2003))


async def test_what_comes_while_a_page_is_committed_is_one_page_afterwards(
    store, make_recorder, table
):
    held, go = trio.Event(), trio.Event()

    async def wait(_):
        held.set()
        await go.wait()

    slow = make_recorder(name="slow", before=wait)
    store.options.projections.add(slow)
    store.options.projections.add(make_recorder(name="quick"))
    async with store.build_projection_daemon() as daemon:
        await daemon.start_all()
        await append(store, Counted())
        with trio.fail_after(20):
            await held.wait()
        for number in range(2, 7):  # each is a page of its own for who is quick
            await append(store, Counted())
            with trio.fail_after(20):
                await daemon.wait_for("quick", number)
        go.set()
        await daemon.wait_for_non_stale_results(timeout=20)
    assert slow.calls == [[1], [2, 3, 4, 5, 6]]
    assert await table.sequences(store, "quick") == [1, 2, 3, 4, 5, 6]


async def test_a_page_read_in_others_steps_goes_on_to_the_mark(store, recorder, fetched):
    await append(store, *[Counted()] * 6)
    shared = SharedPages(store, 1_000_000, trio.CapacityLimiter(1))
    with (
        shared.reading(recorder, 0, InHand()) as first,
        shared.reading(recorder, 0, InHand()) as second,
    ):
        await first(0, 2)
        await first(2, 3)
        page = await second(0, 6)
    assert (page.floor, page.ceiling) == (0, 6)
    assert [event.sequence for event in page.events] == [1, 2, 3, 4, 5, 6]
    assert [(floor, ceiling) for floor, ceiling, _ in fetched] == [(0, 2), (2, 3), (3, 6)]


async def test_a_look_brings_the_page_for_all_who_have_read_up_to_the_mark(
    store, make_recorder, fetched
):
    await append(store, Counted(), Counted())
    shared = SharedPages(store, 1_000_000, trio.CapacityLimiter(1))
    with (
        shared.reading(make_recorder(Counted, name="one"), 2, InHand()) as one,
        shared.reading(make_recorder(Other, name="two"), 2, InHand()) as two,
        shared.reading(make_recorder(Rare, name="behind"), 1, InHand()),
    ):
        await append(store, Counted(), Other(), Rare())
        assert await shared.look(2, 0.0) == 5
        await append(store, Other())
        assert await shared.look(5, 0.0) == 6  # they come there by what is kept
        assert [event.sequence for event in (await one(2, 6)).events] == [3]
        assert [event.sequence for event in (await two(2, 6)).events] == [4, 6]
    both = frozenset({Counted, Other})
    assert fetched == [(2, 5, both), (5, 6, both)]


async def test_a_look_reads_nothing_where_nobody_stands_at_the_mark(store, recorder, fetched):
    await append(store, *[Counted()] * 4)
    shared = SharedPages(store, 1_000_000, trio.CapacityLimiter(1))
    assert await shared.look(0, 0.0) == 4
    with shared.reading(recorder, 1, InHand()):
        assert await shared.look(0, 0.0) == 4
    assert fetched == []


async def test_who_began_to_read_during_a_look_reads_what_was_mended_since(
    store, make_recorder, monkeypatch
):
    async with store.session() as session:
        action = session.events.append(uuid4(), *[Counted()] * 3)
        await session.save_changes()
    look, seen, go = EventStore.look, trio.Event(), trio.Event()

    async def be_late(self, *args, **how):
        found = await look(self, *args, **how)
        seen.set()
        await go.wait()
        return found

    monkeypatch.setattr(EventStore, "look", be_late)
    shared = SharedPages(store, 1_000_000, trio.CapacityLimiter(1))
    with trio.fail_after(20), shared.reading(make_recorder(name="before"), 0, InHand()) as before:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(shared.look, 0, 0.0)
            await seen.wait()
            await store.skip_event(action.events[1].id)
            with shared.reading(make_recorder(name="after"), 0, InHand()) as after:
                go.set()
                await trio.testing.wait_all_tasks_blocked()
                assert [event.sequence for event in (await before(0, 3)).events] == [1, 2, 3]
                assert [event.sequence for event in (await after(0, 3)).events] == [1, 3]


async def test_what_is_wrong_with_a_page_holds_nobodys_mark(store, recorder, monkeypatch):
    async def fail(*_, **__):
        raise ValueError("the page")

    monkeypatch.setattr(EventStore, "look", fail)
    await append(store, Counted())
    shared = SharedPages(store, 1_000_000, trio.CapacityLimiter(1))
    with shared.reading(recorder, 0, InHand()) as fetch:
        assert await shared.look(0, 0.0) == 1
        assert [event.sequence for event in (await fetch(0, 1)).events] == [1]


async def test_a_page_is_not_made_larger_than_allowed_by_going_on(store, make_recorder):
    await append(store, *[Counted()] * 6)
    recorder = make_recorder()
    weighed = await store.fetch_page(0, 2)
    shared = SharedPages(store, weighed.size + 1, trio.CapacityLimiter(1))
    with (
        shared.reading(recorder, 0, InHand()) as first,
        shared.reading(recorder, 0, InHand()) as second,
    ):
        await first(0, 2)
        page = await second(0, 6)
        assert (page.floor, page.ceiling) == (0, 2)
        assert [event.sequence for event in (await second(2, 6)).events] == [3, 4]


async def test_a_fetch_whose_shard_is_stopped_is_done_by_another(store, recorder, monkeypatch):
    begun, calls = trio.Event(), []
    fetch_page = EventStore.fetch_page

    async def hang_once(self, *args, **options):
        calls.append(args)
        if len(calls) == 1:
            begun.set()
            await trio.sleep_forever()
        return await fetch_page(self, *args, **options)

    monkeypatch.setattr(EventStore, "fetch_page", hang_once)
    await append(store, Counted())
    shared = SharedPages(store, 1_000_000, trio.CapacityLimiter(1))
    stopped, pages = trio.CancelScope(), []

    async def lead():
        with stopped:
            await first(0, 1)

    async def follow():
        pages.append(await second(0, 1))

    with (
        trio.fail_after(20),
        shared.reading(recorder, 0, InHand()) as first,
        shared.reading(recorder, 0, InHand()) as second,
    ):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lead)
            await begun.wait()
            nursery.start_soon(follow)
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert len(calls) == 1
            stopped.cancel()
    assert [event.sequence for event in pages[0].events] == [1]


async def test_a_shard_that_is_started_again_reads_what_was_mended(store, recorder):
    """A sibling that is behind has the page kept that was read before."""
    async with store.session() as session:
        action = session.events.append(uuid4(), *[Counted()] * 3)
        await session.save_changes()
    shared = SharedPages(store, 1_000_000, trio.CapacityLimiter(1))
    with shared.reading(recorder, 0, InHand()) as behind:
        with shared.reading(recorder, 0, InHand()) as fetch:
            before = await fetch(0, 3)
        assert shared.kept == (before,)
        await store.skip_event(action.events[1].id)
        with shared.reading(recorder, 0, InHand()) as fetch:
            again = await fetch(0, 3)
        assert await behind(0, 3) is before
    assert [event.sequence for event in again.events] == [1, 3]


async def test_at_most_max_loads_pages_are_fetched_at_once(store, make_recorder, monkeypatch):
    """And sessions of the application find a connection meanwhile."""
    gate, under_way, most = trio.Event(), [], []
    fetch_page = EventStore.fetch_page

    async def hold(self, *args, **options):
        under_way.append(args)
        most.append(len(under_way))
        async with self.connection():
            await gate.wait()
        try:
            return await fetch_page(self, *args, **options)
        finally:
            under_way.pop()

    monkeypatch.setattr(EventStore, "fetch_page", hold)
    for number in range(12):
        # Of page sizes of their own, they can't share in a catch-up.
        options = AsyncOptions(page_size=number + 1)
        store.options.projections.add(make_recorder(name=f"s{number}", async_options=options))
    await append(store, *[Counted()] * 30)
    async with store.build_projection_daemon(DaemonSettings(max_loads=3)) as daemon:
        await daemon.start_all()
        with trio.fail_after(20):
            while len(under_way) < 3:  # noqa: ASYNC110  nothing tells of it
                await trio.sleep(0.01)
            await trio.testing.wait_all_tasks_blocked(0.05)
            for _ in range(5):
                await append(store, Counted())
        assert max(most) == 3
        gate.set()
        await daemon.wait_for_non_stale_results(timeout=30)
    assert max(most) == 3


async def test_at_most_max_commits_pages_are_committed_at_once(store, make_recorder, monkeypatch):
    gate, under_way, most = trio.Event(), [], []
    commit_batch = EventStore.commit_batch

    async def hold(self, *args, **options):
        under_way.append(args)
        most.append(len(under_way))
        await gate.wait()
        try:
            return await commit_batch(self, *args, **options)
        finally:
            under_way.pop()

    for number in range(8):
        store.options.projections.add(make_recorder(name=f"shard_{number}"))
    async with store.build_projection_daemon(DaemonSettings(max_commits=2)) as daemon:
        await daemon.start_all()
        monkeypatch.setattr(EventStore, "commit_batch", hold)
        await append(store, Counted())
        with trio.fail_after(20):
            while len(under_way) < 2:  # noqa: ASYNC110  nothing tells of it
                await trio.sleep(0.01)
        await trio.testing.wait_all_tasks_blocked(0.05)
        gate.set()
        await daemon.wait_for_non_stale_results(timeout=30)
    assert max(most) == 2


async def test_what_a_document_takes_of_a_shared_event_is_its_own(store):
    views = (First, Second, Third)
    for view in views:
        store.options.projections.aggregate_streams_with(view)
    stream = uuid4()
    async with store.session() as session:
        session.events.append(stream, Begun(["a"]), Tagged("b"))
        await session.save_changes()
    async with running(store):
        session = store.session()
        assert [(await session.load(view, stream)).tags for view in views] == [["a", "b"]] * 3
