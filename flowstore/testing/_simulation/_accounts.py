"""What a simulation runs if nothing else is said: accounts, kept inline, in the daemon and live."""

from functools import cache
from random import Random
from typing import Any, Final, Literal

import attrs
import trio

from flowstore.events import Event
from flowstore.projections import (
    Aggregate,
    AggregateProjection,
    AsyncOptions,
    Lifecycle,
    ProjectionSession,
    aggregate_rule,
)
from flowstore.store import StoreOptions
from flowstore.testing._simulation._journal import Journal, JournalProjection, Ledger

__all__ = ["ACCOUNTS", "Mended", "decide_account", "register_accounts"]


@attrs.frozen
class Deposited:
    """Money came. What is spoiled can't be journalled before that is mended."""

    amount: int
    spoiled: bool = False


@attrs.frozen
class Withdrawn:
    """Money went."""

    amount: int


@attrs.frozen
class Disputed:
    """Money came that can't be counted in the daemon before a time, of virtual seconds."""

    amount: int
    until: float


@attrs.frozen
class Audited:
    """Somebody looked, which happens rarely."""


@attrs.define
class Account(Ledger):
    """Hold an account; what it holds depends on the order of its events."""

    balance: int = 0
    events: int = 0
    checksum: int = 0

    def apply_deposited(self, event: Deposited, envelope: Event) -> None:
        """Add."""
        self._count(event.amount, envelope)

    def apply_withdrawn(self, event: Withdrawn, envelope: Event) -> None:
        """Take away."""
        self._count(-event.amount, envelope)

    def apply_disputed(self, event: Disputed, envelope: Event) -> None:
        """Add, if it is time; inline and live it always is."""
        if type(self) is Account and trio.current_time() < event.until:
            raise ValueError(f"the event at {envelope.sequence} is disputed")
        self._count(event.amount, envelope)

    def apply_audited(self, _: Audited, envelope: Event) -> None:
        """Count."""
        self._count(0, envelope)

    def _count(self, amount: int, envelope: Event) -> None:
        self.versions.append(envelope.version)
        self.balance += amount
        self.events += 1
        self.checksum = (self.checksum * 31 + amount) % 1_000_003


@attrs.define
class InlineAccount(Account):
    """Hold the same, written in the transaction that appends."""


@attrs.define
class LiveAccount(Account):
    """Hold the same, folded whenever it is asked for."""


@attrs.define
class Audits(Journal):
    """Hold the sequences of the rare events."""


@attrs.define
class Mended:
    """Say, by being there, that what is spoiled can be journalled by now."""

    id: str


_NEVER: Final = 1e9
"""Virtual seconds: no run lasts as long."""

ACCOUNTS: Final[tuple[type, ...]] = (Account, InlineAccount, LiveAccount)


async def _refuse_spoiled(event: Event, session: ProjectionSession) -> None:
    data = event.data
    spoiled = isinstance(data, Deposited) and data.spoiled
    if spoiled and await session.load(Mended, "mended") is None:
        raise ValueError(f"the event at {event.sequence} is spoiled")


@cache
def _rule(kind: type[Any]) -> Aggregate[Any]:
    """Build a rule once: a run has six processes, and reading a class costs as much as a commit."""
    return aggregate_rule(kind)


def register_accounts(
    options: StoreOptions, on_error: Literal["dead_letter", "stop"] = "dead_letter"
) -> None:
    """Register accounts inline and in the daemon, a journal of everything, and one of what is rare.

    Args:
        options: of a process' store.
        on_error: what becomes of a disputed event in the daemon.
    """
    small = AsyncOptions(page_size=7, on_error=on_error, on_rebuild_error=on_error)
    kept = AggregateProjection(_rule(Account), "Account", async_options=small)
    inline = AggregateProjection(_rule(InlineAccount), "InlineAccount")
    live = AggregateProjection(_rule(LiveAccount), "LiveAccount")
    options.projections.add(kept)
    options.projections.add(inline, lifecycle=Lifecycle.INLINE)
    options.projections.add(live, lifecycle=Lifecycle.LIVE)
    options.projections.add(JournalProjection(_refuse_spoiled))
    options.projections.add(JournalProjection(name="audits", consumes=(Audited,), produces=Audits))


def decide_account(random: Random, *, disputes: float = 0.05, for_ever: float = 0.3) -> Any:
    """Make up an event.

    Args:
        random: what it is drawn from.
        disputes: the share of events that are disputed, up to 0.3.
        for_ever: the share of disputes that never end, 0 to 1.
    """
    kind, amount = random.random(), random.randint(1, 100)
    if kind < 0.1:
        return Audited()
    if kind < 0.1 + disputes:
        return Disputed(amount, _NEVER if random.random() < for_ever else random.uniform(0, 1.4))
    if kind < 0.4:
        return Withdrawn(amount)
    return Deposited(amount, spoiled=kind > 0.9)
