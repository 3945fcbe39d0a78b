"""How far it is safe to read: one detector a daemon, or a look of one's own."""

import logging
from typing import Protocol

import trio

from flowstore.daemon._retrying import Patience
from flowstore.daemon._settings import DaemonSettings
from flowstore.store import EventStore

__all__ = ["Detector", "FreshMarks", "Marks"]


class Marks(Protocol):
    """Gives high-water marks to read up to."""

    async def above(self, sequence: int) -> int:
        """Wait for a mark above a sequence."""
        ...


class Pace:
    """Decides how long to wait between two looks: short after news, longer with every blank."""

    def __init__(self, settings: DaemonSettings) -> None:
        self._fast = settings.fast_polling_time
        self._slow = max(settings.fast_polling_time, settings.slow_polling_time)
        self._wait = self._fast

    def after(self, *, news: bool) -> float:
        """Give the seconds to wait after a look that brought news, or didn't."""
        self._wait = self._fast if news else min(2 * self._wait, self._slow)
        return self._wait


class FreshMarks:
    """Looks at the store's mark whenever it is asked, and polls until it has risen enough."""

    def __init__(self, store: EventStore, settings: DaemonSettings) -> None:
        self._store = store
        self._settings = settings

    async def above(self, sequence: int) -> int:
        """Wait for a mark above a sequence."""
        pace = Pace(self._settings)
        while (mark := await self._store.high_water()) <= sequence:
            await self._store.wait_for_appends(pace.after(news=False))
        return mark


class Detector:
    """Finds the mark for all shards of a daemon, also while their sinks are stuck.

    Woken by appends in this process and by notifications of others; polling is the backstop that
    makes a lost notification harmless. After a look that finds events still hidden behind an open
    append, the next one comes soon.
    """

    def __init__(self, store: EventStore, settings: DaemonSettings, log: logging.Logger) -> None:
        self._store = store
        self._settings = settings
        self._patience = Patience(
            settings.retry_time, settings.longest_retry_time, log, self._explain
        )
        self._risen = trio.Event()
        self.mark = 0
        self.trouble = ""

    async def above(self, sequence: int) -> int:
        """Wait for a mark above a sequence."""
        while self.mark <= sequence:
            await self._risen.wait()
        return self.mark

    async def run(self) -> None:
        """Look for ever."""
        if self._settings.notifications:
            async with self._store.listening():
                await self._look_for_ever()
        else:
            await self._look_for_ever()

    async def _look_for_ever(self) -> None:
        pace = Pace(self._settings)
        while True:
            mark = await self._patience.attempt("looking for the high-water mark", self._look)
            news = mark > self.mark
            if news:
                self.mark = mark
                self._risen.set()
                self._risen = trio.Event()
            await self._store.wait_for_appends(pace.after(news=news))

    def _explain(self, trouble: str) -> None:
        self.trouble = trouble

    async def _look(self) -> int:
        return await self._store.high_water(leading_edge_buffer=self._settings.leading_edge_buffer)
