"""Waiting for shards to come to a place."""

import logging
import math
from collections.abc import Awaitable, Callable, Sequence

import attrs
import trio

from flowstore.daemon._retrying import Patience
from flowstore.daemon._settings import DaemonSettings
from flowstore.daemon._shard import Shard
from flowstore.errors import StaleResultsError

__all__ = ["Wait"]


@attrs.define
class Wait:
    """Waits until shards have come to a place, while the database fails as well, if that passes.

    Shards that run wait such trouble out; whoever waits for them has to live as long.

    Attributes:
        settings: how often to try, and to look.
        log: is told of every attempt that failed.
        timeout: seconds from now; infinite waits for ever.
    """

    _settings: DaemonSettings
    _log: logging.Logger
    _timeout: float = math.inf
    _trouble: str = attrs.field(default="", init=False)

    async def for_all(
        self, shards: Sequence[Shard], find_target: Callable[[], Awaitable[int]]
    ) -> None:
        """Wait until all shards are at or above what is the target now.

        Raises:
            StaleResultsError: time ran out, or a shard below the target has failed.
            DatabaseError: the target couldn't be found in that time.
        """
        deadline = trio.current_time() + self._timeout
        # Found outside the scope: where there is nothing to wait for, no time is needed.
        target = await self._patience(deadline).attempt("looking for what is visible", find_target)
        with trio.move_on_at(deadline) as scope:
            for shard in shards:
                while await self._place(shard, target) < target:
                    if any(each.state == "failed" and each.progress < target for each in shards):
                        raise StaleResultsError(target, self._timeout, self._places(shards))
                    await self._change(shard)
        if scope.cancelled_caught:
            raise StaleResultsError(target, self._timeout, self._places(shards))

    async def for_one(self, shard: Shard, target: int) -> None:
        """Wait until a shard is at or above the target."""
        while await self._place(shard, target) < target:
            await self._change(shard)

    async def _place(self, shard: Shard, target: int) -> int:
        """Find where a shard stands, asking the database only where nobody here would know."""
        if shard.progress >= target or shard.is_running:
            return shard.progress
        return await self._patience().attempt(f"looking where {shard.name} stands", shard.look_up)

    async def _change(self, shard: Shard) -> None:
        """Wait for the shard to move, but not for ever.

        One that doesn't run here may run in another process; and while one stands still, another
        that is waited for may fail.
        """
        with trio.move_on_after(self._settings.slow_polling_time):
            await shard.moved()

    def _patience(self, deadline: float = math.inf) -> Patience:
        settings = self._settings
        return Patience(
            settings.retry_time, settings.longest_retry_time, self._log, self._note, deadline
        )

    def _note(self, trouble: str) -> None:
        self._trouble = trouble

    def _places(self, shards: Sequence[Shard]) -> list[str]:
        lines: list[str] = []
        for shard in shards:
            status = shard.status()
            reason = f": {status.reason}" if status.reason else ""
            lines.append(f"{status.name} is {status.state} at {status.progress}{reason}")
        return [*lines, self._trouble] if self._trouble else lines
