"""When the detector looks: at once after an append, whenever that came, and never too early."""

import logging
from uuid import uuid4

import attrs
import pytest
import trio

from flowstore.daemon import DaemonSettings
from flowstore.daemon._mark import Detector, FreshMarks, Unhurried
from flowstore.store import EventStore, open_event_store

PATIENT = DaemonSettings(fast_polling_time=3600, slow_polling_time=3600, notifications=False)
"""Nobody looks again for having waited, while a test lasts."""


@attrs.frozen
class Counted:
    by: int = 1


async def append(store):
    async with store.session() as session:
        session.events.append(uuid4(), Counted())
        await session.save_changes()


class Overtaken(EventStore):
    """Appends an event after the first look, before whoever looked has the answer."""

    async def high_water(self, **options):
        mark = await super().high_water(**options)
        if mark == 0:
            await append(self)
        return mark


@pytest.fixture
async def overtaken(pg_dsn, options):
    async with open_event_store(pg_dsn, options, cls=Overtaken) as store:
        yield store


async def test_an_append_that_came_during_a_look_is_looked_for_at_once(overtaken):
    detector = Detector(overtaken, PATIENT, logging.getLogger())
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(detector.run)
            assert await detector.above(0) == 1
            nursery.cancel_scope.cancel()


async def test_who_looks_afresh_looks_again_for_an_append_that_came_meanwhile(overtaken):
    with trio.fail_after(20):
        assert await FreshMarks(overtaken, PATIENT).above(0) == 1


class Risen:
    """A mark that is where it is put."""

    def __init__(self, mark):
        self.mark = mark

    async def above(self, sequence):
        assert sequence < self.mark
        await trio.lowlevel.checkpoint()
        return self.mark


async def test_at_the_tail_what_comes_while_a_page_is_committed_makes_the_next_page():
    marks, committed = Risen(4), trio.Event()

    async def commit(sequence):
        assert sequence == 3
        marks.mark = 7
        committed.set()

    assert await Unhurried(marks, 10, commit).above(3) == 7
    assert committed.is_set()


async def test_a_whole_page_is_read_ahead():
    async def commit(_):
        raise AssertionError("nobody waits for a commit")

    assert await Unhurried(Risen(13), 10, commit).above(3) == 13
