"""The daemon: starts, stops and rebuilds shards, and waits for them."""

import logging
import math
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import trio

from flowstore.daemon._applier import EventFailedError
from flowstore.daemon._aside import Starter
from flowstore.daemon._lease import LeaseLostError, Ownership, ownership_for
from flowstore.daemon._lookout import Lookout
from flowstore.daemon._mark import Detector
from flowstore.daemon._needs import DaemonStore
from flowstore.daemon._rebuild import Rebuilder
from flowstore.daemon._settings import DaemonSettings
from flowstore.daemon._shard import Shard, ShardStoppedError
from flowstore.daemon._sharing import SharedPages
from flowstore.daemon._status import ShardStatus, StatusBoard
from flowstore.daemon._waiting import Wait
from flowstore.daemon._workers import check_split, check_workers
from flowstore.errors import UnknownProjectionError
from flowstore.postgres import plain_nursery
from flowstore.projections import Lifecycle, Registration

__all__ = ["ProjectionDaemon", "open_daemon"]


class ProjectionDaemon:
    """Runs a store's asynchronous projections, each as a shard of its own.

    Made by `store.build_projection_daemon()`; leaving its block stops what runs, as `stop_all`
    does, and cancelling it rolls the pages in hand back. One detector finds the high-water mark for
    all shards. A projection is named by its name, by the document type it produces, or by its class.

    Attributes:
        durability_warnings: which of the server's settings let a crash take back what was
            committed, as found when the daemon was opened; empty on a server that is set up well.
    """

    def __init__(
        self,
        store: DaemonStore,
        settings: DaemonSettings,
        detector: Detector,
        ownership: Ownership,
        nursery: trio.Nursery,
        *,
        log: logging.Logger,
    ) -> None:
        self._store = store
        self._settings = settings
        self._detector = detector
        self._starter = Starter(nursery, ownership)
        self._log = log
        self._board = StatusBoard(self.statuses)
        detector.changed = self._board.post_all
        self.durability_warnings: tuple[str, ...] = ()
        loads = trio.CapacityLimiter(settings.max_loads)
        self._pages = SharedPages(store, settings.page_bytes, loads)
        detector.look = self._pages.look
        detector.handing, detector.handed = self._pages.handing, self._pages.take_handed
        commits = trio.CapacityLimiter(settings.max_commits)
        self._shards = {
            registration.shard: Shard(
                store,
                registration,
                settings,
                detector,
                ownership,
                pages=self._pages,
                commits=commits,
                changed=self._post,
                log=log,
            )
            for registration in store.options.projections.asynchronous()
        }
        self._rebuilder = Rebuilder(
            store,
            settings,
            self._shards,
            self._board,
            log,
            pages=self._pages,
            commits=commits,
            starter=self._starter,
        )

    # -- telling -----------------------------------------------------------------------------

    @property
    def high_water_mark(self) -> int:
        """The sequence that shards read up to; 0 before it was found, and in an empty store."""
        return self._detector.mark

    def statuses(self) -> list[ShardStatus]:
        """Tell where every registered shard stands, also those that weren't started.

        A rebuild of an inline projection is among them while it runs.
        """
        shown = [self._rebuilder.shown(shard.status()) for shard in self._shards.values()]
        return shown + self._rebuilder.inline()

    def watch(self) -> AsyncGenerator[ShardStatus]:
        """Yield every shard's present status, then each change; the latest one to a slow watcher."""
        return self._board.watch()

    # -- starting and stopping ---------------------------------------------------------------

    async def start_all(self) -> None:
        """Start every shard that isn't running; returns once they run."""
        async with trio.open_nursery() as nursery:
            for shard in self._shards.values():
                nursery.start_soon(self._starter.start, shard)

    async def start(self, name_or_type: Any) -> None:
        """Start a shard, unless it runs; returns once it does.

        One that is being rebuilt, or caught up, is waited for.

        Raises:
            UnknownProjectionError: no asynchronous projection is called so.
        """
        await self._starter.start(self._find(name_or_type))

    async def stop(self, name_or_type: Any) -> None:
        """Stop a shard, if it runs; the pages in hand are finished, or rolled back if that is slow.

        Raises:
            UnknownProjectionError: no asynchronous projection is called so.
        """
        shard = self._find(name_or_type)
        self._rebuilder.stop(shard.name)
        await shard.stop()

    async def pause(self, name_or_type: Any) -> None:
        """Have a shard stand still, if it runs, until it is started again.

        As stopping it, but the shard isn't given away: in mode "hot_cold" no other process takes
        it over meanwhile. `start`, `start_all` and `restart` let it go on.

        Raises:
            UnknownProjectionError: no asynchronous projection is called so.
        """
        await self._find(name_or_type).pause()

    async def restart(self, name_or_type: Any) -> None:
        """End a shard's run, if there is one, and begin another; returns once it runs.

        A shard that has failed, or is stopped or paused, is started.

        Raises:
            UnknownProjectionError: no asynchronous projection is called so.
        """
        await self._starter.restart(self._find(name_or_type))

    async def stop_all(self) -> None:
        """Stop every shard that runs, all at once."""
        self._rebuilder.stop()
        async with trio.open_nursery() as nursery:
            for shard in self._shards.values():
                nursery.start_soon(shard.stop)

    # -- replaying ---------------------------------------------------------------------------

    async def rebuild(self, name_or_type: Any, *, swap: bool = False, workers: int = 1) -> None:
        """Make what a projection has written anew, from all events.

        Works under a running daemon: the shard stands aside and goes on afterwards. Appends in
        flight at the call are waited for.

        In place, what it has written is deleted first. Cancelled, progress tells how far it came;
        starting the shard goes on from there.

        With `swap` the present view serves, and its shard runs, while events are applied to tables
        beside it; at the end one transaction changes what differs, so that readers see the old
        view and then the new one, each whole. Cancelled, or failed, everything is as it was.

        A projection that runs inline is always rebuilt like that, and appends have to wait for the
        end of it; for all of it if it writes SQL of its own.

        Args:
            name_or_type: the projection.
            swap: keep the present view until the new one is there. Takes a projection that writes
                nothing but documents of the types it produces, and flat tables.
            workers: how many processes share the streams out among themselves; above 1 it is a
                `swap`, and takes an aggregate of one stream, without `enrich=`, or a composite of
                such. Its classes are imported in each, so they have to be at the top of a module
                other than `__main__`, as have hooks and upcasters.

        Raises:
            ValueError: `workers` isn't a whole number from 1.
            UnknownProjectionError: there is no such projection, or it is live.
            RebuildError: an event can't be applied and the projection's `on_rebuild_error` is
                "stop", which names the event's sequence; or the projection was stopped meanwhile;
                or, with `swap`, it writes what can't be kept elsewhere, or another rebuild of it
                has begun; or `workers` can't share it, which names what is in the way, or one of
                them was ended.
            DatabaseError: PostgreSQL refused, or can't be reached.
        """
        check_workers(workers)
        registration = self._registration(name_or_type)
        if workers > 1:
            check_split(registration.projection, workers)
        if registration.lifecycle is Lifecycle.INLINE:
            await self._rebuilder.of_inline(registration, workers)
        elif swap or workers > 1:
            await self._rebuilder.swap(self._find(name_or_type), workers)
        else:
            await self._rebuilder.in_place(self._find(name_or_type))

    async def rebuild_all(self, *, swap: bool = False, workers: int = 1) -> None:
        """Rebuild every asynchronous projection, one after the other.

        Args:
            swap: as for `rebuild`.
            workers: as for `rebuild`, each by so many processes; above 1 all of them have to be such
                as can be shared out, which is looked at before the first is touched.

        Raises:
            ValueError: `workers` isn't a whole number from 1.
            RebuildError: as for `rebuild`; those after it aren't touched.
        """
        check_workers(workers)
        if workers > 1:
            for shard in self._shards.values():
                check_split(shard.registration.projection, workers)
        for name in tuple(self._shards):
            await self.rebuild(name, swap=swap, workers=workers)

    async def rewind(self, name_or_type: Any, sequence: int) -> None:
        """Take a shard's progress to a sequence: delivery starts again at the one after it.

        Documents stay as they are; dead letters above the sequence are forgotten, as their events
        come again. A running shard stands aside and goes on afterwards; one that runs in another
        process stops there.

        Raises:
            UnknownProjectionError: no asynchronous projection is called so.
            ValueError: `sequence` is below 0.
            DatabaseError: PostgreSQL refused, or can't be reached.
        """
        if sequence < 0:
            message = f"a shard can be rewound to a sequence from 0: {sequence!r}"
            raise ValueError(message)
        shard = self._find(name_or_type)
        async with self._starter.aside(shard):
            await self._store.rewind(shard.registration.projection, sequence)
            await shard.look_up()

    async def catch_up(self) -> None:
        """Bring every shard to what is visible now, and return; running ones stand aside for it.

        An event that fails is raised and never set aside, also where the projection's `on_error`
        is "dead_letter": that is for whoever runs it unattended. Its shard stands before the event,
        and every other shard has its turn first.

        Raises:
            ExceptionGroup: of what projections raised, as `EventFailedError`s with the
                projection's own error as the cause; a shard that was stopped meanwhile counts too.
                The message names each shard and its cause.
            DatabaseError: PostgreSQL refused, or can't be reached.
        """
        ceiling = await self._store.highest_sequence()
        failures: list[Exception] = []
        for shard in self._shards.values():
            try:
                async with self._starter.aside(shard):
                    await shard.replay(ceiling, rebuilding=False)
            except (EventFailedError, ShardStoppedError, LeaseLostError) as error:
                failures.append(error)
        if failures:
            causes = "; ".join(map(str, failures))
            message = f"not every projection could be brought up to date: {causes}"
            raise ExceptionGroup(message, failures)

    # -- waiting -----------------------------------------------------------------------------

    async def wait_for_non_stale_results(self, timeout: float | None = None) -> None:  # noqa: ASYNC109  it lists every shard's place when it runs out
        """Wait until every registered shard, started or not, has applied what is visible now.

        Trouble with the database that passes is waited out, as shards do.

        Args:
            timeout: seconds; None waits for ever.

        Raises:
            StaleResultsError: time ran out, or a shard has failed; lists every shard's place.
            DatabaseError: PostgreSQL refused, or couldn't be reached before time ran out.
        """
        wait = Wait(self._settings, self._log, math.inf if timeout is None else timeout)
        await wait.for_all(tuple(self._shards.values()), self._store.highest_sequence)

    async def wait_for(self, name_or_type: Any, sequence: int) -> None:
        """Wait until a shard's progress is at or above a sequence; bound it by a cancel scope.

        Trouble with the database that passes is waited out, as shards do.

        Raises:
            UnknownProjectionError: no asynchronous projection is called so.
            DatabaseError: PostgreSQL refused.
        """
        await Wait(self._settings, self._log).for_one(self._find(name_or_type), sequence)

    # -- inside ------------------------------------------------------------------------------

    def _post(self, status: ShardStatus) -> None:
        self._board.post(self._rebuilder.shown(status))

    async def look_around(self) -> None:
        """Look for ever for what keeps shards from moving."""
        await Lookout(self._store, self._detector, tuple(self._shards.values())).run()

    async def look_up(self) -> None:
        """Read where all shards stand, and what the server makes of commits."""
        self.durability_warnings = await self._store.durability_warnings()
        for warning in self.durability_warnings:
            self._log.warning("%s", warning)
        for shard in self._shards.values():
            await shard.look_up()

    def _find(self, name_or_type: Any) -> Shard:
        registration = self._registration(name_or_type)
        if registration.lifecycle is not Lifecycle.ASYNC:
            raise UnknownProjectionError(
                f"{registration.projection.name} (which is {registration.lifecycle.value})",
                sorted(self._shards),
            )
        return self._shards[registration.shard]

    def _registration(self, name_or_type: Any) -> Registration:
        return self._store.options.projections.find(name_or_type)


@asynccontextmanager
async def open_daemon(
    store: DaemonStore, settings: DaemonSettings | None, logger: logging.Logger | None
) -> AsyncGenerator[ProjectionDaemon]:
    """Open a daemon for the block; the body's own error leaves as it is, in no group."""
    settings = settings or DaemonSettings()
    log = logger or logging.getLogger("flowstore.daemon")
    detector = Detector(store, settings, log)
    async with plain_nursery() as nursery:
        ownership = ownership_for(store, settings, log)
        daemon = ProjectionDaemon(store, settings, detector, ownership, nursery, log=log)
        try:
            await daemon.look_up()
            nursery.start_soon(detector.run)
            nursery.start_soon(ownership.run)
            nursery.start_soon(daemon.look_around)
            yield daemon
        except (Exception, KeyboardInterrupt, SystemExit):
            await daemon.stop_all()
            raise
        await daemon.stop_all()
