"""A commit that was given up, and that the server carries out all the same, later than anybody looked."""

import logging
from uuid import UUID

import attrs
import pytest
import trio

from flowstore.daemon import DaemonSettings, Store
from flowstore.daemon._applier import Applier
from flowstore.daemon._retrying import Patience
from flowstore.errors import DatabaseUnavailableError
from flowstore.events import EventBatch, group_by_stream_id, in_sequence
from flowstore.projections import AsyncOptions
from flowstore.store import Shadow
from tests.daemon.totals import POISON, STREAMS, Counted, Total

PATIENCE = 60
QUICK = DaemonSettings(retry_time=0.001)


@attrs.define(eq=False)
class Mailing:
    """Writes its events down by SQL, and mails of each page once it is committed."""

    table: str
    name: str = "mailing"
    consumes: tuple = (Counted,)
    produces: None = None
    async_options: AsyncOptions = attrs.field(factory=lambda: AsyncOptions(page_size=5))
    mailed: list = attrs.field(factory=list)
    poison: int = 0
    fails_after: bool = False

    def apply(self, session, streams):
        events = in_sequence(streams)
        for event in events:
            insert = f"insert into {self.table} (shard, sequence, version) values (%s, %s, %s)"
            session.execute(insert, self.name, event.sequence, event.version)
            if event.sequence == self.poison:
                raise ValueError("poison")

        async def mail():
            await trio.lowlevel.checkpoint()
            self.mailed.extend(event.sequence for event in events)
            if self.fails_after:
                raise ValueError("no mail today")

        session.after_commit(mail)


@attrs.define
class Server:
    """Carries a commit out after the look that follows it, and not before.

    Attributes:
        which: of the commits the number that is late; -1: none.
        looks: at which look after it, from 1.
        before: is awaited instead of what loses the connection.
        late: what is still to be carried out.
        happened: how often a commit was late.
    """

    which: int = -1
    looks: int = 1
    before: object = None
    number: int = 0
    late: object = None
    happened: int = 0
    seen: list = attrs.field(factory=list)


def stand_before(server, target, monkeypatch):
    """Have the commits to a store, or to a shadow, come late, and the looks that follow them."""
    commit_batch, standing = target.commit_batch, target.standing

    async def commit(kept, unit, **where):
        server.seen.append((where["floor"], where["ceiling"]))
        number, server.number = server.number, server.number + 1
        if number != server.which:
            await commit_batch(kept, unit, **where)
            return

        async def carry_out():
            await commit_batch(kept, unit, **where)

        server.late = carry_out
        if server.before is not None:
            await server.before()
        raise DatabaseUnavailableError("the connection was given up")

    async def look(kept, *projection):
        found = await standing(kept, *projection)
        if server.late is not None:
            server.looks -= 1
            if server.looks == 0:
                late, server.late = server.late, None
                server.happened += 1
                await late()
        return found

    monkeypatch.setattr(target, "commit_batch", commit)
    monkeypatch.setattr(target, "standing", look)


@pytest.fixture
def server(monkeypatch):
    server = Server()
    stand_before(server, Store, monkeypatch)
    return server


async def append(store, numbers):
    async with store.session() as session:
        for number in numbers:
            session.events.append(STREAMS[number % len(STREAMS)], Counted(number))
        await session.save_changes()


async def totals(store):
    found = await store.session().query(Total, "true order by id")
    return [(total.number, total.seen) for total in found]


def expected(numbers):
    of = [[n for n in numbers if n % len(STREAMS) == stream] for stream in range(len(STREAMS))]
    return [(sum(own), own) for own in of]


@pytest.fixture
def mailing(store, table):
    projection = Mailing(table.name)
    store.options.projections.add(projection)
    return projection


async def catch_up(store, settings=QUICK, place=0):
    with trio.fail_after(PATIENCE):
        async with store.build_projection_daemon(settings) as daemon:
            await daemon.start_all()
            await daemon.wait_for_non_stale_results()
            for status in daemon.statuses():
                await daemon.wait_for(status.name, place)
            return daemon.statuses()[0]


@pytest.mark.parametrize("which", [1, 2, 4])
async def test_a_shard_goes_on_from_it(store, mailing, table, server, which):
    server.which = which  # the first one gives the shard its place
    await append(store, range(1, 21))
    status = await catch_up(store)
    assert server.happened == 1
    assert (status.state, status.progress, status.error) == ("running", 20, None)
    assert await table.sequences(store, "mailing") == list(range(1, 21))
    assert mailing.mailed == list(range(1, 21))
    assert await store.dead_letters() == []


async def test_what_waits_for_it_may_fail_once(store, mailing, table, server, caplog):
    server.which, mailing.fails_after = 2, True
    await append(store, range(1, 16))
    status = await catch_up(store)
    assert (server.happened, status.progress, status.error) == (1, 15, None)
    assert await table.sequences(store, "mailing") == mailing.mailed == list(range(1, 16))
    assert await store.dead_letters() == []
    assert caplog.text.count("what waited for a commit failed after it") == 3


async def test_a_dead_letter_that_is_committed_late_is_there_once(store, mailing, table, server):
    mailing.poison = 3
    await append(store, range(1, 6))
    server.which = 2  # after the place and (0, 2] comes (2, 3], the event that is set aside
    status = await catch_up(store)
    assert (server.happened, status.progress, status.error) == (1, 5, None)
    assert [letter.sequence for letter in await store.dead_letters()] == [3]
    assert await table.sequences(store, "mailing") == [1, 2, 4, 5]
    assert mailing.mailed == [1, 2, 4, 5]


@pytest.mark.parametrize("which", [1, 2])
async def test_a_shard_of_spans_goes_on_from_it(store, server, which):
    store.options.projections.aggregate_streams_with(Total, async_options=AsyncOptions(page_size=5))
    server.which = which
    await append(store, range(1, 101))
    status = await catch_up(store, attrs.evolve(QUICK, span_bytes=1))
    assert server.happened == 1
    assert (status.state, status.progress, status.error) == ("running", 100, None)
    assert await totals(store) == expected(range(1, 101))


async def test_a_span_that_was_cancelled_and_is_carried_out_late_is_gone_on_from(store, server):
    """What comes after it failed, and pages are applied one by one from where the shard stood.

    They are other pages: there is more to be read by then.
    """

    async def meanwhile():
        await append(store, numbers[3:])
        await trio.sleep_forever()

    server.which, server.before = 1, meanwhile
    store.options.projections.aggregate_streams_with(Total, async_options=AsyncOptions(page_size=5))
    numbers = [*range(1, 5), POISON, *range(6, 21)]
    await append(store, numbers[:3])
    status = await catch_up(store, place=20)
    assert (server.happened, server.seen[1]) == (1, (0, 3))
    assert (status.state, status.progress, status.error) == ("running", 20, None)
    assert [letter.sequence for letter in await store.dead_letters()] == [5]
    assert await totals(store) == expected([n for n in numbers if n != POISON])


async def test_a_last_span_that_is_carried_out_late_is_told(store, server):
    store.options.projections.aggregate_streams_with(Total)
    server.which = 1
    await append(store, range(1, 4))
    status = await catch_up(store)
    assert (server.happened, status.progress, status.error) == (1, 3, None)
    assert server.number == 3  # the place, what was late, and what was refused


@pytest.mark.parametrize("looks", [1, 99])
async def test_what_is_known_is_not_kept(store, mailing, server, looks):
    claim = await store.claim(mailing)
    patience = Patience(0.001, 0.001, logging.getLogger("late"), lambda reason: None)
    applier = Applier(store, mailing, claim, patience=patience)
    server.which, server.looks = 0, looks
    await append(store, range(1, 11))
    for floor in (0, 5):
        page = await store.fetch_page(floor, 10, limit=5)
        streams = tuple(group_by_stream_id(page.events))
        await applier.apply(EventBatch(page.floor, page.ceiling, streams))
        assert applier.unknown == {}
    assert (server.happened, server.number) == (looks == 1, 3)


@pytest.mark.parametrize("by", ["claim", "rewind", "hand"])
async def test_another_owner_at_the_very_same_place_still_ends_the_run(
    store, mailing, server, until, schema, by
):
    """Its epoch tells it from a commit of one's own."""
    server.which = 2
    await append(store, range(1, 16))

    async def meanwhile():
        projection = store.options.projections.find("mailing").projection
        if by == "claim":
            claim = await store.claim(projection)
            unit = store.projection_session()
            where = {"floor": 5, "ceiling": 10, "claim": claim, "rebuilding": True}
            await store.commit_batch(unit, shard="mailing", **where)
        elif by == "rewind":
            await store.rewind(projection, 10)
        else:  # to a place that no commit of this owner's was to bring it to
            async with store.connection() as connection:
                await connection.execute(f"update {schema}.progress set sequence = 7".encode())

    server.before = meanwhile
    server.looks = 99
    async with store.build_projection_daemon(QUICK) as daemon:
        await daemon.start_all()
        status = await until(daemon, lambda status: status.state == "failed")
    assert "ProgressConflictError" in status.reason
    assert mailing.mailed == [1, 2, 3, 4, 5]


async def test_a_rebuild_goes_on_from_it(store, mailing, table, server):
    await append(store, range(1, 21))
    await catch_up(store)
    mailing.mailed.clear()
    server.which, server.number = 2, 0
    async with store.build_projection_daemon(QUICK) as daemon:
        with trio.fail_after(PATIENCE):
            await daemon.rebuild("mailing")
    assert server.happened == 1
    assert (await store.progress("mailing"), mailing.mailed) == (20, [])


@pytest.fixture
def shadows(server, monkeypatch):
    """The same for commits to shadows, and looks at their own progress."""
    stand_before(server, Shadow, monkeypatch)
    return server


@pytest.mark.parametrize("page", [0, 1])
async def test_a_swap_goes_on_from_it(store, shadows, page):
    """A shadow's own progress is looked at, and its own epoch."""
    store.options.projections.aggregate_streams_with(Total, async_options=AsyncOptions(page_size=5))
    await append(store, range(1, 21))
    await catch_up(store)
    shadows.which, shadows.number = page, 0
    async with store.build_projection_daemon(attrs.evolve(QUICK, span_bytes=1)) as daemon:
        with trio.fail_after(PATIENCE):
            await daemon.rebuild(Total, swap=True)
    assert shadows.happened == 1
    assert await totals(store) == expected(range(1, 21))


async def test_a_swap_goes_on_from_a_span_that_was_cancelled(store, shadows, monkeypatch):
    begun = trio.Event()
    fetch_page = Store.fetch_page

    async def fetch(store, floor, mark, **how):
        if floor == 10:
            await begun.wait()
        return await fetch_page(store, floor, mark, **how)

    async def meanwhile():
        begun.set()
        await trio.sleep_forever()

    monkeypatch.setattr(Store, "fetch_page", fetch)
    options = AsyncOptions(page_size=5, on_rebuild_error="dead_letter")
    store.options.projections.aggregate_streams_with(Total, async_options=options)
    wide = [UUID(int=number) for number in range(1, 11)]
    numbers = [*range(11), POISON, *range(12, 20)]
    async with store.session() as session:
        for place, number in enumerate(numbers):
            session.events.append(wide[place % 10], Counted(number))
        await session.save_changes()
    shadows.which, shadows.before = 0, meanwhile
    # Five of the documents, a thousand bytes and some each, are less than that, ten are more: two
    # pages are a span.
    async with store.build_projection_daemon(attrs.evolve(QUICK, span_bytes=7500)) as daemon:
        with trio.fail_after(PATIENCE):
            await daemon.rebuild(Total, swap=True)
    assert (shadows.happened, shadows.seen[:2]) == (1, [(0, 10), (0, 5)])
    assert [letter.sequence for letter in await store.dead_letters()] == [12]
    assert [seen for _, seen in await totals(store)] == [
        [number, number + 10] if number != 1 else [1] for number in range(10)
    ]
