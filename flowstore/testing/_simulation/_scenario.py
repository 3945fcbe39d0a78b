"""What a simulation is told."""

from collections.abc import Awaitable, Callable, Sequence
from random import Random
from typing import Any, Final, TypeAlias
from uuid import UUID

import attrs
import trio
from cattrs import Converter

from flowstore.codec import make_converter
from flowstore.daemon import DaemonSettings, Store
from flowstore.errors import (
    ConcurrencyError,
    DatabaseUnavailableError,
    FlowstoreError,
    StreamNotFoundError,
)
from flowstore.store import Session, StoreOptions
from flowstore.testing._simulation._accounts import ACCOUNTS, decide_account, register_accounts
from flowstore.testing._simulation._faults import Faults

__all__ = ["AbortedError", "Scenario", "Writer"]

_TRIES: Final = 30


class AbortedError(FlowstoreError):
    """A writer gave a commit up on purpose, after its numbers were drawn."""


@attrs.frozen(eq=False)
class Writer:
    """Be one of those who append.

    Attributes:
        name: what it is called in the trace.
        store: its connection to the database.
        random: what all it draws comes from.
        streams: the streams that all writers append to.
        recorded: the ids of the events that it was told of as committed.
    """

    name: str
    store: Store
    random: Random
    streams: Sequence[Any]
    recorded: list[UUID] = attrs.field(factory=list[UUID], repr=False)

    async def save(self, session: Session) -> None:
        """Commit a session, again while the database can't be reached; what it did stands once.

        Raises:
            FlowstoreError: what `save_changes` raises.
        """
        pending = [event.id for action in session.events.pending for event in action.events]
        for tries in range(1, _TRIES + 1):
            try:
                await session.save_changes()
            except DatabaseUnavailableError:
                if tries == _TRIES:
                    raise
                await trio.sleep(0.05 * tries)
            else:
                self.recorded.extend(pending)
                return


Write: TypeAlias = Callable[[Writer], Awaitable[None]]


@attrs.frozen(kw_only=True)
class Scenario:
    """Say what runs in a simulation, and what happens to it. Times are seconds of virtual time.

    Attributes:
        name: what it is called where a failing seed is to be run again; for `flowstore sim` the
            place it is found at, as `shop.simulations:checkout`.
        register: registers projections and event types with the options of every process' store.
        decide: makes up an event, from the randomness it is given.
        write: does one thing as a writer; None appends one to three decided events to a stream.
        alike: document types whose documents have to agree, field by field, stream by stream:
            the same rule kept inline, in the daemon and live.
        writers: how many append at once.
        turns: how often each of them does so.
        streams: how many streams there are.
        aborts: the share of commits that are given up after their numbers were drawn, 0 to 1.
        longest_open: the longest pause between drawing numbers and committing.
        settings: of all daemons.
        hot_cold: the share of runs in which two daemons of mode "hot_cold" are there, whatever the
            settings say, and one takes over from the other; in the others there is one. 0 to 1.
        faults: what trouble there is.
        duration: how long the trouble lasts; writers spread their turns over it.
        heal_within: how long the rest may take until every projection has caught up.
        rebuilds: the share of runs that rebuild every projection at the end, 0 to 1.
    """

    name: str = "default"
    register: Callable[[StoreOptions], None] = register_accounts
    decide: Callable[[Random], Any] = decide_account
    write: Write | None = None
    alike: Sequence[type] = ()
    writers: int = 3
    turns: int = 7
    streams: int = 4
    aborts: float = 0.1
    longest_open: float = 0.1
    settings: DaemonSettings = attrs.field(
        factory=lambda: DaemonSettings(fast_polling_time=0.02, retry_time=0.02, lease_time=0.4)
    )
    hot_cold: float = 0.3
    faults: Faults = attrs.field(factory=Faults)
    duration: float = 1.5
    heal_within: float = 60.0
    rebuilds: float = 0.25
    # One for all stores of all runs: what it works out about classes costs more than a run.
    converter: Converter = attrs.field(factory=make_converter, init=False, repr=False, eq=False)


def default_scenario() -> Scenario:
    """Make the scenario that runs if nothing else is said."""
    return Scenario(alike=ACCOUNTS)


async def append_some(writer: Writer, decide: Callable[[Random], Any]) -> None:
    """Append one to three events to one of the streams, in one of the ways there are."""
    draw = writer.random
    stream, way = draw.choice(writer.streams), draw.random()
    events = [decide(draw) for _ in range(draw.randint(1, 3))]
    async with writer.store.session() as session:
        try:
            if way < 0.15:
                await session.events.append_optimistic(stream, *events)
            elif way < 0.3:
                await session.events.append_exclusive(stream, *events)
            else:
                session.events.append(stream, *events)
            await writer.save(session)
        except (ConcurrencyError, StreamNotFoundError):
            return  # somebody else was faster, or nobody was: there is nothing to say then


def new_streams(random: Random, options: StoreOptions, count: int) -> list[Any]:
    """Make up the identities of streams."""
    ids = [UUID(int=random.getrandbits(128)) for _ in range(count)]
    return ids if options.stream_identity == "uuid" else [f"stream-{each}" for each in ids]
