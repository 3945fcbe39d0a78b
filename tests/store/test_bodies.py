"""Structs and dataclasses as events, all the way to the database and back."""

from dataclasses import dataclass
from uuid import UUID, uuid4

import attrs
import pytest

msgspec = pytest.importorskip("msgspec", reason="msgspec is not installed")


class Deposited(msgspec.Struct, frozen=True):
    amount: int


@dataclass(frozen=True)
class Withdrawn:
    amount: int


@attrs.define
class Account:
    id: UUID
    balance: int = 0

    def apply(self, deposited: Deposited) -> None:
        self.balance += deposited.amount

    def apply_withdrawn(self, withdrawn: Withdrawn) -> None:
        self.balance -= withdrawn.amount


async def test_structs_and_dataclasses_are_stored_read_and_folded(store):
    async with store.session() as session:
        action = session.events.append(uuid4(), Deposited(5), Withdrawn(2))
        await session.save_changes()
        events = await session.events.fetch_stream(action.stream_id)
        assert [event.data for event in events] == [Deposited(5), Withdrawn(2)]
        account = await session.events.aggregate_stream(Account, action.stream_id)
        assert account == Account(action.stream_id, 3)
