"""Where shards stand, for those who ask once and those who watch."""

from collections.abc import AsyncGenerator, Callable, Iterable
from typing import Literal

import attrs
import trio

__all__ = ["ShardState", "ShardStatus", "StatusBoard"]

ShardState = Literal["starting", "running", "stopped", "paused", "failed", "rebuilding"]


@attrs.frozen
class ShardStatus:
    """Tell where a shard stands.

    Attributes:
        name: the shard's name.
        state: starting, running, stopped, paused, failed or rebuilding.
        progress: the last sequence whose effects it has committed.
        high_water_mark: the sequence up to which it may read; 0 before it was found.
        lag: the mark minus progress, never below 0.
        error: what made it fail; None unless it has.
        reason: why it doesn't move; empty while it does.
    """

    name: str
    state: ShardState
    progress: int
    high_water_mark: int
    lag: int
    error: Exception | None = None
    reason: str = ""


class StatusBoard:
    """Lets watchers follow statuses; one that is slow sees the latest of each shard, not all."""

    def __init__(self, present: Callable[[], Iterable[ShardStatus]]) -> None:
        self._present = present
        self._watchers: list[_Watcher] = []

    def post(self, status: ShardStatus) -> None:
        """Show a changed status to all watchers."""
        for watcher in self._watchers:
            watcher.post(status)

    def post_all(self) -> None:
        """Show every shard's present status to all watchers, who see what has changed."""
        if self._watchers:
            for status in self._present():
                self.post(status)

    async def watch(self) -> AsyncGenerator[ShardStatus]:
        """Yield every shard's present status, then each change."""
        watcher = _Watcher()
        self._watchers.append(watcher)
        try:
            for status in self._present():
                watcher.post(status)
            while True:
                yield await watcher.next()
        finally:
            self._watchers.remove(watcher)


class _Watcher:
    """The changes that one watcher hasn't seen, the latest of each shard."""

    def __init__(self) -> None:
        self._latest: dict[str, ShardStatus] = {}
        self._unseen: dict[str, ShardStatus] = {}
        self._arrived = trio.Event()

    def post(self, status: ShardStatus) -> None:
        if status == self._latest.get(status.name):
            return
        self._latest[status.name] = self._unseen[status.name] = status
        self._arrived.set()

    async def next(self) -> ShardStatus:
        while not self._unseen:
            self._arrived = trio.Event()
            await self._arrived.wait()
        await trio.lowlevel.checkpoint()
        return self._unseen.pop(next(iter(self._unseen)))
