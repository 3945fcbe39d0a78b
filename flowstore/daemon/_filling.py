"""Filling a rebuild's shadow: by the pipeline that shards run by, into the tables beside."""

import logging
from collections.abc import Callable
from functools import partial

import attrs
import trio

from flowstore.daemon._applier import Applier
from flowstore.daemon._course import Course
from flowstore.daemon._estimate import Running
from flowstore.daemon._flow import Flow, Leg, Pages
from flowstore.daemon._mark import FreshMarks
from flowstore.daemon._needs import DaemonStore, Target
from flowstore.daemon._reasons import InHand
from flowstore.daemon._retrying import Patience
from flowstore.daemon._settings import DaemonSettings
from flowstore.projections import IProjection
from flowstore.store import Claim, Shadow

__all__ = ["Filling", "patience_of"]


@attrs.frozen(eq=False, kw_only=True)
class Filling:
    """Bring what a rebuild writes further, and tell how far it is.

    Attributes:
        store: where events are.
        settings: the daemon's.
        pages: fetches them.
        commits: bounds how many commits there are at the same time.
        tell: is told of every rebuild that has moved, or waits.
        log: is told of trouble.
    """

    store: DaemonStore
    settings: DaemonSettings
    pages: Pages
    commits: trio.CapacityLimiter
    tell: Callable[[Running], None]
    log: logging.Logger

    async def fill(self, shadow: Shadow, running: Running, ceiling: int) -> None:
        """Bring a shadow to a ceiling; one that is above it stays.

        Raises:
            EventFailedError: an event can't be applied, and is not to be set aside.
            ProgressConflictError: another rebuild has begun.
        """
        self.aim(running, ceiling, running.progress)
        flow = Flow(
            store=shadow,
            projection=shadow.projection,
            settings=self.settings,
            pages=self.pages,
            commits=self.commits,
            in_hand=InHand(),
            patience=self.patience(running),
            committed=partial(self._note, running),
            log=self.log,
        )
        leg = Leg(
            claim=attrs.evolve(shadow.claim, sequence=running.progress),
            marks=FreshMarks(self.store, self.settings),
            ceiling=ceiling,
            rebuilding=True,
            on_error=shadow.projection.async_options.on_rebuild_error,
        )
        await Course(flow).run(leg)

    def applier(
        self, target: Target, projection: IProjection, claim: Claim, running: Running
    ) -> Applier:
        """Make what applies a rebuild's pages one by one."""
        return Applier(
            target,
            projection,
            claim,
            on_error=projection.async_options.on_rebuild_error,
            rebuilding=True,
            committed=partial(self._note, running),
            log=self.log,
        )

    def patience(self, running: Running) -> Patience:
        """Wait out trouble with the database, saying so with the rebuild's status."""
        return patience_of(self.settings, running, self.tell, self.log)

    def aim(self, running: Running, ceiling: int, progress: int) -> None:
        """Set a rebuild's target; what it foretells the time by stays."""
        running.estimate = attrs.evolve(running.estimate, ceiling=max(ceiling, progress))
        self._note(running, progress)

    def _note(self, running: Running, progress: int) -> None:
        running.progress = progress
        self.tell(running)


def patience_of(
    settings: DaemonSettings,
    running: Running,
    tell: Callable[[Running], None],
    log: logging.Logger,
) -> Patience:
    """Wait out trouble with the database, saying so with a rebuild's status."""

    def say(reason: str) -> None:
        running.reason = reason
        tell(running)

    return Patience(settings.retry_time, settings.longest_retry_time, log, say)
