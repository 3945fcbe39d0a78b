"""A projection as a state machine: what a sound one does, what a bug looks like, rules of one's own."""

from typing import ClassVar
from uuid import UUID

import attrs
import pytest
import trio
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import rule, run_state_machine_as_test

from flowstore.projections import AsyncOptions
from flowstore.store import StoreOptions
from flowstore.testing import ProjectionMachine

FEW = settings(max_examples=5, stateful_step_count=15, deadline=None, database=None)
FINDING = settings(
    FEW, max_examples=100, phases=[Phase.generate], stateful_step_count=25, print_blob=False
)


@attrs.frozen
class Opened:
    owner: str


@attrs.frozen
class Paid:
    amount: int


@attrs.define
class Account:
    id: UUID
    owner: str
    balance: int = 0

    @classmethod
    def create(cls, opened: Opened) -> "Account":
        return cls(UUID(int=0), opened.owner)

    def apply(self, paid: Paid) -> None:
        self.balance += paid.amount


class Accounts(ProjectionMachine):
    projection = Account
    events = (Paid,)
    first = Opened


class Hoarder:
    """Takes what it has in memory for what is committed."""

    name = "hoarder"
    consumes: ClassVar = (Paid,)
    produces = Account
    async_options = AsyncOptions()

    def __init__(self):
        self.accounts = {}

    def apply(self, session, streams):
        for stream in streams:
            account = self.accounts.setdefault(stream.id, Account(stream.id, ""))
            account.balance += sum(event.data.amount for event in stream.events)
            session.store(account)


class Shop(ProjectionMachine):
    """An application's own rules: nothing is paid that wasn't opened, and the sum is known."""

    projection = Account
    events = ()

    def __init__(self):
        super().__init__()
        self.balances = {}

    @rule(which=st.integers(0, 1), amount=st.integers(1, 9))
    def pay(self, which, amount):
        stream_id = self.stream_ids[which]
        if stream_id not in self.balances:
            self.append(stream_id, Opened("Ada"))
        self.append(stream_id, Paid(amount))
        self.balances[stream_id] = self.balances.get(stream_id, 0) + amount

    @rule()
    def look(self):
        self.settle()
        for stream_id, balance in self.balances.items():
            assert self.load(Account, stream_id).balance == balance


def test_a_sound_projection_passes():
    run_state_machine_as_test(Accounts, settings=FEW)


def test_rules_of_ones_own_do_what_an_application_does():
    run_state_machine_as_test(Shop, settings=FEW)


def test_a_projection_that_hoards_is_found():
    class Hoarders(ProjectionMachine):
        projection = Hoarder

    with pytest.raises(AssertionError, match=r"balance is \S+ one at a time, \S+ in the daemon"):
        run_state_machine_as_test(Hoarders, settings=FINDING)


def test_an_event_that_never_comes_there_is_told():
    class Wrong(ProjectionMachine):
        projection = Account

    with pytest.raises(AssertionError, match="RegistrationError: Account can't begin"):
        run_state_machine_as_test(Wrong, settings=FINDING)


def test_it_is_a_test_case_and_can_be_driven_by_hand():
    machine = Accounts()
    machine.begin([1], None)
    first, second = machine.stream_ids
    machine.draw_numbers(first, Opened("Ada"), [Paid(1), Paid(2)])
    machine.append(second, Opened("Bob"), Paid(5))
    machine.work()
    assert machine.load(Account, second) is None  # the append that is open holds the mark
    machine.end_append(0, keeps=True)
    machine.settle()
    machine.documents_are_those_of_the_events_up_to_the_progress()
    assert machine.load(Account, first) == Account(first, "Ada", 2)
    machine.crash()
    machine.rebuild()
    machine.documents_are_those_of_the_events_up_to_the_progress()
    assert machine.call(machine.store.highest_sequence) == 4
    machine.teardown()


def test_options_may_be_others():

    @attrs.define
    class Named:
        id: str
        sum: int = 0

        def apply(self, paid: Paid) -> None:
            self.sum += paid.amount

    class Names(ProjectionMachine):
        projection = Named

        def options(self):
            return StoreOptions(stream_identity="string")

    run_state_machine_as_test(Names, settings=FEW)


def test_what_never_comes_to_its_end_is_an_error():
    machine = Accounts()
    machine.begin([1], None)
    with pytest.raises(RuntimeError, match="doesn't come to its end"):
        machine.call(trio.sleep_forever)
    assert machine.call(machine.store.highest_sequence) == 0
    machine.teardown()
