"""One running projection: its pipeline, its state, and what it tells."""

import logging
import math
from collections.abc import AsyncGenerator, Callable, Sequence
from datetime import datetime
from functools import partial
from typing import cast

import attrs
import trio

from flowstore.blocks import ActionBlock, Network, SourceBlock, pipe
from flowstore.daemon._applier import Applier
from flowstore.daemon._mark import Detector, FreshMarks, Marks
from flowstore.daemon._pipeline import group_by_stream, read_pages
from flowstore.daemon._retrying import Patience
from flowstore.daemon._settings import DaemonSettings
from flowstore.daemon._status import ShardState, ShardStatus
from flowstore.errors import FlowstoreError
from flowstore.events import EventPage
from flowstore.projections import Registration
from flowstore.store import Claim, EventStore

__all__ = ["Shard", "ShardStoppedError"]


def _nothing() -> None:
    """Do nothing."""


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
    """

    def __init__(
        self,
        store: EventStore,
        registration: Registration,
        settings: DaemonSettings,
        detector: Detector,
        *,
        changed: Callable[[ShardStatus], None],
        log: logging.Logger,
    ) -> None:
        self.registration = registration
        self.turn = trio.Lock()
        self._log = log
        self._store = store
        self._settings = settings
        self._detector = detector
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
        if self._error is not None:
            return f"{type(self._error).__name__}: {self._error}"
        return self._detector.trouble

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

    async def moved(self) -> None:
        """Wait for the next change of progress or state."""
        await self._moved.wait()

    async def look_up(self) -> int:
        """Read the committed progress, of which another process may know more."""
        if not self.is_running:
            self._progress = await self._store.progress(self.registration.projection)
        return self._progress

    # -- running -----------------------------------------------------------------------------

    def patience(self) -> Patience:
        """Wait out trouble with the database, saying so in the status."""
        return Patience(
            self._settings.retry_time, self._settings.longest_retry_time, self._log, self._say
        )

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run until stopped or failed; never raises but for cancellation."""
        self._begin("starting")
        state: ShardState = "stopped"
        failure: Exception | None = None
        try:
            with self._scope:
                claim = await self.patience().attempt("claiming the shard", self._claim)
                self._advance(claim.sequence)
                policy = self.registration.projection.async_options.on_error
                pages = partial(self._pages, self._detector, claim.sequence, math.inf)
                applier = self._applier(policy, claim)
                await self._flow(pages, applier, "running", task_status.started)
        except Exception as error:  # noqa: BLE001  whatever it is, it stays with this shard
            state, failure = "failed", bare(error)
            self._log.error("shard %r failed: %s", self.name, failure, exc_info=failure)
        finally:
            if self._source is None:
                task_status.started()
            self._end(state, failure)

    def _begin(self, state: ShardState) -> None:
        self._over = trio.Event()
        self._scope = trio.CancelScope()
        self._source = None
        self._set(state)

    def _end(self, state: ShardState, failure: Exception | None) -> None:
        self._target = 0
        self._set(state, failure)
        self._over.set()

    async def replay(self, ceiling: int, *, rebuilding: bool) -> None:
        """Run from the progress to a ceiling, in the caller's task.

        Rebuilding, everything the projection has written is deleted first.

        Raises:
            Exception: what the projection raised, as `EventFailedError`; trouble with the database.
            ShardStoppedError: the shard was stopped before it came to the ceiling.
        """
        shown: ShardState = "rebuilding" if rebuilding else "running"
        self._target = ceiling
        self._begin(shown)
        state: ShardState = "stopped"
        failure: Exception | None = None
        try:
            with self._scope:
                if rebuilding:
                    # Before the documents are gone, so that nobody who waits takes them for fresh.
                    self._advance(0)
                    place = await self._first_place(rebuilding=True)
                    await self._store.teardown(self.registration.projection, place=place)
                await self._replay(ceiling, rebuilding=rebuilding)
        except Exception as error:  # noqa: BLE001  whatever it is, the status shows it too
            state, failure = "failed", bare(error)
            raise failure from failure.__cause__
        finally:
            self._end(state, failure)
        if self._progress < ceiling:
            raise ShardStoppedError(self.name, self._progress, ceiling)

    async def _replay(self, ceiling: int, *, rebuilding: bool) -> None:
        standing = await self._store.standing(self.registration.projection)
        if standing.started and standing.sequence >= ceiling:
            self._advance(standing.sequence)  # and whoever owns it goes on
            return
        claim = await self._claim()
        self._advance(claim.sequence)
        options = self.registration.projection.async_options
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
        async with Network(name=self.name) as network:
            source = SourceBlock(
                pages,
                bounded_capacity=self._settings.pages_ahead,
                name="fetch, decode",
            )
            sink = ActionBlock(applier.apply, bounded_capacity=1, name="apply, commit")
            network.add(pipe(source, group_by_stream(), sink))
            self._source = source
            self._set(state)
            begun()

    def _pages(self, marks: Marks, floor: int, ceiling: float) -> AsyncGenerator[EventPage]:
        projection = self.registration.projection
        options = projection.async_options
        return read_pages(
            self._store,
            marks,
            floor=floor,
            ceiling=ceiling,
            consumes=tuple(projection.consumes),
            page_size=options.page_size,
            include_archived=options.include_archived,
            patience=self.patience(),
        )

    def _applier(self, on_error: str, claim: Claim) -> Applier:
        return Applier(
            self._store,
            self.registration.projection,
            claim,
            on_error="stop" if on_error == "stop" else "dead_letter",
            patience=self.patience(),
            committed=self._advance,
            log=self._log,
        )

    async def _claim(self) -> Claim:
        """Begin to own the shard; a new one is put where its options say."""
        claim = await self._store.claim(self.registration.projection)
        if claim.started:
            return claim
        place = await self._first_place()
        unit = self._store.projection_session()
        await self._store.commit_batch(unit, shard=self.name, floor=0, ceiling=place, claim=claim)
        return attrs.evolve(claim, sequence=place, started=True)

    async def _first_place(self, *, rebuilding: bool = False) -> int:
        """Find where a shard begins that has no place yet."""
        begin = self.registration.projection.async_options.start_from
        if isinstance(begin, int):
            return begin
        if isinstance(begin, datetime):
            return await self._store.sequence_before(begin)
        if begin == "beginning" or rebuilding:
            # "now" and "inline" are over: what they had passed was written once, and is deleted.
            return 0
        return await self._store.high_water()

    async def stop(self) -> None:
        """End the run: pages in hand are finished if that is soon, else rolled back."""
        if not self.is_running:
            return
        if self._source is None:
            self._scope.cancel()
        else:
            self._source.complete()
        with trio.move_on_after(self._settings.stop_and_drain_timeout) as drain:
            await self._over.wait()
        if drain.cancelled_caught:
            self._log.warning(
                "shard %r did not finish its pages within %s s: they are rolled back",
                self.name,
                self._settings.stop_and_drain_timeout,
            )
            self._scope.cancel()
            await self._over.wait()


def bare(error: Exception) -> Exception:
    """Take a single error out of the groups around it."""
    members: Sequence[Exception] = (error,)
    while len(members) == 1:
        error = members[0]
        members = _members(error)
    return error


def _members(error: Exception) -> Sequence[Exception]:
    if isinstance(error, ExceptionGroup):
        return cast("ExceptionGroup[Exception]", error).exceptions
    return ()
