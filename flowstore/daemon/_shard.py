"""One running projection: its pipeline, its state, and what it tells."""

import logging
import math
from collections.abc import AsyncGenerator, Awaitable, Callable
from functools import partial
from typing import Literal

import trio

from flowstore.blocks import ActionBlock, Network, SourceBlock, pipe
from flowstore.daemon._applier import Applier
from flowstore.daemon._claiming import Claiming, claim_place, first_place
from flowstore.daemon._groups import bare
from flowstore.daemon._lease import LeaseLostError, Ownership
from flowstore.daemon._mark import Detector, FreshMarks, Marks
from flowstore.daemon._pipeline import group_by_stream, read_pages
from flowstore.daemon._reasons import InHand
from flowstore.daemon._retrying import Patience
from flowstore.daemon._settings import DaemonSettings
from flowstore.daemon._sharing import SharedPages
from flowstore.daemon._status import ShardState, ShardStatus
from flowstore.errors import FlowstoreError
from flowstore.events import EventPage
from flowstore.projections import Registration
from flowstore.store import Claim, EventStore

__all__ = ["Shard", "ShardStoppedError"]


Wanted = Literal["running", "paused", "stopped"]


def _nothing() -> None:
    """Do nothing."""


def once(tell: Callable[[], None]) -> Callable[[], None]:
    """Make a function that tells the first time it is called, and never again."""
    told = False

    def tell_once() -> None:
        nonlocal told
        if not told:
            told = True
            tell()

    return tell_once


class ShardStoppedError(FlowstoreError):
    """A replay was stopped before its end.

    Attributes:
        shard: the shard's name.
        progress: how far it had come.
        ceiling: how far it was to come.
    """

    def __init__(self, shard: str, progress: int, ceiling: int) -> None:
        super().__init__(
            f"shard {shard!r} was stopped at sequence {progress}, on its way to {ceiling}"
        )
        self.shard = shard
        self.progress = progress
        self.ceiling = ceiling


class RunEndedError(FlowstoreError):
    """A run ended that nobody had stopped: it would stand still, and nobody would know why.

    Attributes:
        shard: the shard's name.
    """

    def __init__(self, shard: str) -> None:
        super().__init__(
            f"shard {shard!r} ended although nobody stopped it: something in it raised a"
            " trio.Cancelled of a scope that is over; let a cancellation go where it came from"
        )
        self.shard = shard


class Shard:
    """Runs one projection, at most one run at a time.

    ```
    mark ──▶ SourceBlock fetch, decode ──▶ TransformBlock group ──▶ ActionBlock apply + commit
    ```

    A run that fails leaves the shard `failed`, with the error in its status and in the log, and
    nothing else: its siblings go on.

    Attributes:
        registration: the projection it runs.
        turn: held by whoever starts, replays or moves the shard, one at a time. Stopping needs no
            turn, so that a replay can be stopped.
        wanted: what it was last told to be; a replay in between changes nothing about that.
    """

    def __init__(
        self,
        store: EventStore,
        registration: Registration,
        settings: DaemonSettings,
        detector: Detector,
        ownership: Ownership,
        *,
        pages: SharedPages,
        commits: trio.CapacityLimiter,
        changed: Callable[[ShardStatus], None],
        log: logging.Logger,
    ) -> None:
        self.registration = registration
        self.turn = trio.Lock()
        self.wanted: Wanted = "stopped"
        self._log = log
        self._store = store
        self._settings = settings
        self._detector = detector
        self._ownership = ownership
        self._shared = pages
        self._commits = commits
        self._in_hand = InHand()
        self._changed = changed
        self._state: ShardState = "stopped"
        self._progress = 0
        self._target = 0  # of a rebuild or a catch-up: where it will be through
        self._error: Exception | None = None
        self._reason = ""
        self._moved = trio.Event()
        self._source: SourceBlock[EventPage] | None = None
        self._scope = trio.CancelScope()
        self._over = trio.Event()
        self._over.set()
        self._work = trio.CancelScope()
        self._is_halting = False
        self._is_barred = False  # told to stop since a replay got its turn
        self._waiting: tuple[str, int | None] | None = None

    # -- telling -----------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The shard's name."""
        return self.registration.shard

    @property
    def progress(self) -> int:
        """The last sequence whose effects are known to be committed."""
        return self._progress

    @property
    def state(self) -> ShardState:
        """Where the shard stands in its life."""
        return self._state

    @property
    def is_running(self) -> bool:
        """Whether a run is under way, or being begun or ended."""
        return not self._over.is_set()

    @property
    def is_halting(self) -> bool:
        """Whether a run is on its way out."""
        return self.is_running and self._is_halting

    def status(self) -> ShardStatus:
        """Tell where the shard stands."""
        mark = max(self._detector.mark, self._target)
        return ShardStatus(
            name=self.name,
            state=self._state,
            progress=self._progress,
            high_water_mark=mark,
            lag=max(0, mark - self._progress),
            error=self._error,
            reason=self._reason or self._why_not(),
        )

    def _why_not(self) -> str:
        if self._state == "stopped":
            return "it was not started, or was stopped"
        if self._state == "paused":
            return "it was paused"
        if self._error is not None:
            return f"{type(self._error).__name__}: {self._error}"
        return self._in_hand.why() or self._detector.why(self._progress)

    def _set(self, state: ShardState, error: Exception | None = None) -> None:
        self._state, self._error, self._reason = state, error, ""
        self._tell()

    def _tell(self) -> None:
        self._moved.set()
        self._moved = trio.Event()
        self._changed(self.status())

    def _advance(self, progress: int) -> None:
        self._progress = progress
        self._tell()

    def _say(self, reason: str) -> None:
        self._reason = reason
        self._tell()

    def tell_if_stuck(self) -> None:
        """Tell when a page has been in hand for long, and when it no longer is."""
        if self._in_hand.has_news():
            self._tell()

    async def moved(self) -> None:
        """Wait for the next change of progress or state."""
        await self._moved.wait()

    async def look_up(self) -> int:
        """Read the committed progress, of which another process may know more."""
        if self._source is None:
            self._progress = await self._store.progress(self.registration.projection)
        return self._progress

    # -- running -----------------------------------------------------------------------------

    def patience(self) -> Patience:
        """Wait out trouble with the database, saying so in the status."""
        return Patience(
            self._settings.retry_time, self._settings.longest_retry_time, self._log, self._say
        )

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run until stopped or failed; never raises but for cancellation.

        Started once it runs, or once it is clear that it has to wait: paused, or for another
        process.
        """
        begun = once(task_status.started)
        self._begin("starting")
        state: ShardState = "stopped"
        failure: Exception | None = None
        try:
            with self._scope:
                await self._rest(begun)
                while not self._is_halting and not await self._hold(begun):
                    await self._rest(begun)
        except Exception as error:  # noqa: BLE001  whatever it is, it stays with this shard
            state, failure = "failed", bare(error)
            self._log.error("shard %r failed: %s", self.name, failure, exc_info=failure)
        finally:
            begun()
            self._end(state, failure)

    async def _hold(self, begun: Callable[[], None]) -> bool:
        """Run for as long as the shard is this daemon's; tells whether it was until the end."""
        projection = self.registration.projection
        try:
            async with self._ownership.of(projection, partial(self._wait, begun)) as claiming:
                await self._follow(claiming, begun)
                await self._rest(begun)
        except LeaseLostError as lost:
            self._log.warning("%s", lost)
            self._set("starting")
            self._say(str(lost))
            return False
        return True

    async def _follow(self, claiming: Claiming, begun: Callable[[], None]) -> None:
        projection = self.registration.projection
        work = partial(claim_place, self._store, projection, claiming)
        claim = await self.patience().attempt("claiming the shard", work)
        self._advance(claim.sequence)
        pages = partial(self._pages, self._detector, claim.sequence, math.inf)
        applier = self._applier(projection.async_options.on_error, claim)
        await self._flow(pages, applier, "running", begun)
        if not self._is_halting and self.wanted != "paused":
            raise RunEndedError(self.name)

    def _wait(self, begun: Callable[[], None], reason: str, progress: int | None) -> None:
        """Tell who has the shard, and where that one has brought it."""
        if progress is not None:
            self._progress = progress
        if (reason, progress) != self._waiting:
            self._waiting = (reason, progress)
            self._say(reason)
        begun()

    async def _rest(self, begun: Callable[[], None]) -> None:
        """Stand still for as long as the shard is to be paused; whoever starts it halts this."""
        if self.wanted == "paused":
            self._set("paused")
            begun()
            await trio.sleep_forever()

    def _begin(self, state: ShardState) -> None:
        self._over = trio.Event()
        self._scope = trio.CancelScope()
        self._source = None
        self._is_halting = False
        self._waiting = None
        self._set(state)

    def _end(self, state: ShardState, failure: Exception | None) -> None:
        self._target = 0
        if state == "stopped" and self.wanted == "paused":
            state = "paused"
        self._set(state, failure)
        self._over.set()

    async def replay(self, ceiling: int, *, rebuilding: bool) -> None:
        """Run from the progress to a ceiling, in the caller's task.

        Rebuilding, everything the projection has written is deleted first.

        Raises:
            Exception: what the projection raised, as `EventFailedError`; trouble with the database.
            ShardStoppedError: the shard was stopped before it came to the ceiling.
        """
        if self._is_barred:
            raise ShardStoppedError(self.name, self._progress, ceiling)
        shown: ShardState = "rebuilding" if rebuilding else "running"
        self._target = ceiling
        self._begin(shown)
        state: ShardState = "stopped"
        failure: Exception | None = None
        try:
            with self._scope:
                await self._replay(ceiling, rebuilding=rebuilding)
        except Exception as error:  # noqa: BLE001  whatever it is, the status shows it too
            state, failure = "failed", bare(error)
            raise failure from failure.__cause__
        finally:
            self._end(state, failure)
        if self._progress < ceiling:
            raise ShardStoppedError(self.name, self._progress, ceiling)

    async def _replay(self, ceiling: int, *, rebuilding: bool) -> None:
        projection = self.registration.projection
        if not rebuilding:
            standing = await self._store.standing(projection)
            if standing.started and standing.sequence >= ceiling:
                self._advance(standing.sequence)  # and whoever owns it goes on
                return
        wait = partial(self._wait, _nothing)
        async with self._ownership.of(projection, wait, insist=True) as claiming:
            if rebuilding:
                # Before the documents are gone, so that nobody who waits takes them for fresh.
                self._advance(0)
                place = await first_place(self._store, projection, rebuilding=True)
                await self._store.teardown(projection, place=place)
            claim = await claim_place(self._store, projection, claiming)
            self._advance(claim.sequence)
            options = projection.async_options
            applier = self._applier(options.on_rebuild_error if rebuilding else "stop", claim)
            applier.rebuilding = rebuilding
            marks = FreshMarks(self._store, self._settings)
            pages = partial(self._pages, marks, claim.sequence, ceiling)
            await self._flow(pages, applier, self._state)

    async def _flow(
        self,
        pages: Callable[[], AsyncGenerator[EventPage]],
        applier: Applier,
        state: ShardState,
        begun: Callable[[], None] = _nothing,
    ) -> None:
        """Assemble the pipeline and run it to its end."""
        self._work = trio.CancelScope()
        try:
            with self._work:
                async with Network(name=self.name) as network:
                    source = SourceBlock(
                        pages,
                        bounded_capacity=self._settings.pages_ahead,
                        name="fetch, decode",
                    )
                    apply = self._in_hand.noting(applier.apply)
                    sink = ActionBlock(apply, bounded_capacity=1, name="apply, commit")
                    network.add(pipe(source, group_by_stream(), sink))
                    self._source = source
                    self._set(state)
                    begun()
        finally:
            self._source = None

    def _pages(self, marks: Marks, floor: int, ceiling: float) -> AsyncGenerator[EventPage]:
        reading = self._shared.reading(self.registration.projection, floor, self._in_hand)
        return read_pages(marks, reading, floor=floor, ceiling=ceiling, patience=self.patience())

    def _applier(self, on_error: str, claim: Claim) -> Applier:
        return Applier(
            self._store,
            self.registration.projection,
            claim,
            on_error="stop" if on_error == "stop" else "dead_letter",
            patience=self.patience(),
            commits=self._commits,
            committed=self._advance,
            log=self._log,
        )

    # -- ending ------------------------------------------------------------------------------

    async def stop(self) -> None:
        """End the run, and be stopped from now on, also after a replay that is about to begin."""
        self.wanted = "stopped"
        self._is_barred = True
        await self.halt()
        if self._state == "paused":
            self._set("stopped")

    async def pause(self) -> None:
        """Come to rest without giving the shard away; it is stopped otherwise, if it runs."""
        if not self.is_running:
            return
        self.wanted = "paused"
        if self._source is None:
            await self.halt()
            return
        self._source.complete()
        await self._drain(self._resting, self._work)

    async def halt(self) -> None:
        """End the run: pages in hand are finished if that is soon, else rolled back."""
        if not self.is_running:
            return
        self._is_halting = True
        if self._source is None:
            self._scope.cancel()
        else:
            self._source.complete()
        await self._drain(self._over.wait, self._scope)

    def unbar(self) -> None:
        """Forget that it was stopped: what comes next was asked for afterwards."""
        self._is_barred = False

    async def _resting(self) -> None:
        while self.is_running and self._state != "paused":
            await self.moved()

    async def _drain(self, wait: Callable[[], Awaitable[object]], work: trio.CancelScope) -> None:
        with trio.move_on_after(self._settings.stop_and_drain_timeout) as drain:
            await wait()
        if drain.cancelled_caught:
            self._log.warning(
                "shard %r did not finish its pages within %s s: they are rolled back",
                self.name,
                self._settings.stop_and_drain_timeout,
            )
            work.cancel()
            await wait()
