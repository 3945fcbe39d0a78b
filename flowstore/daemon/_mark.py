"""How far it is safe to read: one detector a daemon, or a look of one's own."""

import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol, TypeAlias

import trio

from flowstore.daemon._needs import EventFeed
from flowstore.daemon._reasons import Hold, InHand
from flowstore.daemon._retrying import Patience
from flowstore.daemon._settings import DaemonSettings

__all__ = ["Detector", "FreshMarks", "Marks", "Unhurried"]

_Call: TypeAlias = Callable[[], None]
_Look: TypeAlias = Callable[[int, float], Awaitable[int]]


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

    def __init__(self, store: EventFeed, settings: DaemonSettings) -> None:
        self._store = store
        self._settings = settings

    async def above(self, sequence: int) -> int:
        """Wait for a mark above a sequence."""
        pace = Pace(self._settings)
        heard = self._store.appends_heard
        while (mark := await self._store.high_water()) <= sequence:
            await _wait_for_more(self._store, heard, pace.after(news=False))
            heard = self._store.appends_heard
        return mark


class Unhurried:
    """Gives a shard at the tail no mark before it has committed what it has read.

    Pages at the tail are as small as events are few. Read ahead one by one they would be committed
    one by one, however far behind the shard falls for it; so what comes while a page is being
    committed makes the next page. Whoever has a whole page to read reads ahead.

    Attributes:
        marks: where the marks come from.
        page_size: how many numbers make a page that is worth reading ahead.
        committed: waits until the shard has committed everything up to a sequence.
    """

    def __init__(
        self, marks: Marks, page_size: int, committed: Callable[[int], Awaitable[None]]
    ) -> None:
        self._marks = marks
        self._page_size = page_size
        self._committed = committed

    async def above(self, sequence: int) -> int:
        """Wait for a mark above a sequence, and at the tail for what was read before."""
        mark = await self._marks.above(sequence)
        if mark - sequence >= self._page_size:
            return mark
        await self._committed(sequence)
        return await self._marks.above(sequence)


class Detector:
    """Finds the mark for all shards of a daemon, also while their sinks are stuck.

    Woken by appends in this process and by notifications of others; polling is the backstop that
    makes a lost notification harmless. After a look that finds events still hidden behind an open
    append, the next one comes soon.

    Attributes:
        mark: the sequence that may be read up to; 0 before the first look.
        changed: called when the mark has risen, and when why it doesn't is another.
        look: asks the store, given the mark so far and the leading edge's seconds.
        handing: has events handed over while its block runs; without a leading edge alone.
        handed: tells how far events lead on from the mark that need no look; 0: nowhere.
    """

    def __init__(self, store: EventFeed, settings: DaemonSettings, log: logging.Logger) -> None:
        self._store = store
        self._settings = settings
        self._log = log
        self._patience = Patience(
            settings.retry_time, settings.longest_retry_time, log, self._explain
        )
        self._risen = trio.Event()
        self._in_hand = InHand()
        self._hold = Hold()
        self._trouble = ""
        self.mark = 0
        self.changed: _Call = _nothing
        self.look: _Look = self._ask
        self.handing: Callable[[], AbstractContextManager[None]] = nullcontext
        self.handed: Callable[[int], int] = _nowhere

    async def above(self, sequence: int) -> int:
        """Wait for a mark above a sequence."""
        while self.mark <= sequence:
            await self._risen.wait()
        return self.mark

    def why(self, progress: int) -> str:
        """Tell why a shard that stands somewhere can't read on; empty if nothing is known."""
        if self._trouble:
            return self._trouble
        # What the mark has passed can be read, whoever holds it above.
        return self._in_hand.why() or (self._hold.why() if progress >= self.mark else "")

    def tell_if_stuck(self) -> None:
        """Tell when a look has taken long, and when it is over."""
        if self._in_hand.has_news():
            self.changed()

    def tell_hold(self, hold: Hold) -> None:
        """Take note of who holds the mark."""
        before, self._hold = self._hold, hold
        if hold.is_by_others_than(before):
            self.changed()

    async def run(self) -> None:
        """Look for ever."""
        is_exact = self._settings.leading_edge_buffer <= 0
        with self.handing() if is_exact else nullcontext():
            if self._settings.notifications:
                async with self._store.listening():
                    await self._look_for_ever()
            else:
                await self._look_for_ever()

    async def _look_for_ever(self) -> None:
        pace = Pace(self._settings)
        while True:
            heard = self._store.appends_heard
            mark = self.handed(self.mark) or await self._look_until_told()
            news = mark > self.mark
            if news:
                self.mark = mark
                self._risen.set()
                self._risen = trio.Event()
                self.changed()
            await _wait_for_more(self._store, heard, pace.after(news=news))

    async def _look_until_told(self) -> int:
        """Look until there is an answer, whatever the trouble: it may be mended under way.

        It never ends the daemon: shards stand still with the reason, and go on afterwards.
        """
        while True:
            try:
                mark = await self._patience.attempt("looking for the high-water mark", self._look)
            except Exception as error:  # noqa: BLE001  whatever it is, it is told and tried again
                self._tell_lasting(error)
                await trio.sleep(self._settings.longest_retry_time)
            else:
                self._explain("")
                return mark

    def _tell_lasting(self, error: Exception) -> None:
        trouble = f"the high-water mark can't be found: {type(error).__name__}: {error}"
        if trouble != self._trouble:
            self._log.error("%s; trying again", trouble, exc_info=error)
        self._explain(trouble)

    def _explain(self, trouble: str) -> None:
        before, self._trouble = self._trouble, trouble
        if trouble != before:
            self.changed()

    async def _look(self) -> int:
        with self._in_hand.doing("the database has not told the high-water mark"):
            return await self.look(self.mark, self._settings.leading_edge_buffer)

    async def _ask(self, _: int, leading_edge_buffer: float) -> int:
        return await self._store.high_water(leading_edge_buffer=leading_edge_buffer)


async def _wait_for_more(store: EventFeed, heard: int, seconds: float) -> None:
    """Wait for an append, unless one was heard of since the last look began, which missed it."""
    if store.appends_heard == heard:
        await store.wait_for_appends(seconds)


def _nothing() -> None:
    """Do nothing."""


def _nowhere(_: int) -> int:
    return 0
