"""The events, aggregates and documents that the contract's tests speak of."""

from typing import Any
from uuid import UUID

import attrs

from flowstore.daemon import Store
from flowstore.events import Event, StreamAction


@attrs.frozen
class Opened:
    """An account was opened."""

    owner: str


@attrs.frozen
class Deposited:
    """Money came."""

    amount: int


@attrs.frozen
class Withdrawn:
    """Money went."""

    amount: int


@attrs.frozen
class Closed:
    """The account is no more."""


@attrs.define
class Account:
    """What has become of an account."""

    id: UUID
    owner: str = ""
    balance: int = 0
    version: int = 0

    def apply_opened(self, opened: Opened) -> None:
        """Take the owner's name."""
        self.owner = opened.owner

    def apply_deposited(self, deposited: Deposited) -> None:
        """Add."""
        self.balance += deposited.amount

    def apply_withdrawn(self, withdrawn: Withdrawn) -> None:
        """Subtract."""
        self.balance -= withdrawn.amount

    def should_delete(self, _: Closed) -> bool:
        """End here."""
        return True


@attrs.define
class Ledger:
    """The same in a store whose streams are known by text."""

    id: str
    balance: int = 0

    def apply_deposited(self, deposited: Deposited) -> None:
        """Add."""
        self.balance += deposited.amount


@attrs.define
class User:
    """A document."""

    id: UUID
    name: str = ""
    age: int = 0
    tags: list[str] = attrs.field(factory=list[str])


@attrs.define
class Note:
    """A document whose identity is text."""

    id: str
    text: str = ""


@attrs.define
class Tally:
    """A document whose identity is a number."""

    id: int
    count: int = 0


async def commit(store: Store, stream_id: Any, *events: Any, **session: Any) -> StreamAction:
    """Append events in a session of their own."""
    async with store.session(**session) as unit:
        action = unit.events.append(stream_id, *events)
        await unit.save_changes()
    return action


async def read(store: Store, stream_id: Any, **asked: Any) -> list[Event]:
    """Fetch a stream in a session of its own."""
    async with store.session() as unit:
        return await unit.events.fetch_stream(stream_id, **asked)


async def values(store: Store, stream_id: Any, **asked: Any) -> list[Any]:
    """List what a stream's events say."""
    return [event.data for event in await read(store, stream_id, **asked)]


async def put(store: Store, *documents: object, **session: Any) -> None:
    """Store documents in a session of their own."""
    async with store.session(**session) as unit:
        unit.store(*documents)
        await unit.save_changes()


async def get(store: Store, kind: type, identity: Any, **session: Any) -> Any:
    """Load a document in a session of its own."""
    async with store.session(**session) as unit:
        return await unit.load(kind, identity)
