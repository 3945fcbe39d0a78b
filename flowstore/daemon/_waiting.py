"""Waiting for shards to come to a place."""

import math
from collections.abc import Sequence

import trio

from flowstore.daemon._shard import Shard
from flowstore.errors import StaleResultsError

__all__ = ["wait_for_all", "wait_for_one"]


async def wait_for_all(
    shards: Sequence[Shard],
    target: int,
    timeout: float | None,  # noqa: ASYNC109  it lists every shard's place when it runs out
    poll: float,
) -> None:
    """Wait until all shards are at or above the target.

    Raises:
        StaleResultsError: time ran out, or a shard below the target has failed.
    """
    seconds = math.inf if timeout is None else timeout
    with trio.move_on_after(seconds) as scope:
        for shard in shards:
            while await _place(shard, target) < target:
                if any(each.state == "failed" and each.progress < target for each in shards):
                    raise StaleResultsError(target, seconds, _places(shards))
                await _change(shard, poll)
    if scope.cancelled_caught:
        raise StaleResultsError(target, seconds, _places(shards))


async def wait_for_one(shard: Shard, target: int, poll: float) -> None:
    """Wait until a shard is at or above the target."""
    while await _place(shard, target) < target:
        await _change(shard, poll)


async def _place(shard: Shard, target: int) -> int:
    """Find where a shard stands, asking the database only where nobody here would know."""
    if shard.progress >= target or shard.is_running:
        return shard.progress
    return await shard.look_up()


async def _change(shard: Shard, poll: float) -> None:
    """Wait for the shard to move, but not for ever.

    One that doesn't run here may run in another process; and while one stands still, another that
    is waited for may fail.
    """
    with trio.move_on_after(poll):
        await shard.moved()


def _places(shards: Sequence[Shard]) -> list[str]:
    lines: list[str] = []
    for shard in shards:
        status = shard.status()
        reason = f": {status.reason}" if status.reason else ""
        lines.append(f"{status.name} is {status.state} at {status.progress}{reason}")
    return lines
