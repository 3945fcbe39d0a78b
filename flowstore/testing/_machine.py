"""A projection as a state machine: what happens, and in which order, is Hypothesis' to choose."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, ClassVar, Final, TypeVar, cast
from uuid import UUID

import trio
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from flowstore.daemon import EventFailedError, ProjectionDaemon
from flowstore.errors import RebuildError, StaleResultsError
from flowstore.events import StreamId
from flowstore.projections import AggregateProjection, Lifecycle, shard_name
from flowstore.store import StoreOptions
from flowstore.store.memory import DEAD_LETTERS, EVENTS
from flowstore.testing._broken_law import BrokenLawError
from flowstore.testing._memory_store import MemoryStore
from flowstore.testing._proving import Proof, process_of, quiet_daemon, refused
from flowstore.testing._reference import Reference
from flowstore.testing._schedules import end_append
from flowstore.testing._stepping import SteppedLoop
from flowstore.testing._strategies import (
    EventSource,
    applications_own,
    event_data,
    page_sizes,
    stream_ids,
    types_in,
)
from flowstore.testing._subjects import maker_of
from flowstore.testing._witness import WitnessedDatabase, set_aside

__all__ = ["ProjectionMachine"]

_T = TypeVar("_T")

_PATIENCE: Final = 600.0
_ALL: Final = 1_000_000


def _of(draw: "Callable[[ProjectionMachine], st.SearchStrategy[_T]]") -> st.SearchStrategy[_T]:
    """Draw what depends on the machine."""
    machine = cast("st.SearchStrategy[ProjectionMachine]", st.runner())
    return machine.flatmap(draw)


class ProjectionMachine(RuleBasedStateMachine):
    """Append, commit, roll back, project, crash and rebuild in an order that Hypothesis chooses.

    After every step the documents are those of the events up to the progress, applied one at a time,
    and nothing is set aside. Subclass it, say which projection is meant, and add rules and invariants
    of your own, which may do what an application does:

        class Baskets(ProjectionMachine):
            projection = Basket
            events = ()

            @rule(price=st.integers(1, 9))
            def order(self, price):
                self.append(self.stream_ids[0], Ordered(price))

        TestBaskets = Baskets.TestCase

    Attributes:
        projection: what `check_projection` takes.
        events: what is appended at random, as for `event_histories`; None: what it consumes; empty:
            nothing, but what rules of your own append.
        first: the same for what each stream begins with; None: as any other event.
        streams: how many streams there are.
        store: the store of the process that runs the projection.
    """

    projection: ClassVar[Any]
    events: ClassVar[Sequence[EventSource] | None] = None
    first: ClassVar[EventSource | None] = None
    streams: ClassVar[int] = 2
    store: MemoryStore

    def __init__(self) -> None:
        super().__init__()
        kind = type(self)
        make = maker_of(kind.projection)
        projection = make()
        self._proof = Proof(make, self.options, frozenset({Lifecycle.ASYNC}))
        self._name, self._shard = projection.name, shard_name(projection)
        sources = applications_own(projection.consumes) if kind.events is None else kind.events
        self._appends = bool(sources)
        self._data = event_data(sources) if sources else st.nothing()
        self._first = st.none() if kind.first is None else event_data([kind.first])
        self.stream_ids = stream_ids(kind.streams, self.options().stream_identity)
        self._held: dict[StreamId, AbstractAsyncContextManager[Any]] = {}
        self._begun: set[StreamId] = set()
        self._processes = 0
        self._reference = Reference(
            self._name, is_by_stream=isinstance(projection, AggregateProjection)
        )
        self._loop = SteppedLoop()

    # -- for rules of one's own --------------------------------------------------------------

    def options(self) -> StoreOptions:
        """Make the options of a store; override it where the default ones won't do."""
        return StoreOptions()

    def call(self, function: Callable[..., Awaitable[_T]], *arguments: Any) -> _T:
        """Run an async function to its end while the daemon goes on; gives what it gives."""
        return self._loop.call(function, *arguments)

    def append(self, stream_id: StreamId, *events: Any) -> None:
        """Append to a stream and commit; an append that is held open there is committed before."""
        self._end(stream_id, keeps=True)

        async def append() -> None:
            async with self.store.session() as session:
                session.events.append(stream_id, *events)
                await session.save_changes()

        self.call(append)
        self._begun.add(stream_id)

    def load(self, document_type: type[_T], document_id: UUID | str | int) -> _T | None:
        """Read a document as it is now; the daemon may be behind: see `settle`."""

        async def load() -> _T | None:
            async with self.store.session() as session:
                return await session.load(document_type, document_id)

        return self.call(load)

    def settle(self) -> None:
        """Commit what is held open, and wait until the projection has applied everything.

        Raises:
            BrokenLawError: it never does.
        """
        self._commit_all()
        try:
            self.call(self._daemon.wait_for_non_stale_results, _PATIENCE)
        except StaleResultsError as error:
            raise BrokenLawError("no skip", f"projection {self._name!r}: {error}") from error

    # -- what may happen ---------------------------------------------------------------------

    @initialize(sizes=page_sizes(max_size=4), scheduler=st.random_module())
    def begin(self, sizes: list[int], scheduler: Any) -> None:
        """Begin with an empty store, and a process that runs the projection."""
        del scheduler  # seeds the order in which trio runs its tasks
        self._database = WitnessedDatabase(self._shard, sizes)
        self._alone = WitnessedDatabase(self._shard, [1])
        self._reader, _ = process_of(self._proof, (), self._alone)
        self._start([])

    @precondition(lambda self: cast("ProjectionMachine", self)._appends)  # noqa: SLF001
    @rule(
        stream_id=_of(lambda machine: st.sampled_from(machine.stream_ids)),
        beginning=_of(lambda machine: machine._first),  # noqa: SLF001  its own
        data=_of(lambda machine: st.lists(machine._data, min_size=1, max_size=3)),  # noqa: SLF001
    )
    def draw_numbers(self, stream_id: StreamId, beginning: Any, data: list[Any]) -> None:
        """Hold an append open: its numbers are drawn, and nobody sees it."""
        self._end(stream_id, keeps=True)
        if beginning is not None and stream_id not in self._begun:
            data = [beginning, *data[1:]]
        append = self.store.open_append(stream_id, *data)
        self.call(append.__aenter__)
        self._held[stream_id] = append

    @precondition(lambda self: bool(cast("ProjectionMachine", self)._held))  # noqa: SLF001
    @rule(which=st.integers(0, 3), keeps=st.sampled_from([True, False]))
    def end_append(self, which: int, keeps: bool) -> None:  # noqa: FBT001  it is drawn
        """Commit an append that is held open, or roll it back, which leaves holes."""
        self._end(list(self._held)[which % len(self._held)], keeps=keeps)

    @rule(turns=st.integers(1, 60))
    def work_a_little(self, turns: int) -> None:
        """Let the daemon have some turns, which may end in the middle of a page."""

        async def work() -> None:
            for _ in range(turns):
                await trio.lowlevel.checkpoint()

        self.call(work)

    @rule()
    def work(self) -> None:
        """Let the daemon apply what there is, as far as nothing is held open below it."""
        self.call(trio.sleep, 1)

    @rule()
    def crash(self) -> None:
        """End the process wherever it stands, and begin another."""
        self._process.cancel()
        self._database.log.append("the process ends, and another one begins")
        self._start(types_in(self.store.options.events))

    @rule()
    def rebuild(self) -> None:
        """Tear everything down and apply all events again; it would wait for what is held open."""
        self._commit_all()
        self._database.log.clear()
        try:
            self.call(self._daemon.rebuild, self._name)
        except RebuildError as error:
            raise BrokenLawError("no skip", str(error)) from error

    @invariant()
    def documents_are_those_of_the_events_up_to_the_progress(self) -> None:
        """Hold the documents against what the events give one at a time."""
        # All of it at once: as soon as somebody is called, the daemon goes on.
        database = self._database
        progress, found = database.progress(), database.documents()
        for _, letter in database.scan(DEAD_LETTERS):
            raise BrokenLawError("no skip", f"projection {self._name!r}: {set_aside(letter)}")
        if progress > self._alone.progress():
            self.call(self._apply_alone, progress)
        log = tuple(database.log)
        self._reference.check_effects(found, progress, "in the daemon", log)

    def teardown(self) -> None:
        """Let go of everything."""
        for append in self._held.values():
            self.call(_roll_back, append)
        self._loop.close()

    # -- inside ------------------------------------------------------------------------------

    def _commit_all(self) -> None:
        for stream_id in list(self._held):
            self._end(stream_id, keeps=True)

    def _end(self, stream_id: StreamId, *, keeps: bool) -> None:
        append = self._held.pop(stream_id, None)
        if append is None:
            return
        self.call(_commit if keeps else _roll_back, append)
        if keeps:
            self._begun.add(stream_id)

    def _start(self, types: Sequence[type]) -> None:
        self._processes += 1
        store, _ = process_of(self._proof, types, self._database, seed=self._processes)
        self.store = store

        async def run(task_status: trio.TaskStatus[Any]) -> None:
            with trio.CancelScope() as self._process:
                async with quiet_daemon(store) as self._daemon:
                    await self._daemon.start_all()
                    task_status.started()
                    await trio.sleep_forever()

        async def start() -> None:
            await self._loop.nursery.start(run)

        self.call(start)

    async def _apply_alone(self, progress: int) -> None:
        """Apply the events up to a place one at a time, beside everything."""
        reader, alone = self._reader, self._alone
        reader.options.events.add_types(*types_in(self.store.options.events))
        copied = alone.begin()
        for event in self._database.between(alone.position, progress):
            copied.put(EVENTS, event.sequence, event)
        copied.commit()
        alone.position = progress
        page = await MemoryStore.fetch_page(reader, 0, progress, limit=_ALL)
        self._reference.events = page.events
        alone.looked_at = lambda at: self._reference.note(at, alone.documents())
        async with quiet_daemon(reader) as daemon:
            try:
                await daemon.catch_up()
            except* EventFailedError as failed:
                raise refused(self._reference, failed) from None
        self._reference.check_unaltered(alone)

    _daemon: ProjectionDaemon
    _process: trio.CancelScope


async def _commit(append: AbstractAsyncContextManager[Any]) -> None:
    await end_append(append, keeps=True)


async def _roll_back(append: AbstractAsyncContextManager[Any]) -> None:
    await end_append(append, keeps=False)
