"""Documents are rebuilt, shards are rewound, and brought up to date without being started."""

import logging
from uuid import UUID, uuid4

import attrs
import pytest
import trio

from flowstore.daemon import DaemonSettings, EventFailedError
from flowstore.errors import RebuildError, StaleResultsError
from flowstore.projections import AsyncOptions


@attrs.frozen
class Counted:
    by: int = 1


@attrs.frozen
class Named:
    name: str


@attrs.define
class Total:
    id: UUID
    number: int = 0

    def apply(self, counted: Counted) -> None:
        self.number += counted.by


@attrs.frozen
class Label:
    id: UUID
    name: str


class Gate:
    """Lets a recorder through page by page: `entered` tells that it stands at the gate."""

    def __init__(self):
        self.entered, self.opened = trio.Event(), trio.Event()

    async def __call__(self, events):
        self.entered.set()
        await self.opened.wait()


@pytest.fixture
def options(options):
    options.projections.aggregate_streams_with(Total, async_options=AsyncOptions(page_size=3))
    return options


async def append(store, stream_id, *events):
    async with store.session() as session:
        session.events.append(stream_id, *events)
        await session.save_changes()


async def totals(store):
    return await store.session().query(Total, "true order by id")


def states(daemon):
    return {status.name: (status.state, status.progress) for status in daemon.statuses()}


@pytest.fixture
async def filled(store):
    """A store with documents that follow ten events of three streams."""
    streams = [UUID(int=number) for number in (1, 2, 3)]
    for number in range(10):
        await append(store, streams[number % 3], Counted(number))
    async with store.build_projection_daemon() as daemon:
        await daemon.start(Total)
        await daemon.wait_for(Total, 10)
    return store


EXPECTED = [
    Total(UUID(int=1), 0 + 3 + 6 + 9),
    Total(UUID(int=2), 1 + 4 + 7),
    Total(UUID(int=3), 2 + 5 + 8),
]


# -- rebuild --


async def test_a_rebuild_gives_what_was_there_without_orphans(filled):
    async with filled.session() as session:
        session.store(Total(uuid4(), 77), Total(UUID(int=1), -1))
        await session.save_changes()
    async with filled.build_projection_daemon() as daemon:
        await daemon.rebuild(Total)
        assert states(daemon) == {"Total": ("stopped", 10)}
    assert await totals(filled) == EXPECTED
    assert await filled.progress(Total) == 10


async def test_a_rebuild_can_be_repeated(filled):
    async with filled.build_projection_daemon() as daemon:
        await daemon.rebuild(Total)
        await daemon.rebuild("Total")
    assert await totals(filled) == EXPECTED


async def test_a_rebuild_of_an_empty_store_deletes_what_is_there(store):
    async with store.session() as session:
        session.store(Total(uuid4(), 77))
        await session.save_changes()
    async with store.build_projection_daemon() as daemon:
        await daemon.rebuild(Total)
    assert await totals(store) == []
    assert await store.progress(Total) == 0


async def test_a_rebuild_goes_on_afterwards_under_a_running_daemon(filled):
    async with filled.build_projection_daemon() as daemon:
        await daemon.start_all()
        await daemon.rebuild(Total)
        assert states(daemon)["Total"][0] == "running"
        await append(filled, UUID(int=2), Counted(100))
        await daemon.wait_for_non_stale_results()
    assert (await totals(filled))[1].number == 112


async def test_nothing_is_lost_or_doubled_by_rebuilds_while_appends_go_on(store, recorder, table):
    async def append_many():
        for _ in range(30):
            await append(store, uuid4(), Counted(), Counted())

    async with store.build_projection_daemon() as daemon:
        await daemon.start_all()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(append_many)
            for _ in range(3):
                await daemon.rebuild("recorder")
        await daemon.wait_for_non_stale_results()
    assert await table.sequences(store) == list(range(1, 61))


async def test_simultaneous_rebuilds_take_turns(store, recorder, table):
    await append(store, uuid4(), *[Counted()] * 5)
    async with store.build_projection_daemon() as daemon:
        await daemon.start_all()
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(daemon.rebuild, "recorder")
                nursery.start_soon(daemon.start_all)
        await daemon.wait_for_non_stale_results()
        assert states(daemon)["recorder"] == ("running", 5)
    assert await table.sequences(store) == [1, 2, 3, 4, 5]


async def test_a_shard_is_stale_while_it_is_rebuilt(store, recorder):
    await append(store, uuid4(), *[Counted()] * 5)
    async with store.build_projection_daemon() as daemon:
        await daemon.start_all()
        await daemon.wait_for_non_stale_results()
        recorder.before = gate = Gate()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(daemon.rebuild, "recorder")
            await gate.entered.wait()
            (status,) = [each for each in daemon.statuses() if each.name == "recorder"]
            assert (status.state, status.progress, status.lag) == ("rebuilding", 0, 5)
            with pytest.raises(StaleResultsError, match="recorder is rebuilding at 0"):
                await daemon.wait_for_non_stale_results(timeout=0.02)
            gate.opened.set()
        await daemon.wait_for_non_stale_results()


async def test_a_shard_is_stale_from_the_moment_its_documents_are_gone(store, make_recorder, table):
    seen = []

    class Watched(type(make_recorder())):
        async def teardown(self, session):
            (status,) = [each for each in daemon.statuses() if each.name == self.name]
            seen.append((status.state, status.progress, status.lag))
            await super().teardown(session)

    store.options.projections.add(Watched(table.name))
    await append(store, uuid4(), *[Counted()] * 5)
    async with store.build_projection_daemon() as daemon:
        await daemon.catch_up()
        await daemon.rebuild("recorder")
    assert seen == [("rebuilding", 0, 5)]


async def test_a_rebuild_leaves_other_projections_alone(filled, recorder, table):
    async with filled.build_projection_daemon() as daemon:
        await daemon.catch_up()
        before = await table.rows(filled)
        await daemon.rebuild(Total)
    assert len(recorder.calls) == 1
    assert await table.rows(filled) == before
    assert await filled.progress(recorder) == 10


async def test_rebuilding_all_rebuilds_each(filled, recorder, table):
    async with filled.session() as session:
        session.store(Total(uuid4()))
        await session.save_changes()
    async with filled.build_projection_daemon() as daemon:
        await daemon.rebuild_all()
    assert await totals(filled) == EXPECTED
    assert await table.sequences(filled) == list(range(1, 11))


async def test_rows_of_a_projection_without_teardown_stay(filled, table):
    class Appending:
        name = "appending"
        consumes = ()
        produces = None
        async_options = AsyncOptions()

        def apply(self, session, streams):
            session.execute(f"insert into {table.name} (shard) values ('appending')")

    filled.options.projections.add(Appending())
    async with filled.build_projection_daemon() as daemon:
        for _ in range(2):
            await daemon.rebuild("appending")
    assert len(await table.sequences(filled, "appending")) == 2


async def test_a_failing_rebuild_names_the_events_sequence(filled, recorder, table):
    recorder.async_options = AsyncOptions(page_size=5, on_error="dead_letter")
    recorder.fails = lambda event: event.sequence == 7
    async with filled.build_projection_daemon() as daemon:
        with pytest.raises(RebuildError, match=r"'recorder' .* sequence 7: ValueError") as caught:
            await daemon.rebuild("recorder")
        assert states(daemon)["recorder"] == ("failed", 6)
    assert caught.value.sequence == 7
    assert str(caught.value.__cause__) == "event 7 is poison"
    assert await filled.progress("recorder") == 6
    assert await filled.dead_letters() == []
    assert await table.sequences(filled) == [1, 2, 3, 4, 5, 6]


async def test_a_rebuild_may_set_aside_what_fails(filled, recorder, table):
    recorder.async_options = AsyncOptions(on_rebuild_error="dead_letter", on_error="stop")
    recorder.fails = lambda event: event.sequence == 7
    async with filled.build_projection_daemon() as daemon:
        await daemon.rebuild("recorder")
    assert [letter.sequence for letter in await filled.dead_letters("recorder")] == [7]
    assert await table.sequences(filled) == [1, 2, 3, 4, 5, 6, 8, 9, 10]


async def test_a_rebuild_forgets_dead_letters_of_what_succeeds_now(filled, recorder, table):
    recorder.fails = lambda event: event.sequence == 7
    async with filled.build_projection_daemon() as daemon:
        await daemon.start_all()
        await daemon.wait_for_non_stale_results()
        assert len(await filled.dead_letters()) == 1
        recorder.fails = lambda event: False
        await daemon.rebuild("recorder")
    assert await filled.dead_letters() == []
    assert await table.sequences(filled) == list(range(1, 11))


async def test_a_failed_rebuild_under_a_running_daemon_leaves_the_shard_failed(filled, recorder):
    async with filled.build_projection_daemon() as daemon:
        await daemon.start_all()
        await daemon.wait_for_non_stale_results()
        recorder.fails = lambda event: event.sequence == 7
        with pytest.raises(RebuildError):
            await daemon.rebuild("recorder")
        assert states(daemon) == {"recorder": ("failed", 6), "Total": ("running", 10)}


async def test_a_cancelled_rebuild_tells_how_far_it_came_and_can_go_on(filled, recorder, table):
    recorder.async_options = AsyncOptions(page_size=4)

    async def stop_at_the_second_page(events):
        if events[0].sequence == 5:
            scope.cancel()
            await trio.sleep_forever()

    recorder.before = stop_at_the_second_page
    async with filled.build_projection_daemon() as daemon:
        with trio.CancelScope() as scope:
            await daemon.rebuild("recorder")
        assert scope.cancelled_caught
        assert states(daemon)["recorder"] == ("stopped", 4)
        assert await table.sequences(filled) == [1, 2, 3, 4]
        recorder.before = None
        await daemon.start("recorder")
        await daemon.wait_for_non_stale_results()
    assert await table.sequences(filled) == list(range(1, 11))


async def test_a_rebuild_that_is_stopped_before_its_end_says_so(filled, recorder, table):
    recorder.async_options = AsyncOptions(page_size=1)

    async def stop_at_the_third_page(events):
        if events[0].sequence == 3:
            nursery.start_soon(daemon.stop, "recorder")
            await trio.testing.wait_all_tasks_blocked()

    recorder.before = stop_at_the_third_page
    async with filled.build_projection_daemon() as daemon, trio.open_nursery() as nursery:
        with pytest.raises(RebuildError, match=r"stopped at sequence [3-9], on its way to 10"):
            await daemon.rebuild("recorder")
        state, progress = states(daemon)["recorder"]
        assert state == "stopped"
    assert await table.sequences(filled) == list(range(1, progress + 1))


async def test_a_rebuild_and_catching_up_ignore_the_buffer(filled, recorder, table):
    async with filled.session() as session:
        session.store(Total(uuid4(), 77))
        await session.save_changes()
    settings = DaemonSettings(leading_edge_buffer=60)
    async with filled.build_projection_daemon(settings) as daemon:
        with trio.fail_after(60):
            await daemon.rebuild(Total)
            await daemon.catch_up()
    assert await totals(filled) == EXPECTED
    assert await table.sequences(filled) == list(range(1, 11))


@pytest.mark.parametrize("begin", ["now", "inline"])
async def test_a_rebuild_of_one_that_began_late_has_all_events(filled, make_recorder, table, begin):
    late = make_recorder(name="late", async_options=AsyncOptions(start_from=begin))
    filled.options.projections.add(late)
    async with filled.build_projection_daemon() as daemon:
        await daemon.start("late")
        await append(filled, uuid4(), Counted())
        await daemon.wait_for("late", 11)
        assert await table.sequences(filled, "late") == [11]
        await daemon.rebuild("late")
    assert await table.sequences(filled, "late") == list(range(1, 12))


async def test_a_rebuild_of_one_that_begins_at_a_sequence_begins_there(
    filled, make_recorder, table
):
    late = make_recorder(name="late", async_options=AsyncOptions(start_from=8))
    filled.options.projections.add(late)
    async with filled.build_projection_daemon() as daemon:
        await daemon.rebuild("late")
    assert await table.sequences(filled, "late") == [9, 10]


async def test_after_commit_is_left_out_of_a_rebuild(filled):
    told = []

    class Telling:
        name = "telling"
        consumes = (Counted,)
        produces = None
        async_options = AsyncOptions(page_size=6)

        def apply(self, session, streams):
            session.after_commit(lambda: told.append(len(streams)))

    filled.options.projections.add(Telling())
    async with filled.build_projection_daemon() as daemon:
        await daemon.rebuild("telling")
        assert told == []
        await daemon.rewind("telling", 0)
        await daemon.start("telling")
        await daemon.wait_for("telling", 10)
    assert told == [3, 3]


# -- rewind --


async def test_a_rewound_shard_is_delivered_what_comes_after(filled, recorder, table):
    async with filled.build_projection_daemon() as daemon:
        await daemon.start_all()
        await daemon.wait_for_non_stale_results()
        await daemon.rewind("recorder", 7)
        assert states(daemon)["recorder"][0] == "running"
        await daemon.wait_for_non_stale_results()
    assert await table.sequences(filled) == [*range(1, 11), 8, 9, 10]


async def test_a_stopped_shard_stays_stopped_when_it_is_rewound(filled, recorder):
    async with filled.build_projection_daemon() as daemon:
        await daemon.rewind(Total, 4)
        assert states(daemon)["Total"] == ("stopped", 4)
        await daemon.rewind(Total, 0)
        assert states(daemon)["Total"] == ("stopped", 0)
    assert await totals(filled) == EXPECTED


async def test_a_rewind_forgets_the_dead_letters_that_come_again(filled, recorder, table):
    recorder.fails = lambda event: event.sequence in {3, 7}
    async with filled.build_projection_daemon() as daemon:
        await daemon.start_all()
        await daemon.wait_for_non_stale_results()
        recorder.fails = lambda event: False
        await daemon.rewind("recorder", 5)
        await daemon.wait_for_non_stale_results()
    assert [letter.sequence for letter in await filled.dead_letters()] == [3]
    assert 7 in await table.sequences(filled)


async def test_a_rewind_below_0_is_refused(filled):
    async with filled.build_projection_daemon() as daemon:
        with pytest.raises(ValueError, match="from 0: -1"):
            await daemon.rewind(Total, -1)
        assert states(daemon)["Total"] == ("stopped", 10)


# -- catch up --


async def test_catching_up_brings_every_shard_to_what_is_visible(filled, recorder, table):
    async with filled.build_projection_daemon() as daemon:
        await daemon.catch_up()
        assert states(daemon) == {"Total": ("stopped", 10), "recorder": ("stopped", 10)}
        await daemon.catch_up()
    assert await table.sequences(filled) == list(range(1, 11))


async def test_catching_up_raises_what_projections_raise_after_all_had_their_turn(
    store, recorder, make_recorder, table
):
    recorder.fails = lambda event: event.sequence == 2
    store.options.projections.add(make_recorder(name="other"))
    await append(store, uuid4(), *[Counted()] * 3)
    async with store.build_projection_daemon() as daemon:
        with pytest.raises(ExceptionGroup) as caught:
            await daemon.catch_up()
    (error,) = caught.value.exceptions
    assert "'recorder' stopped before the event with sequence 2: ValueError: " in str(caught.value)
    assert isinstance(error, EventFailedError)
    assert (error.shard, error.sequence) == ("recorder", 2)
    assert isinstance(error.__cause__, ValueError)
    assert await table.sequences(store, "other") == [1, 2, 3]
    assert await store.dead_letters() == []


async def test_catching_up_under_a_running_daemon_goes_on_afterwards(filled, recorder, table):
    async with filled.build_projection_daemon() as daemon:
        await daemon.start("recorder")
        await daemon.catch_up()
        assert states(daemon) == {"Total": ("stopped", 10), "recorder": ("running", 10)}
        await append(filled, uuid4(), Counted())
        await daemon.wait_for("recorder", 11)
    assert await table.sequences(filled) == list(range(1, 12))


async def test_trouble_is_told_to_the_logger_that_was_given(filled, recorder, caplog):
    recorder.async_options = AsyncOptions(on_error="stop")
    recorder.fails = bool
    logger = logging.getLogger("application.daemon")
    caplog.clear()
    async with filled.build_projection_daemon(logger=logger) as daemon:
        await daemon.start_all()
        with pytest.raises(StaleResultsError):
            await daemon.wait_for_non_stale_results()
    assert {record.name for record in caplog.records} == {"application.daemon"}
    assert "shard 'recorder' failed" in caplog.text


# -- places --


@pytest.mark.parametrize("begin", ["now", "inline"])
async def test_one_that_begins_now_is_delivered_everything_after_a_rewind_to_0(
    filled, make_recorder, table, begin
):
    late = make_recorder(name="late", async_options=AsyncOptions(start_from=begin))
    filled.options.projections.add(late)
    async with filled.build_projection_daemon() as daemon:
        await daemon.start("late")
        await daemon.wait_for("late", 10)
        await daemon.rewind("late", 0)
        await daemon.wait_for("late", 10)
    assert await table.sequences(filled, "late") == list(range(1, 11))


async def test_one_that_begins_now_and_never_ran_can_be_rewound_to_0(filled, make_recorder, table):
    filled.options.projections.add(
        make_recorder(name="late", async_options=AsyncOptions(start_from="now"))
    )
    async with filled.build_projection_daemon() as daemon:
        await daemon.rewind("late", 0)
        await daemon.start("late")
        await daemon.wait_for("late", 10)
    assert await table.sequences(filled, "late") == list(range(1, 11))


async def test_one_that_begins_now_in_an_empty_store_misses_nothing_while_it_is_stopped(
    store, make_recorder, table
):
    late = make_recorder(name="late", async_options=AsyncOptions(start_from="now"))
    store.options.projections.add(late)
    async with store.build_projection_daemon() as daemon:
        await daemon.start("late")
        await daemon.stop("late")
        await append(store, uuid4(), Counted(), Counted())
        await daemon.start("late")
        await daemon.wait_for("late", 2)
    assert await table.sequences(store, "late") == [1, 2]


async def test_a_rebuild_cut_off_after_its_teardown_is_not_taken_for_a_new_shard(
    filled, make_recorder, table
):
    late = make_recorder(name="late", async_options=AsyncOptions(start_from="now"))
    filled.options.projections.add(late)

    async def hang(_):
        scope.cancel()
        await trio.sleep_forever()

    async with filled.build_projection_daemon() as daemon:
        late.before = hang
        with trio.CancelScope() as scope:
            await daemon.rebuild("late")
        assert scope.cancelled_caught
        late.before = None
        await daemon.start("late")
        await daemon.wait_for("late", 10)
    assert await table.sequences(filled, "late") == list(range(1, 11))
