"""Running a shard's pipeline leg after leg: around what fails together, and on from late commits."""

from collections.abc import Callable
from functools import partial

import attrs
import trio

from flowstore.blocks import Network, SourceBlock
from flowstore.daemon._flow import Flow, Leg
from flowstore.daemon._groups import bare
from flowstore.daemon._spans import SpanFailedError, SpanOutdatedError, failed_span
from flowstore.errors import ProgressConflictError
from flowstore.events import EventPage
from flowstore.projections import shard_name
from flowstore.store import Claim

__all__ = ["Course"]


def _nothing() -> None:
    """Do nothing."""


@attrs.define(eq=False)
class Course:
    """Run a flow to a leg's ceiling, or until it is told to finish; once.

    Pages that fail together are applied one by one, and then it goes on as before. Those that were
    folded over documents which somebody has written to are folded again, over what is there.

    Attributes:
        flow: the pipeline.
        entered: is told when a leg's pipeline has begun.
    """

    flow: Flow
    entered: Callable[[], None] = _nothing
    _source: SourceBlock[EventPage] | None = attrs.field(default=None, init=False)
    _work: trio.CancelScope = attrs.field(factory=trio.CancelScope, init=False)
    _is_finishing: bool = attrs.field(default=False, init=False)

    @property
    def is_flowing(self) -> bool:
        """Whether a leg is under way."""
        return self._source is not None

    def finish(self) -> trio.CancelScope:
        """Have no further pages read; gives what rolls back those in hand once it is cancelled."""
        self._is_finishing = True
        if self._source is not None:
            self._source.complete()
        return self._work

    async def run(self, leg: Leg) -> None:
        """Run to the leg's ceiling.

        Raises:
            Exception: what the projection raised, as `EventFailedError`; trouble with the database.
        """
        whole = leg.ceiling
        while (failed := await self._run(leg)) and not self._is_finishing:
            if isinstance(failed, SpanOutdatedError):
                # Nothing is held by the pipeline to come, and nothing taken for granted: its first span
                # is folded over what it reads, and can't be outdated itself.
                self.flow.log.info("%s; applying them again", failed)
                leg = attrs.evolve(leg, expects_new=False)
                leg = await self._onward(leg, ceiling=whole, careful=False)
                continue
            self.flow.log.info("%s; applying them one by one", failed)
            leg = await self._onward(leg, ceiling=failed.ceiling, careful=True)
            await self._run(leg)
            if self._is_finishing:
                return
            leg = await self._onward(leg, ceiling=whole, careful=False)

    async def _run(self, leg: Leg) -> SpanFailedError | None:
        """Run one leg; gives what of it has to be applied page by page."""
        while not self._is_finishing:
            self._work = trio.CancelScope()
            try:
                with self._work:
                    async with Network(name=shard_name(self.flow.projection)) as network:
                        self._source = self.flow.assemble(network, leg)
                        self.entered()
            except Exception as error:  # noqa: BLE001  raised again but for a span that failed
                late = await self._resumed(leg, error)
                if late is None:
                    return failed_span(error)
                leg = late
            else:
                return None
            finally:
                self._source = None
        return None

    async def _onward(self, leg: Leg, *, ceiling: float, careful: bool) -> Leg:
        """Make the leg that goes on where the shard stands now, and tell where that is.

        That may be beyond what was told: a span was committed while what comes after it failed, and
        was cancelled before it could say so. Whoever waits for it to be told would wait for ever.
        What was written to its documents beside its pages is seen: nothing is held yet.
        """
        standing = await self._standing()
        self.flow.committed(standing.sequence)
        claim = attrs.evolve(leg.claim, sequence=standing.sequence, edits=standing.edits)
        return attrs.evolve(leg, claim=claim, ceiling=ceiling, careful=careful)

    async def _resumed(self, leg: Leg, error: Exception) -> Leg | None:
        """Make the leg that goes on after a commit of this owner's that came late, if it was that.

        It was given up, and carried out after it was looked where the shard stands; so what was
        done since then was refused. Anybody else would have another epoch.
        """
        if not isinstance(bare(error), ProgressConflictError):
            return None
        standing = await self._standing()
        if standing.epoch != leg.claim.epoch:
            return None
        late = await self.flow.settle(standing.sequence, rebuilding=leg.rebuilding)
        if not late:
            return None
        self.flow.log.info(
            "a commit up to %s was carried out late: %s", standing.sequence, bare(error)
        )
        self.flow.committed(standing.sequence)
        return attrs.evolve(leg, claim=standing)

    async def _standing(self) -> Claim:
        work = partial(self.flow.store.standing, self.flow.projection)
        return await self.flow.patience.attempt("reading the shard's progress", work)
