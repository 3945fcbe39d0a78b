"""One running projection: its pipeline, its state, and what it tells."""

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Literal

import trio

from flowstore.daemon._claiming import Claiming, claim_place
from flowstore.daemon._course import Course
from flowstore.daemon._endings import RunEndedError, ShardStoppedError
from flowstore.daemon._flow import Flow, Leg
from flowstore.daemon._groups import bare
from flowstore.daemon._lease import LeaseLostError, Ownership
from flowstore.daemon._mark import Detector, FreshMarks, Unhurried
from flowstore.daemon._needs import DaemonStore
from flowstore.daemon._replaying import replaying
from flowstore.daemon._retrying import Patience
from flowstore.daemon._settings import DaemonSettings
from flowstore.daemon._sharing import SharedPages
from flowstore.daemon._status import ShardState, ShardStatus
from flowstore.daemon._telling import Telling, once
from flowstore.projections import Registration

__all__ = ["Shard", "ShardStoppedError"]


Wanted = Literal["running", "paused", "stopped"]


def _nothing() -> None:
    """Do nothing."""


class Shard:
    """Runs one projection, at most one run at a time.

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
        store: DaemonStore,
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
        self._telling = Telling(registration.shard, detector, changed)
        self._course: Course | None = None
        self._scope = trio.CancelScope()
        self._over = trio.Event()
        self._over.set()
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
        return self._telling.progress

    @property
    def state(self) -> ShardState:
        """Where the shard stands in its life."""
        return self._telling.state

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
        return self._telling.status()

    def tell_if_stuck(self) -> None:
        """Tell when a page has been in hand for long, and when it no longer is."""
        self._telling.tell_if_stuck()

    async def moved(self) -> None:
        """Wait for the next change of progress or state."""
        await self._telling.moved()

    @property
    def _flowing(self) -> Course | None:
        """The run of the pipeline, while there is one that can be told to finish."""
        return self._course if self._course is not None and self._course.is_flowing else None

    async def look_up(self) -> int:
        """Read the committed progress, of which another process may know more."""
        if self._flowing is None:
            self._telling.progress = await self._store.progress(self.registration.projection)
        return self._telling.progress

    # -- running -----------------------------------------------------------------------------

    def patience(self) -> Patience:
        """Wait out trouble with the database, saying so in the status."""
        return Patience(
            self._settings.retry_time,
            self._settings.longest_retry_time,
            self._log,
            self._telling.say,
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
                await self._rest(begun)  # was paused before: the shard stays this daemon's
                await self._follow(claiming, begun)
                await self._rest(begun)
        except LeaseLostError as lost:
            self._log.warning("%s", lost)
            self._telling.set("starting")
            self._telling.say(str(lost))
            return False
        return True

    async def _follow(self, claiming: Claiming, begun: Callable[[], None]) -> None:
        projection = self.registration.projection
        work = partial(claim_place, self._store, projection, claiming)
        claim = await self.patience().attempt("claiming the shard", work)
        self._telling.advance(claim.sequence)
        options = projection.async_options
        marks = Unhurried(self._detector, options.page_size, self._telling.reached)
        leg = Leg(claim=claim, marks=marks, on_error=options.on_error)
        await self._flow(leg, "running", begun)
        if not self._is_halting and self.wanted != "paused":
            raise RunEndedError(self.name)

    def _wait(self, begun: Callable[[], None], reason: str, progress: int | None) -> None:
        """Tell who has the shard, and where that one has brought it."""
        if progress is not None:
            self._telling.progress = progress
        if (reason, progress) != self._waiting:
            self._waiting = (reason, progress)
            self._telling.say(reason)
        begun()

    async def _rest(self, begun: Callable[[], None]) -> None:
        """Stand still for as long as the shard is to be paused; whoever starts it halts this."""
        if self.wanted == "paused":
            self._telling.set("paused")
            begun()
            await trio.sleep_forever()

    def _begin(self, state: ShardState) -> None:
        self._over = trio.Event()
        self._scope = trio.CancelScope()
        self._is_halting = False
        self._waiting = None
        self._telling.set(state)

    def _end(self, state: ShardState, failure: Exception | None) -> None:
        self._telling.target = 0
        if state == "stopped" and self.wanted == "paused":
            state = "paused"
        self._telling.set(state, failure)
        self._over.set()

    async def replay(self, ceiling: int, *, rebuilding: bool) -> None:
        """Run from the progress to a ceiling, in the caller's task.

        Rebuilding, everything the projection has written is deleted first.

        Raises:
            Exception: what the projection raised, as `EventFailedError`; trouble with the database.
            ShardStoppedError: the shard was stopped before it came to the ceiling.
        """
        if self._is_barred:
            raise ShardStoppedError(self.name, self._telling.progress, ceiling)
        shown: ShardState = "rebuilding" if rebuilding else "running"
        self._telling.target = ceiling
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
        if self._telling.progress < ceiling:
            raise ShardStoppedError(self.name, self._telling.progress, ceiling)

    async def _replay(self, ceiling: int, *, rebuilding: bool) -> None:
        projection = self.registration.projection
        if not rebuilding:
            standing = await self._store.standing(projection)
            if standing.started and standing.sequence >= ceiling:
                self._telling.advance(standing.sequence)  # and whoever owns it goes on
                return
        owning = replaying(
            self._store,
            projection,
            self._ownership,
            rebuilding=rebuilding,
            wait=partial(self._wait, _nothing),
            advance=self._telling.advance,
        )
        async with owning as claim:
            options = projection.async_options
            leg = Leg(
                claim=claim,
                marks=FreshMarks(self._store, self._settings),
                ceiling=ceiling,
                rebuilding=rebuilding,
                on_error=options.on_rebuild_error if rebuilding else "stop",
            )
            await self._flow(leg, self._telling.state)

    async def _flow(
        self, leg: Leg, state: ShardState, begun: Callable[[], None] = _nothing
    ) -> None:
        """Run the pipeline to its end, showing a state once it runs."""

        def entered() -> None:
            self._telling.set(state)
            begun()

        self._course = Course(self._pipeline(), entered)
        try:
            await self._course.run(leg)
        finally:
            self._course = None

    def _pipeline(self) -> Flow:
        return Flow(
            store=self._store,
            projection=self.registration.projection,
            settings=self._settings,
            pages=self._shared,
            commits=self._commits,
            in_hand=self._telling.in_hand,
            patience=self.patience(),
            committed=self._telling.advance,
            log=self._log,
        )

    # -- ending ------------------------------------------------------------------------------

    async def stop(self) -> None:
        """End the run, and be stopped from now on, also after a replay that is about to begin."""
        self.wanted = "stopped"
        self._is_barred = True
        await self.halt()
        if self._telling.state == "paused":
            self._telling.set("stopped")

    async def pause(self) -> None:
        """Come to rest without giving the shard away; it is stopped otherwise, if it runs."""
        if not self.is_running:
            return
        self.wanted = "paused"
        if not (course := self._flowing):
            await self.halt()
            return
        await self._drain(self._resting, course.finish())

    async def halt(self) -> None:
        """End the run: pages in hand are finished if that is soon, else rolled back."""
        if not self.is_running:
            return
        self._is_halting = True
        if course := self._flowing:
            course.finish()
        else:
            self._scope.cancel()
        await self._drain(self._over.wait, self._scope)

    def unbar(self) -> None:
        """Forget that it was stopped: what comes next was asked for afterwards."""
        self._is_barred = False

    async def _resting(self) -> None:
        while self.is_running and self._telling.state != "paused":
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
