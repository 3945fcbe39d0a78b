"""Applying a batch and committing it: the only place where a projection's effects happen."""

import logging
import math
import traceback
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final, Literal

import attrs
import trio

from flowstore.daemon._needs import Target
from flowstore.daemon._retrying import Patience, is_passing, is_the_stores
from flowstore.errors import (
    DocumentsEditedError,
    FlowstoreError,
    ProgressConflictError,
    ShardEditedError,
)
from flowstore.events import DeadLetter, Event, EventBatch, EventFailure, EventStream
from flowstore.projections import IProjection, apply_projection, shard_name
from flowstore.store import Claim, ProjectionUnit

__all__ = ["Applier", "EventFailedError", "by_tenant"]


_LONGEST_TEXT: Final = 10_000
"""Characters of a dead letter's message, and of its traceback: one poisonous event may bring millions,
and a shard may set thousands of events aside."""


class EventFailedError(FlowstoreError):
    """A shard stopped before an event that can't be applied or decoded.

    The event's own error is the cause.

    Attributes:
        shard: the shard's name.
        sequence: the event's place in the store.
    """

    def __init__(self, shard: str, sequence: int, error: Exception) -> None:
        super().__init__(
            f"shard {shard!r} stopped before the event with sequence {sequence}:"
            f" {type(error).__name__}: {error}"
        )
        self.shard = shard
        self.sequence = sequence


def _nothing(_committed: int) -> None:
    """Do nothing."""


async def _leave_empty(_unit: ProjectionUnit) -> None:
    """Queue nothing."""


@attrs.define(eq=False)
class Applier:
    """Applies batches to one projection, in floor order, each exactly once.

    Exactly once rests on one transaction that moves progress from the batch's floor to its ceiling
    and writes what the projection queued: whoever doesn't find progress at the floor, or isn't the
    shard's owner any more, writes nothing. A dead letter that is retried meanwhile writes to the
    same documents: then the batch is refused too, and applied again to what it finds now.

    Attributes:
        store: where effects and progress go.
        projection: what is applied.
        claim: what the shard's owner was told; None: nobody owns it, and the floor alone decides.
        on_error: what becomes of an event that fails alone.
        rebuilding: leave out what waits for commits.
        patience: waits out trouble with the database; None raises it.
        commits: bounds how many commits there are at the same time.
        committed: is told the progress after every commit.
        log: is told of what fails after a commit.
        begin: begins a unit of work; None does it as `store` does.
        unknown: units of work, by their ceilings, of which nobody has said that they were committed
            or refused: the server may carry one out after it was looked where the shard stands.
    """

    store: Target
    projection: IProjection
    claim: Claim | None = None
    on_error: Literal["dead_letter", "stop"] = "dead_letter"
    rebuilding: bool = False
    patience: Patience | None = None
    commits: trio.CapacityLimiter = attrs.field(factory=lambda: trio.CapacityLimiter(math.inf))
    committed: Callable[[int], None] = _nothing
    log: logging.Logger = attrs.field(factory=lambda: logging.getLogger("flowstore.daemon"))
    begin: Callable[[], ProjectionUnit] | None = None
    unknown: dict[int, ProjectionUnit] = attrs.field(factory=dict[int, ProjectionUnit])

    @property
    def shard(self) -> str:
        """The name that progress is kept under."""
        return shard_name(self.projection)

    async def apply(self, batch: EventBatch) -> None:
        """Apply a batch and commit it, or parts of it one after the other.

        Raises:
            EventFailedError: an event failed and the shard is to stop there; what comes before it
                is committed.
            ProgressConflictError: the batch doesn't continue from the shard's progress.
            SchemaError: a table is missing and may not be created.
            InsufficientPrivilegeError: the role lacks a right.
            DatabaseError: PostgreSQL refused, or can't be reached and nobody has patience.
        """
        try:
            await self._apply(batch)
        except ProgressConflictError:
            if not await self._was_carried_out_late(batch):
                raise
            self.committed(batch.ceiling)

    async def _apply(self, batch: EventBatch) -> None:
        failure = await self._attempt(batch)
        if failure is None:
            return
        parts = _halves(batch)
        if parts:
            for part in parts:
                await self.apply(part)
        else:
            await self._set_aside(batch, failure)

    async def commit_unit(self, batch: EventBatch, unit: ProjectionUnit) -> None:
        """Commit what a batch wrote, which was folded elsewhere; its streams aren't looked at.

        Raises:
            ProgressConflictError: the batch doesn't continue from the shard's progress.
            ShardEditedError: its documents were written to meanwhile.
            DocumentsEditedError: those that it relies on were written to by somebody else.
            DatabaseError: PostgreSQL refused, or can't be reached and nobody has patience.
        """
        await self._patiently(batch, lambda: self._commit_once(batch, unit, (), self.claim))
        self.committed(batch.ceiling)

    async def _attempt(self, batch: EventBatch) -> Exception | None:
        """Apply and commit a batch as a whole; returns what the events in it made fail."""
        if batch.failures:
            # Failures stand between events: what comes before them has to be committed first.
            return batch.failures[0].error
        try:
            await self._patiently(batch, lambda: self._write(batch))
        except ProgressConflictError:
            raise
        except Exception as error:
            if is_passing(error) or not batch.streams:
                raise
            if not await self._was_committed(batch):
                if is_the_stores(error):
                    raise
                return error
            self.log.exception("shard %r: what waited for a commit failed after it", self.shard)
        self.committed(batch.ceiling)
        return None

    async def _was_committed(self, batch: EventBatch) -> bool:
        """Look whether a batch is committed, however long the database can't be reached."""
        if self.patience is None:
            return await self._is_committed(batch)
        look = partial(self._is_committed, batch)
        return await self.patience.attempt(f"looking where {self.shard!r} stands", look)

    async def _was_carried_out_late(self, batch: EventBatch) -> bool:
        """Tell whether what stands in a batch's way is an attempt of this owner's to commit it.

        One that was given up, and that the server has carried out after it was looked: there is
        nothing left to be done but to call what waits for it.
        """
        if batch.ceiling not in self.unknown or not await self._was_committed(batch):
            return False
        try:
            await self._settle(self.unknown.pop(batch.ceiling))
        except Exception:
            self.log.exception("shard %r: what waited for a commit failed after it", self.shard)
        return True

    async def _is_committed(self, batch: EventBatch) -> bool:
        standing = await self.store.standing(self.projection)
        if standing.sequence != batch.ceiling:
            return False
        # Another owner may have brought the shard to the very same place.
        return self.claim is None or self.claim.epoch in {None, standing.epoch}

    async def _write(self, batch: EventBatch) -> None:
        async def fill(unit: ProjectionUnit) -> None:
            for tenant, streams in by_tenant(batch.streams):
                session = unit if tenant is None else unit.for_tenant(tenant)
                await apply_projection(self.projection, session, streams)

        await self._commit(batch, fill, ())

    async def _commit(
        self,
        batch: EventBatch,
        fill: Callable[[ProjectionUnit], Awaitable[None]],
        letters: Sequence[DeadLetter],
    ) -> None:
        """Fill a unit of work and commit it; again, if its documents were written to meanwhile."""
        claim = self.claim or attrs.evolve(await self.store.standing(self.projection), epoch=None)
        while True:
            self.claim = claim
            unit = (self.begin or self.store.projection_session)()
            await fill(unit)
            try:
                await self._commit_once(batch, unit, letters, claim)
            except ShardEditedError as edited:
                claim = attrs.evolve(claim, edits=edited.edits)
            else:
                await self._settle(unit)
                return

    async def _commit_once(
        self,
        batch: EventBatch,
        unit: ProjectionUnit,
        letters: Sequence[DeadLetter],
        claim: Claim | None,
    ) -> None:
        try:
            self.commits.acquire_nowait()  # without a turn of the event loop, which `async with` takes
        except trio.WouldBlock:
            await self.commits.acquire()
        try:
            try:
                await self.store.commit_batch(
                    unit,
                    shard=self.shard,
                    floor=batch.floor,
                    ceiling=batch.ceiling,
                    dead_letters=letters,
                    rebuilding=True,  # what waits for it may be slow, and needs no slot
                    claim=claim,
                )
            except (ProgressConflictError, ShardEditedError, DocumentsEditedError):
                raise  # it was refused
            except BaseException:
                self.unknown[batch.ceiling] = unit
                raise
        finally:
            self.commits.release()
        self.unknown.clear()  # whatever comes late now finds another floor

    async def _set_aside(self, batch: EventBatch, error: Exception) -> None:
        """Deal with a batch of a single event that fails."""
        sequence = _places(batch)[0]
        if self.on_error == "stop":
            raise EventFailedError(self.shard, sequence, error) from error
        letter = DeadLetter(
            self.shard,
            sequence,
            type(error).__name__,
            *_told(error),
        )
        await self._patiently(batch, lambda: self._commit(batch, _leave_empty, (letter,)))
        self.committed(batch.ceiling)

    async def _patiently(self, batch: EventBatch, work: Callable[[], Awaitable[None]]) -> None:
        """Do the work, trying again while trouble with the database passes.

        A reply to COMMIT may be lost although the commit happened: before a further attempt the
        progress tells.
        """
        if self.patience is None:
            await work()
            return
        tried = False

        async def attempt() -> None:
            nonlocal tried
            if tried and await self._is_committed(batch):
                await self._settle(self.unknown.pop(batch.ceiling, None))
                return
            tried = True
            await work()

        await self.patience.attempt(f"committing {self.shard!r}", attempt)

    async def _settle(self, unit: ProjectionUnit | None) -> None:
        """Call what waits for a commit, once, also if the commit's reply was lost."""
        if unit is not None and not self.rebuilding:
            await self.store.call_after_commit(unit)


def _told(error: Exception) -> tuple[str, str]:
    """Give an error's message and traceback; the application's own error may fail at telling."""
    try:
        message = str(error)
    except Exception as failure:  # noqa: BLE001  whatever it is, the event's place is what counts
        message = f"its message can't be told: {type(failure).__name__}"
    try:
        trace = "".join(traceback.format_exception(error))
    except Exception:  # noqa: BLE001  as above
        trace = "".join(traceback.format_tb(error.__traceback__))
    return _bounded(message), _bounded(trace)


def _bounded(text: str) -> str:
    """Cut the middle out of a text that is too long: an error may quote all of an event."""
    if len(text) <= _LONGEST_TEXT:
        return text
    note = f"\n[cut: {len(text):,} characters in all]\n"
    kept = _LONGEST_TEXT - len(note)
    return text[: kept - kept // 2] + note + text[-(kept // 2) :]


def by_tenant(
    streams: Sequence[EventStream],
) -> list[tuple[str | None, list[EventStream]]]:
    """Sort streams by tenant, both in the order they come."""
    tenants: dict[str | None, list[EventStream]] = {}
    for stream in streams:
        tenants.setdefault(stream.events[0].tenant_id, []).append(stream)
    return list(tenants.items())


def _places(batch: EventBatch) -> list[int]:
    """List the sequences of a batch's events and failures, in order."""
    places = [event.sequence for stream in batch.streams for event in stream.events]
    places += [failure.sequence for failure in batch.failures]
    return sorted(places)


def _halves(batch: EventBatch) -> tuple[EventBatch, ...]:
    """Cut a batch in two, each with half of its events; nothing for a single event."""
    places = _places(batch)
    if len(places) < 2:
        return ()
    middle = places[len(places) // 2 - 1]
    return (
        _between(batch, batch.floor, middle),
        _between(batch, middle, batch.ceiling),
    )


def _between(batch: EventBatch, floor: int, ceiling: int) -> EventBatch:
    streams: list[tuple[EventStream, tuple[Event, ...]]] = [
        (stream, tuple(event for event in stream.events if floor < event.sequence <= ceiling))
        for stream in batch.streams
    ]
    kept = [attrs.evolve(stream, events=events) for stream, events in streams if events]
    kept.sort(key=lambda stream: stream.events[0].sequence)
    failures: tuple[EventFailure, ...] = tuple(
        failure for failure in batch.failures if floor < failure.sequence <= ceiling
    )
    return EventBatch(floor, ceiling, kept, failures)
