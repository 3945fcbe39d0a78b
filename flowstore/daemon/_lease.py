"""Whose shards are: this process's alone, or those of whichever process has the lease."""

import logging
import math
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
    nullcontext,
)
from functools import partial
from typing import Final, Protocol

import attrs
import trio

from flowstore.daemon._claiming import Claiming
from flowstore.daemon._groups import bare
from flowstore.daemon._needs import DaemonStore
from flowstore.daemon._retrying import is_the_stores
from flowstore.daemon._settings import DaemonSettings
from flowstore.errors import (
    DatabaseError,
    DatabaseUnavailableError,
    FlowstoreError,
    ProgressConflictError,
)
from flowstore.projections import IProjection, shard_name
from flowstore.store import Claim, LeaseSession, Taking

__all__ = ["LeaseLostError", "Leases", "Ownership", "Solo", "ownership_for"]

Waiting = Callable[[str, int | None], None]
"""Is told why a shard has to wait, and where it stands if that is known."""

_LONGEST_BEAT: Final = 1.0
"""Seconds between two turns at most: a crashed owner's lease is free at once, and found so soon."""
_BLOCKED: Final = 0.5
"""Seconds that a claim may wait for a commit of whoever had the shard before."""


class LeaseLostError(FlowstoreError):
    """A shard isn't this daemon's any more; what it had in hand was rolled back.

    Attributes:
        shard: the shard's name.
    """

    def __init__(self, shard: str, reason: str) -> None:
        super().__init__(f"shard {shard!r} was lost: {reason}")
        self.shard = shard


class Ownership(Protocol):
    """Says when a shard may be run here."""

    def of(
        self, projection: IProjection, waiting: Waiting, *, insist: bool = False
    ) -> AbstractAsyncContextManager[Claiming]:
        """Have a shard for the block, and claim it by what is given.

        Waits until it can be had; with `insist`, whoever has it is made to let go.

        Raises:
            LeaseLostError: out of the block, which was cancelled: it is somebody else's now.
        """
        ...

    def keeping(self, shard: str) -> AbstractContextManager[None]:
        """Give a shard that is had to nobody for the block, also while it isn't had in between."""
        ...

    async def run(self) -> None:
        """See to the shards that are had, for as long as there may be any."""
        ...


@attrs.frozen(eq=False)
class Solo:
    """Every shard is this daemon's at once; of two daemons the later one's claim wins.

    Processes that share their shards would claim one back while it is replayed here, so such a
    replay takes part in the sharing for as long as it lasts.
    """

    store: DaemonStore
    settings: DaemonSettings
    log: logging.Logger

    @asynccontextmanager
    async def of(
        self,
        projection: IProjection,
        waiting: Waiting,
        *,
        insist: bool = False,
    ) -> AsyncGenerator[Claiming]:
        """Have a shard for the block."""
        if not insist or not await self.store.is_leased(projection):
            yield partial(self.store.claim, projection)
            return
        leases = Leases(self.store, self.settings, self.log)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(leases.run)
            async with leases.of(projection, waiting, insist=True) as claiming:
                yield claiming
            nursery.cancel_scope.cancel()

    def keeping(self, shard: str) -> AbstractContextManager[None]:  # noqa: ARG002
        """Do nothing: nobody is given a shard."""
        return nullcontext()

    async def run(self) -> None:
        """Do nothing."""


@attrs.define(eq=False)
class _Tenure:
    """A shard that is had, or waited for.

    Attributes:
        waiting: is told why it has to wait.
        taken: its lease is this daemon's.
        scope: around what may be done while it is.
        epoch: what it was claimed at; 0 before.
        lost: why it isn't this daemon's any more.
        refused: what has to be mended before any lease can be had; waiting longer won't help.
    """

    waiting: Waiting
    taken: trio.Event = attrs.field(factory=trio.Event)
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    epoch: int = 0
    lost: str = ""
    refused: DatabaseError | None = None

    def lose(self, reason: str) -> None:
        self.lost = self.lost or reason
        self.scope.cancel()

    def refuse(self, error: DatabaseError) -> None:
        self.refused = error
        self.taken.set()


class Leases:
    """Each shard is run by the one process that has its lease; the others stand by.

    One task holds all of a daemon's leases, on one connection of its own. In a turn, once a beat, it
    gives back what isn't wanted any more, renews what it has, and tries to take what it is still
    waiting for. Losing the connection is losing every lease: what runs is cancelled, so that its
    pages are rolled back, and waits for its lease again.

    A lease keeps processes out of each other's way and no more: it is the claim that every commit
    is guarded by that keeps a former owner from writing.
    """

    def __init__(self, store: DaemonStore, settings: DaemonSettings, log: logging.Logger) -> None:
        self._store = store
        self._lease_time = settings.lease_time
        self._retry_time = settings.retry_time
        self._longest_retry_time = settings.longest_retry_time
        self._beat = min(_LONGEST_BEAT, settings.lease_time / 4)
        self._log = log
        self._wanted: dict[str, _Tenure] = {}
        self._kept: Counter[str] = Counter()
        self._back: dict[str, float] = {}  # shards that others are given time to take
        self._changed = trio.Event()

    # -- having a shard ------------------------------------------------------------------------

    @asynccontextmanager
    async def of(
        self, projection: IProjection, waiting: Waiting, *, insist: bool = False
    ) -> AsyncGenerator[Claiming]:
        """Have a shard for the block, once its lease can be had."""
        shard = shard_name(projection)
        tenure = self._wanted[shard] = _Tenure(waiting)
        self._changed.set()
        try:
            await self._take(projection, tenure, insist=insist)
            with tenure.scope:
                yield partial(self._claim, projection, tenure)
        except Exception as error:
            conflict = bare(error)
            if not isinstance(conflict, ProgressConflictError):
                raise
            self._stand_back(shard)
            raise LeaseLostError(shard, str(conflict)) from conflict
        finally:
            if self._wanted.get(shard) is tenure:
                del self._wanted[shard]
            self._changed.set()
        if tenure.scope.cancelled_caught:
            raise LeaseLostError(shard, tenure.lost)

    @contextmanager
    def keeping(self, shard: str) -> Generator[None]:
        """Give a shard that is had to nobody for the block, also while it isn't had in between."""
        self._kept[shard] += 1
        try:
            yield
        finally:
            self._kept[shard] -= 1
            self._changed.set()

    async def _take(self, projection: IProjection, tenure: _Tenure, *, insist: bool) -> None:
        while True:
            with trio.move_on_after(2 * self._beat if insist else math.inf):
                await tenure.taken.wait()
            if tenure.refused is not None:
                raise tenure.refused
            if tenure.taken.is_set():
                return
            # Whoever has it finds that out within a beat, and gives others the time to take it.
            await self._store.claim(projection)

    async def _claim(self, projection: IProjection, tenure: _Tenure) -> Claim:
        tenure.epoch = 0
        claim: Claim | None = None
        with trio.move_on_after(_BLOCKED):
            claim = await self._store.claim(projection)
        if claim is None:
            count = await self._store.end_commits(projection)
            shard = shard_name(projection)
            self._log.warning("shard %r: ended %s commits of a former owner", shard, count)
            claim = await self._store.claim(projection)
        tenure.epoch = claim.epoch or 0
        return claim

    # -- holding leases ------------------------------------------------------------------------

    async def run(self) -> None:
        """Hold leases for ever."""
        wait = self._retry_time
        while True:
            try:
                async with self._store.leases() as session:
                    wait = self._retry_time
                    await self._hold(session)
            except DatabaseError as error:
                self._log.warning("the connection that holds leases was lost: %s", error)
                self._lose_all(error)
            await trio.sleep(wait)
            wait = min(2 * wait, self._longest_retry_time)

    async def _hold(self, session: LeaseSession) -> None:
        held: set[str] = set()
        while True:
            self._changed = trio.Event()
            with trio.move_on_after(self._lease_time / 2) as silence:
                await self._turn(session, held)
            if silence.cancelled_caught:
                raise DatabaseUnavailableError(f"no answer within {self._lease_time / 2} s")
            with trio.move_on_after(self._beat):
                await self._changed.wait()

    async def _turn(self, session: LeaseSession, held: set[str]) -> None:
        for shard in [each for each in held if not self._keeps(each)]:
            await session.leave(shard)
            held.discard(shard)
        epochs = {shard: self._epoch(shard) for shard in held}
        for shard in await session.renew(epochs):
            self._depose(shard, epochs[shard])
        for shard in tuple(self._wanted):
            if shard not in held and not self._stands_back(shard):
                taking = await session.take(shard, self._lease_time)
                if taking.taken:
                    held.add(shard)
                elif shard in self._wanted:
                    self._wanted[shard].waiting(_reason(taking), taking.progress)
            if shard in held and shard in self._wanted and not self._stands_back(shard):
                self._wanted[shard].taken.set()

    def _keeps(self, shard: str) -> bool:
        is_wanted = shard in self._wanted or self._kept[shard] > 0
        return is_wanted and not self._stands_back(shard)

    def _epoch(self, shard: str) -> int:
        """Give what a shard was claimed at; 0: it wasn't yet, or is only kept."""
        return self._wanted[shard].epoch if shard in self._wanted else 0

    def _stands_back(self, shard: str) -> bool:
        return trio.current_time() < self._back.get(shard, -math.inf)

    def _stand_back(self, shard: str) -> None:
        self._back[shard] = trio.current_time() + 3 * self._beat

    def _depose(self, shard: str, epoch: int) -> None:
        tenure = self._wanted.get(shard)
        if tenure is not None and tenure.epoch == epoch:
            self._stand_back(shard)
            tenure.lose("somebody else claimed, rewound or rebuilt it")

    def _lose_all(self, error: DatabaseError) -> None:
        reason = f"the connection that held its lease was lost: {error}"
        for tenure in self._wanted.values():
            if tenure.taken.is_set():
                tenure.lose(reason)
            elif is_the_stores(error):
                tenure.refuse(error)
            else:
                tenure.waiting(reason, None)


def _reason(taking: Taking) -> str:
    if taking.ended:
        return f"another process, pid {taking.pid}, ran it and fell silent: it was ended"
    if taking.pid is None:
        return "another process runs it, and hasn't said which"
    return f"another process runs it: pid {taking.pid}, application {taking.application_name!r}"


def ownership_for(store: DaemonStore, settings: DaemonSettings, log: logging.Logger) -> Ownership:
    """Give the ownership that a daemon's mode asks for."""
    return (
        Leases(store, settings, log) if settings.mode == "hot_cold" else Solo(store, settings, log)
    )
