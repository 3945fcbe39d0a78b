"""Rebuilding: in place, beside the view that serves and then instead of it, and inline ones."""

import logging
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Final

import attrs
import trio

from flowstore.daemon._applier import EventFailedError
from flowstore.daemon._aside import Starter
from flowstore.daemon._claiming import first_place
from flowstore.daemon._estimate import Estimate, Running
from flowstore.daemon._filling import Filling
from flowstore.daemon._groups import bare
from flowstore.daemon._lease import LeaseLostError
from flowstore.daemon._needs import DaemonStore
from flowstore.daemon._settings import DaemonSettings
from flowstore.daemon._shard import Shard, ShardStoppedError
from flowstore.daemon._sharing import SharedPages
from flowstore.daemon._status import ShardStatus, StatusBoard
from flowstore.daemon._workers import WorkerError, fill_by_workers
from flowstore.errors import DatabaseError, ProgressConflictError, RebuildError
from flowstore.events import EventBatch, group_by_stream_id
from flowstore.projections import IProjection, Registration
from flowstore.store import HeldReplay, NoShadowError, Shadow

__all__ = ["Rebuilder"]

_ROUNDS: Final = 5
"""How often a shadow is brought further before its shard stands aside, or appends have to wait:
where events come as fast as they are applied, it would never be through."""


class Rebuilder:
    """Rebuilds projections, each one at a time, and tells how far it is.

    With a shadow, events are applied to tables beside those that serve, which are put in place by
    one transaction: before it, everything is as it was.
    """

    def __init__(
        self,
        store: DaemonStore,
        settings: DaemonSettings,
        shards: Mapping[str, Shard],
        board: StatusBoard,
        log: logging.Logger,
        *,
        pages: SharedPages,
        commits: trio.CapacityLimiter,
        starter: Starter,
    ) -> None:
        self._store = store
        self._settings = settings
        self._shards = shards
        self._board = board
        self._log = log
        self._starter = starter
        self._filling = Filling(
            store=store,
            settings=settings,
            pages=pages,
            commits=commits,
            tell=self._tell,
            log=log,
        )
        self._turns: dict[str, trio.Lock] = {}
        self._running: dict[str, Running] = {}

    # -- telling -----------------------------------------------------------------------------

    def shown(self, status: ShardStatus) -> ShardStatus:
        """Tell with a shard's status how far its rebuild is, if it has one."""
        running = self._running.get(status.name)
        if running is None or status.state == "failed":
            return status
        if running.has_shadow:
            return running.status()
        if status.state != "rebuilding":
            return status
        return attrs.evolve(status, reason=status.reason or running.told(status.progress))

    def inline(self) -> list[ShardStatus]:
        """Tell of the rebuilds of what has no shard."""
        return [each.status() for each in self._running.values() if each.name not in self._shards]

    def stop(self, name: str | None = None) -> None:
        """Stop a projection's rebuild if it has a shadow, or all of them."""
        for running in tuple(self._running.values()):
            if running.has_shadow and name in (None, running.name):
                running.scope.cancel()

    def _tell(self, running: Running) -> None:
        shard = self._shards.get(running.name)
        self._board.post(running.status() if shard is None else self.shown(shard.status()))

    # -- in place ----------------------------------------------------------------------------

    async def in_place(self, shard: Shard) -> None:
        """Delete what a projection has written, and apply all events again.

        Raises:
            RebuildError: an event can't be applied; or the shard was stopped.
        """
        projection = shard.registration.projection
        async with self._turn(shard.name), self._starter.aside(shard) as aside:
            await self._store.rebuilding.forget_shadows(projection)
            ceiling = await self._store.highest_sequence()
            aside.goes_on = False  # from here on there is half a view, if this ends badly
            with self._telling(shard.name, ceiling), _told(shard.name):
                await shard.replay(ceiling, rebuilding=True)

    # -- beside the view that serves ---------------------------------------------------------

    async def swap(self, shard: Shard, workers: int = 1) -> None:
        """Apply all events beside a projection's view, and put the result in its place.

        The shard goes on until the last moment, and again afterwards, also if this fails. More than
        one worker: processes, which share the streams out among themselves.

        Raises:
            RebuildError: an event can't be applied; or the projection writes what can't be kept
                elsewhere; or it was stopped; or another rebuild of it has begun.
        """
        registration = shard.registration
        async with self._turn(shard.name):
            with self._telling(shard.name, 0) as running, _told(shard.name):
                async with self._shadow(registration.projection, running) as shadow:
                    await self._come_near(shadow, running, workers)
                    async with self._starter.aside(shard):
                        ceiling = max(await self._store.highest_sequence(), await shard.look_up())
                        await self._filling.fill(shadow, running, ceiling)
                        await self._put_in_place(shadow, running)
                        # It is done: trouble that passes has no say in that any more.
                        look = self._filling.patience(running).attempt
                        await look("reading the shard's progress", shard.look_up)

    async def _put_in_place(self, shadow: Shadow, running: Running) -> None:
        patience = self._filling.patience(running)
        while True:
            swap = partial(self._store.rebuilding.swap, shadow, running.progress)
            place = await patience.attempt("putting the rebuilt view in place", swap)
            if place <= running.progress:
                return
            # Another process runs the shard: what its readers have seen must not be taken back.
            await self._filling.fill(shadow, running, place)

    # -- inline ------------------------------------------------------------------------------

    async def of_inline(self, registration: Registration, workers: int = 1) -> None:
        """Rebuild a projection that runs in the transactions that append.

        Events are applied beside the view while appends go on; for the last of them, and for the
        change, appends have to wait. Where no shadow can be made they wait for all of it.

        Raises:
            RebuildError: an event can't be applied; or another rebuild of it has begun.
        """
        projection = registration.projection
        async with self._turn(registration.shard):
            with self._telling(registration.shard, 0) as running, _told(registration.shard):
                try:
                    async with self._shadow(projection, running) as shadow:
                        await self._come_near(shadow, running, workers)
                        await self._finish_inline(projection, shadow, running)
                except NoShadowError as refusal:
                    if workers > 1:
                        raise
                    self._log.info("%s: appends wait while it is rebuilt", refusal.reason)
                    running.progress, running.has_shadow = 0, False
                    await self._finish_inline(projection, None, running)

    async def _finish_inline(
        self, projection: IProjection, shadow: Shadow | None, running: Running
    ) -> None:
        floor = running.progress

        async def attempt() -> None:
            rebuilding = self._store.rebuilding
            async with rebuilding.holding_appends(projection, shadow, floor) as held:
                if held is not None:
                    await self._apply_held(held, projection, running, floor)

        await self._filling.patience(running).attempt("rebuilding an inline projection", attempt)

    async def _apply_held(
        self, held: HeldReplay, projection: IProjection, running: Running, floor: int
    ) -> None:
        end = await held.highest_sequence()
        applier = self._filling.applier(held, projection, await held.standing(), running)
        at = floor
        self._filling.aim(running, end, at)
        while at < end:
            page = await held.fetch_page(at, end, max_bytes=self._settings.page_bytes)
            streams = group_by_stream_id(page.events)
            await applier.apply(EventBatch(page.floor, page.ceiling, streams, page.failures))
            at = page.ceiling

    # -- filling a shadow --------------------------------------------------------------------

    @asynccontextmanager
    async def _shadow(self, projection: IProjection, running: Running) -> AsyncGenerator[Shadow]:
        """Make a shadow for the block; it is forgotten if the block fails or is stopped."""
        shadow = await self._store.rebuilding.open_shadow(projection)
        running.has_shadow = True
        try:
            with running.scope:
                await self._begin(shadow, running)
                yield shadow
        except BaseException as error:
            was_there = await self._discard(shadow)
            if isinstance(error, Exception) and shadow.refused is not None:
                # However it came out of the pipeline, or of the projection's own handlers.
                raise shadow.refused from error
            if isinstance(error, Exception) and not was_there and not shadow.is_in_place:
                # Whatever it met first: its tables are another rebuild's, or nobody's.
                at = running.progress
                raise ProgressConflictError(shadow.shard, expected=at, found=None) from error
            raise
        if running.scope.cancelled_caught:
            await self._discard(shadow)
            raise ShardStoppedError(running.name, running.progress, running.estimate.ceiling)

    async def _discard(self, shadow: Shadow) -> bool:
        """Forget a shadow; what can't be forgotten now the next rebuild forgets.

        Tells whether it was there, as far as that can be told.
        """
        with trio.move_on_after(self._settings.stop_and_drain_timeout) as scope:
            scope.shield = True
            try:
                return await shadow.discard()
            except DatabaseError as error:
                self._log.warning("what a rebuild has left can't be deleted now: %s", error)
        return True

    async def _begin(self, shadow: Shadow, running: Running) -> None:
        """Put an empty shadow where the projection's options let it begin."""
        place = 0
        if shadow.projection not in _inline_projections(self._store):
            place = await first_place(self._store, shadow.projection, rebuilding=True)
        if place:
            await shadow.commit_batch(shadow.projection_session(), floor=0, ceiling=place)
        running.estimate = Estimate(place, place, trio.current_time())
        running.progress = place

    async def _come_near(self, shadow: Shadow, running: Running, workers: int) -> None:
        """Apply what is there, and what has come meanwhile, until little is left."""
        if workers > 1:
            ceiling = await self._store.highest_sequence()
            await fill_by_workers(self._filling, shadow, running, ceiling, workers)
        for _ in range(_ROUNDS):
            ceiling = await self._store.highest_sequence()
            left = ceiling - running.progress
            await self._filling.fill(shadow, running, ceiling)
            if left <= shadow.projection.async_options.page_size:
                return

    # -- inside ------------------------------------------------------------------------------

    def _turn(self, name: str) -> trio.Lock:
        """Give what one rebuild of a projection at a time holds."""
        return self._turns.setdefault(name, trio.Lock())

    @contextmanager
    def _telling(self, name: str, ceiling: int) -> Generator[Running]:
        """Show a rebuild for the block."""
        running = Running(name, Estimate(0, ceiling, trio.current_time()))
        self._running[name] = running
        try:
            yield running
        finally:
            del self._running[name]
            shard = self._shards.get(name)
            self._board.post(running.over() if shard is None else shard.status())


def _inline_projections(store: DaemonStore) -> list[IProjection]:
    return [each.projection for each in store.options.projections.inline()]


@contextmanager
def _told(name: str) -> Generator[None]:
    """Turn what ends a rebuild into an error that names the projection and the event."""
    try:
        yield
    except Exception as error:
        failure = bare(error)
        if isinstance(failure, EventFailedError):
            cause = failure.__cause__ or failure
            reason = f"{type(cause).__name__}: {cause}"
            raise RebuildError(name, failure.sequence, reason) from cause
        if isinstance(failure, (ShardStoppedError, LeaseLostError, WorkerError)):
            raise RebuildError(name, None, str(failure)) from failure
        if isinstance(failure, NoShadowError):
            reason = (
                "it can't be rebuilt beside its present view, as swap=True and workers above 1 ask:"
                f" {failure.reason}"
            )
            raise RebuildError(name, None, reason) from failure
        if isinstance(failure, ProgressConflictError):
            reason = "what it has written is gone: another rebuild of it has begun"
            if failure.shard == name:
                reason = "another process has begun to run it, or has rewound or rebuilt it"
            raise RebuildError(name, None, reason) from failure
        if failure is error:
            raise
        raise failure from failure.__cause__
