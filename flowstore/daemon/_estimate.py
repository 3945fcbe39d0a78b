"""How far a rebuild is, and how long it will take, in words."""

from typing import Final

import attrs
import trio

from flowstore.daemon._status import ShardStatus

__all__ = ["Estimate", "Running"]

_TOO_EARLY: Final = 0.5
"""Seconds: before that, a first page and its connections say little about the others."""
_UNITS: Final = ((5400.0, 3600.0, "h"), (90.0, 60.0, "min"))
"""From how many seconds on a time is told in which unit of how many."""


@attrs.frozen
class Estimate:
    """Foretell the end of a replay from what it has done.

    Attributes:
        floor: where it began; exclusive.
        ceiling: where it ends.
        began: when it began, in seconds of any clock.
    """

    floor: int
    ceiling: int
    began: float

    def tell(self, progress: int, now: float) -> str:
        """Say what part is done, of how many sequences, and about how long the rest takes."""
        total = self.ceiling - self.floor
        done = min(max(progress - self.floor, 0), total)
        if total <= 0:
            return "rebuilding: nothing is left to read"
        # Rounded down: 100% is said when nothing is left.
        part = f"rebuilding: {100 * done // total}% of {total:,}"
        elapsed = now - self.began
        if not done or done == total or elapsed < _TOO_EARLY:
            return part
        return f"{part}, about {_in_words(elapsed / done * (total - done))} left"


@attrs.define(eq=False)
class Running:
    """Hold how far a rebuild is that is under way.

    Attributes:
        name: the name of its shard, or of what a shard of it would be called.
        estimate: of its end.
        progress: the last sequence that was applied.
        reason: why it doesn't move; empty while it does.
        has_shadow: whether the present view serves meanwhile.
        scope: stops it.
    """

    name: str
    estimate: Estimate
    progress: int = 0
    reason: str = ""
    has_shadow: bool = False
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)

    def status(self) -> ShardStatus:
        """Tell how far the rebuild is, in the place of a shard."""
        ceiling = self.estimate.ceiling
        lag = max(0, ceiling - self.progress)
        return ShardStatus(
            self.name, "rebuilding", self.progress, ceiling, lag, reason=self.told(self.progress)
        )

    def over(self) -> ShardStatus:
        """Tell that a rebuild of what has no shard is over."""
        reason = "it follows in the transactions that append"
        return ShardStatus(self.name, "stopped", self.progress, self.progress, 0, reason=reason)

    def told(self, progress: int) -> str:
        """Say what it waits for, or how far it is."""
        return self.reason or self.estimate.tell(progress, trio.current_time())


def _in_words(seconds: float) -> str:
    for least, size, unit in _UNITS:
        if seconds >= least:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 1):.0f} s"
