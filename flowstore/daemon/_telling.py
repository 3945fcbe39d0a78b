"""Where one shard stands, and telling of it."""

from collections.abc import Callable

import attrs
import trio

from flowstore.daemon._mark import Detector
from flowstore.daemon._reasons import InHand
from flowstore.daemon._status import ShardState, ShardStatus

__all__ = ["Telling", "once"]


@attrs.define(eq=False)
class Telling:
    """Keep where a shard stands, and tell whoever follows it of every change.

    Attributes:
        name: the shard's name.
        progress: the last sequence whose effects are known to be committed.
        state: where the shard stands in its life.
        target: of a rebuild or a catch-up: where it will be through.
        in_hand: what is being done.
    """

    name: str
    _detector: Detector
    _changed: Callable[[ShardStatus], None]
    in_hand: InHand = attrs.field(factory=InHand, init=False)
    state: ShardState = attrs.field(default="stopped", init=False)
    progress: int = attrs.field(default=0, init=False)
    target: int = attrs.field(default=0, init=False)
    _error: Exception | None = attrs.field(default=None, init=False)
    _reason: str = attrs.field(default="", init=False)
    _moved: trio.Event = attrs.field(factory=trio.Event, init=False)

    def status(self) -> ShardStatus:
        """Tell where the shard stands."""
        mark = max(self._detector.mark, self.target)
        return ShardStatus(
            name=self.name,
            state=self.state,
            progress=self.progress,
            high_water_mark=mark,
            lag=max(0, mark - self.progress),
            error=self._error,
            reason=self._reason or self._why_not(),
        )

    def set(self, state: ShardState, error: Exception | None = None) -> None:
        """Change the state; what was said about the one before is over."""
        self.state, self._error, self._reason = state, error, ""
        self._tell()

    def advance(self, progress: int) -> None:
        """Take note of what was committed."""
        self.progress = progress
        self._tell()

    def say(self, reason: str) -> None:
        """Give a reason why nothing moves; empty once something does."""
        self._reason = reason
        self._tell()

    def tell_if_stuck(self) -> None:
        """Tell when a page has been in hand for long, and when it no longer is."""
        if self.in_hand.has_news():
            self._tell()

    async def moved(self) -> None:
        """Wait for the next change of progress or state."""
        await self._moved.wait()

    async def reached(self, sequence: int) -> None:
        """Wait until everything up to a sequence is committed."""
        while self.progress < sequence:
            await self._moved.wait()

    def _why_not(self) -> str:
        if self.state == "stopped":
            return "it was not started, or was stopped"
        if self.state == "paused":
            return "it was paused"
        if self._error is not None:
            return f"{type(self._error).__name__}: {self._error}"
        return self.in_hand.why() or self._detector.why(self.progress)

    def _tell(self) -> None:
        self._moved.set()
        self._moved = trio.Event()
        self._changed(self.status())


def once(tell: Callable[[], None]) -> Callable[[], None]:
    """Make a function that tells the first time it is called, and never again."""
    told = False

    def tell_once() -> None:
        nonlocal told
        if not told:
            told = True
            tell()

    return tell_once
