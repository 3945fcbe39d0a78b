"""An event that can't be applied is set aside, or holds its shard; its siblings are applied once."""

import logging
from uuid import UUID, uuid4

import attrs
import pytest

from flowstore.daemon import EventFailedError
from flowstore.projections import AsyncOptions


@attrs.frozen
class Counted:
    by: int = 1


@attrs.frozen
class Other:
    pass


@attrs.define
class Total:
    id: UUID
    number: int = 0
    text: str = ""

    def apply(self, counted: Counted) -> None:
        if counted.by == 13:
            self.text = "\0"  # which PostgreSQL's JSON can't hold
        if counted.by == 17:
            raise ZeroDivisionError
        self.number += counted.by


async def append(store, *events, stream_id=None):
    stream_id = stream_id or uuid4()
    async with store.session() as session:
        session.events.append(stream_id, *events)
        await session.save_changes()
    return stream_id


async def store_by_hand(store, schema, type_name, data):
    """Insert an event as a foreign writer would."""
    async with store.connection() as connection:
        await connection.execute(
            f"insert into {schema}.events (stream_id, version, type, data) values (%s, 1, %s, %s)",
            (uuid4(), type_name, data),
        )
    store.notify()


async def run_to_the_end(store):
    async with store.build_projection_daemon() as daemon:
        await daemon.start_all()
        await daemon.wait_for_non_stale_results(timeout=60)
        return daemon.statuses()


@pytest.mark.parametrize("poisonous", [{1}, {4}, {10}, {1, 10}, {5, 6}, set(range(1, 11))])
async def test_poison_is_set_aside_and_its_siblings_are_applied_once(
    store, recorder, table, poisonous
):
    recorder.fails = lambda event: event.sequence in poisonous
    await append(store, *[Counted()] * 10)
    (status,) = await run_to_the_end(store)
    assert (status.progress, status.error) == (10, None)
    assert [letter.sequence for letter in await store.dead_letters()] == sorted(poisonous)
    assert await table.sequences(store) == [n for n in range(1, 11) if n not in poisonous]


async def test_a_dead_letter_tells_shard_place_error_and_traceback(store, recorder):
    recorder.fails = lambda event: event.sequence == 2
    await append(store, *[Counted()] * 3)
    await run_to_the_end(store)
    (letter,) = await store.dead_letters("recorder")
    assert (letter.shard, letter.sequence) == ("recorder", 2)
    assert (letter.error_type, letter.message) == ("ValueError", "event 2 is poison")
    assert "in apply" in letter.traceback
    assert letter.traceback.rstrip().endswith("ValueError: event 2 is poison")


async def test_a_dead_letters_message_and_traceback_are_bounded_and_say_so(store, recorder):
    def fail(event):
        raise ValueError(f"begin {'x' * 3_000_000} end")

    recorder.fails = fail
    await append(store, Counted())
    async with store.build_projection_daemon() as daemon:
        await daemon.start_all()
        await daemon.wait_for_non_stale_results(20)
    (letter,) = await store.dead_letters()
    assert letter.message.startswith("begin xxx")
    assert letter.message.endswith("xxx end")
    assert "\n[cut: 3,000,010 characters in all]\n" in letter.message
    assert letter.traceback.startswith("Traceback")
    assert "in apply" in letter.traceback
    assert "characters in all]" in letter.traceback
    assert len(letter.message) == len(letter.traceback) == 10_000


@pytest.mark.parametrize("length", [9_999, 10_000, 10_001])
async def test_a_message_that_is_short_enough_is_kept_whole(store, recorder, length):
    def fail(event):
        raise ValueError("x" * length)

    recorder.fails = fail
    await append(store, Counted())
    async with store.build_projection_daemon() as daemon:
        await daemon.start_all()
        await daemon.wait_for_non_stale_results(20)
    (letter,) = await store.dead_letters()
    assert (letter.message == "x" * length) is (length <= 10_000)
    assert len(letter.message) == min(length, 10_000)


async def test_an_error_that_postgresql_can_not_store_is_set_aside_too(store, recorder):
    def fail(event):
        raise ValueError("a NUL \0 and half a pair \ud800")

    recorder.fails = fail
    await append(store, Counted())
    await run_to_the_end(store)
    (letter,) = await store.dead_letters()
    assert letter.message.startswith("a NUL")


async def test_apply_sees_the_parts_of_a_page_in_order(store, recorder):
    recorder.fails = lambda event: event.sequence == 3
    await append(store, *[Counted()] * 4)
    await run_to_the_end(store)
    assert recorder.calls == [[1, 2, 3, 4], [1, 2], [3, 4], [3], [4]]


async def test_nothing_of_a_failing_part_is_written(store, recorder, table):
    """The recorder queues its row before it raises."""
    recorder.fails = lambda event: event.sequence == 2
    await append(store, Counted(), Counted())
    await run_to_the_end(store)
    assert await table.sequences(store) == [1]


async def test_an_aggregate_is_folded_without_the_poison(store):
    store.options.projections.aggregate_streams_with(Total)
    stream_id = await append(store, *[Counted(number) for number in (1, 17, 2, 13, 3)])
    other_id = await append(store, Counted(5))
    await run_to_the_end(store)
    assert await store.session().load(Total, stream_id) == Total(stream_id, 6)
    assert await store.session().load(Total, other_id) == Total(other_id, 5)
    letters = await store.dead_letters(Total)
    assert [letter.sequence for letter in letters] == [2, 4]
    assert letters[0].error_type == "ZeroDivisionError"


async def test_sql_that_postgresql_refuses_is_poison_like_any_other(store, table):
    class Refused:
        name = "refused"
        consumes = (Counted,)
        produces = None
        async_options = AsyncOptions()

        def apply(self, session, streams):
            for stream in streams:
                for event in stream.events:
                    insert = f"insert into {table.name} (shard, sequence) values ('refused', %s)"
                    session.execute(f"{insert} returning 1 / %s", event.sequence, event.data.by)

    store.options.projections.add(Refused())
    await append(store, Counted(1), Counted(0), Counted(1))
    await run_to_the_end(store)
    assert await table.sequences(store, "refused") == [1, 3]
    (letter,) = await store.dead_letters()
    assert (letter.sequence, letter.error_type) == (2, "DatabaseError")
    assert "division by zero" in letter.message


async def test_stop_holds_the_shard_before_the_event(store, recorder, table, until):
    recorder.async_options = AsyncOptions(on_error="stop")
    recorder.fails = lambda event: event.sequence == 4
    await append(store, *[Counted()] * 6)
    async with store.build_projection_daemon() as daemon:
        await daemon.start_all()
        status = await until(daemon, lambda status: status.state == "failed")
        assert (status.progress, status.lag) == (3, 3)
        assert isinstance(status.error, EventFailedError)
        assert status.error.sequence == 4
        assert isinstance(status.error.__cause__, ValueError)
        assert "event 4 is poison" in status.reason
    assert await table.sequences(store) == [1, 2, 3]
    assert await store.dead_letters() == []


async def test_a_failed_shard_goes_on_once_mended_and_started(store, recorder, table, until):
    recorder.async_options = AsyncOptions(on_error="stop")
    recorder.fails = lambda event: event.sequence == 4
    await append(store, *[Counted()] * 6)
    async with store.build_projection_daemon() as daemon:
        await daemon.start_all()
        await until(daemon, lambda status: status.state == "failed")
        recorder.fails = lambda event: False
        await daemon.start_all()
        await daemon.wait_for_non_stale_results()
        (status,) = daemon.statuses()
        assert (status.state, status.error, status.reason) == ("running", None, "")
    assert await table.sequences(store) == [1, 2, 3, 4, 5, 6]


async def test_a_failing_shard_leaves_its_siblings_alone(store, recorder, make_recorder, table):
    recorder.async_options = AsyncOptions(on_error="stop")
    recorder.fails = bool
    store.options.projections.add(make_recorder(name="sibling"))
    async with store.build_projection_daemon() as daemon:
        await daemon.start_all()
        await append(store, *[Counted()] * 3)
        await daemon.wait_for("sibling", 3)
        await append(store, Counted())
        await daemon.wait_for("sibling", 4)
    assert await table.sequences(store, "sibling") == [1, 2, 3, 4]


async def test_a_failure_is_logged_with_the_shards_name(store, recorder, until, caplog):
    recorder.async_options = AsyncOptions(on_error="stop")
    recorder.fails = bool
    await append(store, Counted())
    async with store.build_projection_daemon() as daemon:
        await daemon.start_all()
        await until(daemon, lambda status: status.state == "failed")
    (record,) = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert "shard 'recorder' failed" in record.getMessage()


async def test_what_fails_after_the_commit_is_no_poison(store, caplog, table):
    class Calling:
        name = "calling"
        consumes = ()
        produces = None
        async_options = AsyncOptions()

        def apply(self, session, streams):
            insert = f"insert into {table.name} (shard, sequence) values ('calling', %s)"
            session.execute(insert, streams[0].events[0].sequence)
            session.after_commit(lambda: 1 / 0)

    store.options.projections.add(Calling())
    await append(store, Counted())
    (status,) = await run_to_the_end(store)
    assert (status.state, status.progress) == ("running", 1)
    assert await table.sequences(store, "calling") == [1]
    assert await store.dead_letters() == []
    assert "division by zero" in caplog.text


async def test_a_projection_that_commits_is_poison(store):
    class Committing:
        name = "committing"
        consumes = ()
        produces = None
        async_options = AsyncOptions()

        async def apply(self, session, streams):
            await session.save_changes()

    store.options.projections.add(Committing())
    await append(store, Counted())
    await run_to_the_end(store)
    (letter,) = await store.dead_letters()
    assert "save_changes" in letter.message


# -- events that can't be decoded --


async def test_an_event_that_can_not_be_decoded_is_set_aside(store, recorder, table, schema):
    await append(store, Counted())
    await store_by_hand(store, schema, "counted", '{"by": "many"}')
    await append(store, Counted())
    await run_to_the_end(store)
    assert await table.sequences(store) == [1, 3]
    (letter,) = await store.dead_letters()
    assert (letter.shard, letter.sequence) == ("recorder", 2)
    assert "by" in letter.message


async def test_undecodable_and_poisonous_neighbours_are_set_aside_one_by_one(
    store, recorder, table, schema
):
    recorder.fails = lambda event: event.sequence in {1, 4}
    await append(store, Counted())
    await store_by_hand(store, schema, "counted", '{"by": "many"}')
    await store_by_hand(store, schema, "unheard_of", "{}")
    await append(store, Counted(), Counted())
    await run_to_the_end(store)
    assert await table.sequences(store) == [5]
    assert [each.sequence for each in await store.dead_letters()] == [1, 2, 3, 4]


async def test_stop_holds_before_what_can_not_be_decoded(store, recorder, table, schema, until):
    recorder.async_options = AsyncOptions(on_error="stop")
    await append(store, Counted(), Counted())
    await store_by_hand(store, schema, "counted", '{"by": "many"}')
    await append(store, Counted())
    async with store.build_projection_daemon() as daemon:
        await daemon.start_all()
        status = await until(daemon, lambda status: status.state == "failed")
    assert (status.progress, status.error.sequence) == (2, 3)
    assert await table.sequences(store) == [1, 2]


async def test_unknown_types_are_passed_over_by_who_says_what_it_consumes(
    store, make_recorder, table, schema
):
    recorder = make_recorder(Counted)
    store.options.projections.add(recorder)
    await append(store, Counted())
    await store_by_hand(store, schema, "unheard_of", "{}")
    await append(store, Counted())
    await run_to_the_end(store)
    assert await table.sequences(store) == [1, 3]
    assert await store.dead_letters() == []
    async with store.build_projection_daemon() as daemon:
        await daemon.rebuild("recorder")
    assert await table.sequences(store) == [1, 3]


async def test_unknown_types_are_set_aside_by_who_consumes_everything(
    store, recorder, table, schema
):
    await append(store, Counted())
    await store_by_hand(store, schema, "unheard_of", "{}")
    await run_to_the_end(store)
    (letter,) = await store.dead_letters()
    assert (letter.sequence, letter.error_type) == (2, "UnknownEventTypeError")
    assert "'unheard_of'" in letter.message
