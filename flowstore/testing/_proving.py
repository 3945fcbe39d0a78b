"""Running one projection in all the ways there are, over one drawn schedule of appends."""

import itertools
import json
import logging
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, suppress
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, Final
from uuid import UUID

import attrs
import trio

from flowstore.codec import DocumentCodec
from flowstore.daemon import EventFailedError, ProjectionDaemon
from flowstore.errors import DatabaseUnavailableError, RebuildError, StaleResultsError
from flowstore.events import NewEvent
from flowstore.projections import (
    AggregateProjection,
    IProjection,
    Lifecycle,
    produced_by,
    shard_name,
)
from flowstore.store import StoreOptions
from flowstore.store.memory import Pause, give_way
from flowstore.testing._broken_law import BrokenLawError
from flowstore.testing._placing import told
from flowstore.testing._reference import Judge, Reference
from flowstore.testing._schedules import CommitSchedule, Moment, play_schedule
from flowstore.testing._strategies import CrashPoint
from flowstore.testing._subjects import MakeProjection
from flowstore.testing._troubles import Troubles
from flowstore.testing._witness import Documents, PagedStore, WitnessedDatabase, set_aside

__all__ = ["LONGEST_PAUSE", "Case", "Proof", "Trial", "process_of", "quiet_daemon", "refused"]

_PATIENCE: Final = 600.0
"""Virtual seconds that a shard has to come to its end: more than all its retries take."""

_BEGIN: Final = datetime(2000, 1, 1, tzinfo=UTC)
LONGEST_PAUSE: Final = 4
"""The pause of a writer that goes on when nobody else has anything to do."""

_TURNS: Final = 8
"""Turns that each step of the shorter pauses leaves to others."""


@attrs.frozen
class Case:
    """Hold what is drawn for one trial.

    Attributes:
        schedule: who appends what, and who commits when.
        sizes: how many events pages have, over and over.
        crashes: what befalls the projection's commits.
        cancellations: after how many turns each process is cancelled; those after the last of
            them are left in peace.
        pauses: of writers between two steps, over and over, from 0 to `LONGEST_PAUSE`.
    """

    schedule: CommitSchedule
    sizes: Sequence[int]
    crashes: tuple[CrashPoint, ...] = ()
    cancellations: tuple[int, ...] = ()
    pauses: Sequence[int] = (LONGEST_PAUSE,)


@attrs.frozen
class Proof:
    """Say what is to be proved.

    Attributes:
        make: gives each process its projection.
        options: gives each process its options.
        lifecycles: the ways it may run, that have to come to the same.
    """

    make: MakeProjection
    options: Callable[[], StoreOptions]
    lifecycles: frozenset[Lifecycle]


class Trial:
    """Run a projection over a case in all ways, and hold each against the laws."""

    def __init__(self, proof: Proof, case: Case) -> None:
        self._proof = proof
        self._case = attrs.evolve(case, schedule=_pinned(case.schedule))
        projection = proof.make()
        self._name, self._shard = projection.name, shard_name(projection)
        steps = case.schedule.steps
        self._types = tuple(dict.fromkeys(_type_of(data) for step in steps for data in step.data))

    async def run(self) -> bool:
        """Run it.

        Returns:
            Whether anything was written at all.

        Raises:
            BrokenLawError: a law is broken.
        """
        lifecycles = self._proof.lifecycles
        reference = await self._one_at_a_time(is_live=Lifecycle.LIVE in lifecycles)
        if Lifecycle.INLINE in lifecycles:
            await self._inline(reference)
        if Lifecycle.ASYNC in lifecycles:
            await self._in_the_daemon(reference)
        return not reference.is_empty

    # -- one at a time, and live -------------------------------------------------------------

    async def _one_at_a_time(self, *, is_live: bool) -> Reference:
        database = WitnessedDatabase(self._shard, [1])
        store, projection = self._process(database)
        is_by_stream = isinstance(projection, AggregateProjection)
        reference = Reference(self._name, is_by_stream)
        async with self._straight(store) as moments:
            async for moment in moments:
                reference.events = moment.visible
        database.looked_at = lambda progress: reference.note(progress, database.documents())
        async with quiet_daemon(store) as daemon:
            try:
                for event in reference.events:
                    database.last = event.sequence
                    await daemon.catch_up()
                database.last = None
                await daemon.catch_up()
            except* EventFailedError as failed:
                raise refused(reference, failed) from None
        reference.check_unaltered(database)
        if is_live and isinstance(projection, AggregateProjection):
            await self._live(reference, store, projection)
        return reference

    async def _live(
        self, reference: Reference, store: PagedStore, projection: AggregateProjection
    ) -> None:
        codec = DocumentCodec(store.options.events.converter)
        kind, found = projection.produces, Documents()
        streams = dict.fromkeys((each.tenant_id, each.stream_id) for each in reference.events)
        for tenant, stream in streams:
            async with store.session(tenant_id=tenant) as session:
                document: Any = await session.events.aggregate_stream(kind, stream)
            if document is not None:
                found[tenant, kind, stream] = json.loads(codec.encode(document))
        reference.check_way(found, reference.end, "live")

    # -- inline ------------------------------------------------------------------------------

    async def _inline(self, reference: Reference) -> None:
        database = WitnessedDatabase(self._shard, [1])
        store, _ = self._process(database, Lifecycle.INLINE)
        at = 0
        for append in _appends(self._case.schedule):
            try:
                async with aclosing(play_schedule(append, store)) as moments:
                    async for moment in moments:
                        at = moment.visible[-1].sequence if moment.visible else at
                        reference.check_way(database.documents(), at, "inline")
            except AssertionError:
                raise
            except Exception as error:
                if append.steps[-1].verb == "roll back":
                    continue  # nobody else is asked to apply its events, so nothing can be said
                raise BrokenLawError(
                    "agreement",
                    f"projection {self._name!r}: inline it fails an append whose events it can"
                    f" apply one at a time: {type(error).__name__}: {error}",
                ) from error

    # -- in the daemon -----------------------------------------------------------------------

    async def _in_the_daemon(self, reference: Reference) -> None:
        database = WitnessedDatabase(self._shard, self._case.sizes)
        judge = Judge(reference, database, "in the daemon")
        with judge.scope:
            async with trio.open_nursery() as nursery:
                written = trio.Event()
                nursery.start_soon(self._write, database, written)
                case = self._case
                troubles = Troubles(case.crashes, case.cancellations, database.log)
                while not await self._run_process(database, written, judge, troubles):
                    await trio.lowlevel.checkpoint()
                nursery.cancel_scope.cancel()
        judge.settle()

    async def _write(self, database: WitnessedDatabase, written: trio.Event) -> None:
        store, _ = self._process(database)
        pauses = itertools.cycle(self._case.pauses)
        async with aclosing(play_schedule(self._case.schedule, store)) as moments:
            async for _ in moments:
                await _pause(next(pauses))
        written.set()

    async def _run_process(
        self, database: WitnessedDatabase, written: trio.Event, judge: Judge, troubles: Troubles
    ) -> bool:
        """Run a process to its end, or until it is cancelled.

        Returns:
            Whether it came to its end.
        """
        is_through = False
        async with trio.open_nursery() as process:
            store, projection = self._process(database, pause=troubles.at)
            troubles.begin(process)
            async with quiet_daemon(store) as daemon:
                await daemon.start_all()
                await written.wait()
                await self._come_to_rest(daemon, store, judge)
                await self._rebuild(daemon, projection, judge)
            is_through = True
            process.cancel_scope.cancel()
        return is_through

    async def _come_to_rest(
        self, daemon: ProjectionDaemon, store: PagedStore, judge: Judge
    ) -> None:
        try:
            await daemon.wait_for_non_stale_results(_PATIENCE)
        except StaleResultsError as error:
            judge.blame(str(error))
        for letter in await store.dead_letters():
            judge.blame(f"{set_aside(letter)}; one at a time it can be applied")

    async def _rebuild(
        self, daemon: ProjectionDaemon, projection: IProjection, judge: Judge
    ) -> None:
        judge.begin_rebuild()
        is_through = False
        while not is_through:
            # Troubles are left, and an operator who is told of one says it again.
            with suppress(DatabaseUnavailableError):
                try:
                    await daemon.rebuild(projection.name)
                except RebuildError as error:
                    judge.blame(str(error))
                is_through = True

    # -- inside ------------------------------------------------------------------------------

    def _process(
        self,
        database: WitnessedDatabase,
        lifecycle: Lifecycle = Lifecycle.ASYNC,
        pause: Pause = give_way,
    ) -> tuple[PagedStore, IProjection]:
        """Make what a process has of its own: a store, and a projection with nothing in memory."""
        return process_of(self._proof, self._types, database, lifecycle=lifecycle, pause=pause)

    def _straight(self, store: PagedStore) -> AbstractAsyncContextManager[AsyncGenerator[Moment]]:
        return aclosing(play_schedule(_straightened(self._case.schedule), store))


def process_of(
    proof: Proof,
    types: Iterable[type],
    database: WitnessedDatabase,
    *,
    lifecycle: Lifecycle = Lifecycle.ASYNC,
    pause: Pause = give_way,
    seed: int = 0,
) -> tuple[PagedStore, IProjection]:
    """Make what a process has of its own: a store, and a projection with nothing in memory.

    Args:
        proof: what is to be proved.
        types: of the events that are read.
        database: what it shares with other processes.
        lifecycle: of the projection.
        pause: is awaited at each step of a commit.
        seed: of the ids of events that come without one.
    """
    options, projection = proof.options(), proof.make()
    options.events.add_types(*types)
    options.projections.add(projection, lifecycle=lifecycle)
    random = Random(seed)  # noqa: S311  ids are no secrets
    store = PagedStore(options, database=database, pause=pause, random=random)
    for kind, version in produced_by(projection).items():
        database.classes[store.document_rows(kind, version).name] = kind
    return store, projection


def quiet_daemon(store: PagedStore) -> AbstractAsyncContextManager[ProjectionDaemon]:
    logger = logging.Logger("quiet")  # noqa: LOG001  it belongs to no other
    logger.addHandler(logging.NullHandler())
    return store.build_projection_daemon(logger=logger)


def refused(reference: Reference, failed: ExceptionGroup[EventFailedError]) -> BrokenLawError:
    """Tell of an event that can't be applied even alone."""
    failure, cause = failed.exceptions[0], failed.exceptions[0].__cause__
    places = (
        told(each)
        for each in reference.events
        if isinstance(failure, EventFailedError) and each.sequence == failure.sequence
    )
    return BrokenLawError(
        "no skip",
        f"projection {reference.name!r} can't apply an event: {type(cause).__name__}: {cause}\n"
        f"  {next(places)}\n"
        "  where an application never appends that, say what it does: by first=, by strategies"
        " in place of classes, or by schedules=",
    )


async def _pause(length: int) -> None:
    if length >= LONGEST_PAUSE:
        await trio.sleep(1)
    for _ in range(length * _TURNS):
        await trio.lowlevel.checkpoint()


def _type_of(data: Any) -> type[Any]:
    value: Any = data.data if isinstance(data, NewEvent) else data
    return value.__class__


def _pinned(schedule: CommitSchedule) -> CommitSchedule:
    """Give events ids and times of their own, so that they are the same in every run."""
    numbers = itertools.count(1)

    def pin(data: Any) -> NewEvent:
        new, number = data if isinstance(data, NewEvent) else NewEvent(data), next(numbers)
        return attrs.evolve(
            new,
            id=new.id or UUID(int=number),
            timestamp=new.timestamp or _BEGIN + timedelta(seconds=number),
        )

    steps = (attrs.evolve(step, data=tuple(map(pin, step.data))) for step in schedule.steps)
    return CommitSchedule(tuple(steps))


def _straightened(schedule: CommitSchedule) -> CommitSchedule:
    """Let each append end before the next begins: the numbers stay the same."""
    return CommitSchedule(tuple(step for append in _appends(schedule) for step in append.steps))


def _appends(schedule: CommitSchedule) -> Iterator[CommitSchedule]:
    """Cut a schedule into its appends, in the order of their numbers, each with its end."""
    ends = {step.writer: step for step in schedule.steps if step.verb != "draw"}
    for step in schedule.steps:
        if step.verb == "draw":
            yield CommitSchedule((step, ends[step.writer]))
