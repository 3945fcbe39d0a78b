"""What reads a store in pages waits out trouble with the database, wherever it meets it."""

import logging
from contextlib import aclosing, nullcontext

import pytest

from flowstore.daemon._pipeline import read_pages
from flowstore.daemon._retrying import Patience
from flowstore.errors import DatabaseUnavailableError
from flowstore.events import EventPage

LOG = logging.getLogger("flowstore.daemon")


class Unsteady:
    """A database that is gone at some of its answers, to which others are numbered."""

    def __init__(self, gone):
        self.gone = gone
        self.asked = 0

    def answer(self):
        self.asked += 1
        if self.asked in self.gone:
            raise DatabaseUnavailableError("terminating connection")

    async def above(self, sequence):
        self.answer()
        return sequence + 2

    async def fetch(self, floor, mark):
        self.answer()
        return EventPage(floor, mark, (), ())


async def pages_of(database, patience):
    reading = nullcontext(database.fetch)
    found = read_pages(database, reading, floor=0, ceiling=6, patience=patience)
    async with aclosing(found) as pages:
        return [(page.floor, page.ceiling) async for page in pages]


@pytest.mark.parametrize("gone", [{1}, {2}, {3, 4}, {5, 6, 7}, {1, 3, 5}])
async def test_a_mark_and_a_page_are_asked_for_until_there_is_an_answer(gone, autojump_clock):
    told = []
    patience = Patience(0.05, 1.0, LOG, told.append)
    database = Unsteady(gone)
    assert await pages_of(database, patience) == [(0, 2), (2, 4), (4, 6)]
    assert database.asked == 6 + len(gone)
    assert "terminating connection" in told[0]
    assert not told[-1]


@pytest.mark.parametrize("gone", [{1}, {2}])
async def test_who_has_no_patience_is_told_at_once(gone):
    with pytest.raises(DatabaseUnavailableError):
        await pages_of(Unsteady(gone), None)
