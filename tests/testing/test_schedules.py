"""Drawn schedules are played as they say, and a reader may see what the moment says."""

from contextlib import aclosing
from uuid import UUID

import attrs
import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

from flowstore.store import StoreOptions
from flowstore.testing import (
    CommitSchedule,
    MemoryStore,
    WriterStep,
    check_no_skip_no_repeat,
    commit_schedules,
    play_schedule,
)


@attrs.frozen
class Counted:
    by: int


SCHEDULES = commit_schedules(Counted)
FINDING = settings(phases=[Phase.generate], max_examples=10_000, database=None)
FIRST, SECOND = UUID(int=1), UUID(int=2)


def draws(writer, *numbers, stream_id=None):
    data = tuple(Counted(number) for number in numbers)
    return WriterStep("draw", writer, stream_id or UUID(int=writer), data)


async def moments_of(steps, store):
    async with aclosing(play_schedule(CommitSchedule(tuple(steps)), store)) as moments:
        return [moment async for moment in moments]


@given(schedule=SCHEDULES, scheduler=st.random_module())
async def test_a_store_shows_a_reader_what_the_moment_says(schedule, scheduler):
    store = MemoryStore()
    async with aclosing(play_schedule(schedule, store)) as moments:
        async for moment in moments:
            mark = await store.high_water()
            page = await store.fetch_page(0, mark, limit=1000)
            check_no_skip_no_repeat(page.events, moment.readable)
            everything = await store.fetch_page(0, await store.highest_sequence(), limit=1000)
            check_no_skip_no_repeat(everything.events, moment.visible)
            assert not moment.held or mark < moment.held[0]


@given(schedule=SCHEDULES)
def test_whoever_draws_ends_and_nobody_waits_for_a_stream(schedule):
    held = {}
    for step in schedule.steps:
        if step.verb == "draw":
            assert step.stream_id not in held.values()
            assert step.data
            held[step.writer] = step.stream_id
        else:
            del held[step.writer]
    assert held == {}


@pytest.mark.parametrize("shape", ["a gap", "out of order", "both"])
async def test_gaps_and_commits_out_of_order_are_drawn(shape):
    def has(schedule):
        ends = [step.writer for step in schedule.steps if step.verb == "commit"]
        gap = any(step.verb == "roll back" for step in schedule.steps)
        wrong = ends != sorted(ends)
        return {"a gap": gap, "out of order": wrong, "both": gap and wrong}[shape]

    schedule = find(SCHEDULES, has, settings=FINDING)
    assert await moments_of(schedule.steps, MemoryStore())


async def test_a_later_number_is_visible_before_an_earlier_one():
    steps = [draws(1, 1, 2), draws(2, 3), WriterStep("commit", 2), WriterStep("commit", 1)]
    _, _, early, late = await moments_of(steps, MemoryStore())
    assert [each.sequence for each in early.visible] == [3]
    assert (early.readable, early.held) == ((), (1, 2))
    assert [each.sequence for each in late.readable] == [1, 2, 3]


async def test_what_was_rolled_back_leaves_a_hole():
    store = MemoryStore()
    steps = [draws(1, 1), WriterStep("roll back", 1), draws(2, 2), WriterStep("commit", 2)]
    *_, last = await moments_of(steps, store)
    assert [each.sequence for each in last.readable] == [2]


async def test_whoever_leaves_early_rolls_back_what_is_open():
    store = MemoryStore()
    async with aclosing(play_schedule(CommitSchedule((draws(1, 1),)), store)) as moments:
        async for _ in moments:
            break
    assert await store.highest_sequence() == 0
    async with store.session() as session:
        session.events.append(UUID(int=1), Counted(1))
        await session.save_changes()


async def test_tenants_have_streams_of_their_own():
    store = MemoryStore(StoreOptions(tenancy="conjoined"))
    schedules = commit_schedules(Counted, tenants=["a", "b"], max_streams=1)

    def both_commit(drawn):
        owners = {step.tenant_id for step in drawn.steps if step.verb == "draw"}
        return owners == {"a", "b"} and all(step.verb != "roll back" for step in drawn.steps)

    schedule = find(schedules, both_commit, settings=FINDING)
    *_, last = await moments_of(schedule.steps, store)
    assert {each.tenant_id for each in last.visible} == {"a", "b"}


@pytest.mark.parametrize(
    "steps",
    [
        [WriterStep("commit", 1)],
        [draws(1, 1), draws(1, 2, stream_id=SECOND)],
        [draws(1, 1), draws(2, 2, stream_id=FIRST)],
        [WriterStep("draw", 1, None, (Counted(1),))],
    ],
)
async def test_what_cannot_be_played_is_refused(steps):
    with pytest.raises(ValueError, match="writer"):
        await moments_of(steps, MemoryStore())


def test_a_schedule_tells_itself_in_a_line():
    schedule = CommitSchedule((draws(1, 1, 2), WriterStep("roll back", 1)))
    assert str(schedule) == f"1 draws 2 for {str(FIRST)!r}; 1 rolls back"
