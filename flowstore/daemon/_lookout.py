"""Looking out for what keeps shards from moving."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Protocol

import trio

from flowstore.daemon._mark import Detector
from flowstore.daemon._needs import EventFeed
from flowstore.daemon._reasons import Hold, still_open
from flowstore.errors import FlowstoreError

if TYPE_CHECKING:
    from flowstore.store import OpenAppend

__all__ = ["Lookout"]

_EVERY: Final = 0.5
"""Seconds between two looks; what stands still for two of them is told."""


class _Watched(Protocol):
    """What may be stuck: a shard, or the detector."""

    def tell_if_stuck(self) -> None:
        """Have a reason told that has come up, or gone, since the last call."""
        ...


class Lookout:
    """Looks around twice a second, and has reasons told that nothing else would tell.

    What moves tells of itself. Who holds the mark is asked for here and not with each look for the
    mark, as it costs a look at all sessions.
    """

    def __init__(self, store: EventFeed, detector: Detector, shards: Sequence[_Watched]) -> None:
        self._store = store
        self._detector = detector
        self._watched = (detector, *shards)
        self._seen: Sequence[OpenAppend] = ()

    async def run(self) -> None:
        """Look for ever."""
        async with trio.open_nursery() as nursery:
            # Apart, because a database that doesn't answer is one of the things to be told.
            nursery.start_soon(self._look_at_shards)
            nursery.start_soon(self._look_at_appends)

    async def _look_at_shards(self) -> None:
        while True:
            await trio.sleep(_EVERY)
            for each in self._watched:
                each.tell_if_stuck()

    async def _look_at_appends(self) -> None:
        while True:
            await trio.sleep(_EVERY)
            try:
                found = await self._store.open_appends()
            except FlowstoreError:
                # The detector asks the same database, and tells what is wrong with it.
                found = ()
            self._detector.tell_hold(Hold(still_open(self._seen, found), trio.current_time()))
            self._seen = found
