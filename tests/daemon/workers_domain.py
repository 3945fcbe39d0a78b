"""What worker processes import: events, documents, and what belongs to them. No test."""

from uuid import UUID

import attrs


@attrs.frozen
class Money:
    """Known to the converter by hooks only."""

    cents: int


def money_to_text(money):
    return f"{money.cents} cents"


def money_of_text(text, _):
    return Money(int(text.split()[0]))


@attrs.frozen
class Counted:
    by: int


@attrs.frozen
class Paid:
    money: Money


@attrs.frozen
class Named:
    name: str


@attrs.frozen
class Poisoned:
    why: str


@attrs.frozen
class Closed:
    reason: str


def named_of_title(old):
    return {"name": old["title"]}


class UnbearableError(Exception):
    """Can't be made of its message alone, so that it can't be pickled either."""

    def __init__(self, event, why):
        super().__init__(f"{event}: {why}")


@attrs.define
class Total:
    """Remembers what it was made of: an event lost, doubled or out of order shows."""

    id: UUID
    number: int = 0
    version: int = 0
    seen: list[int] = attrs.field(factory=list)

    def apply(self, counted: Counted) -> None:
        self.number += counted.by
        self.seen.append(counted.by)

    def apply_poisoned(self, poisoned: Poisoned) -> None:
        if poisoned.why == "unbearable":
            raise UnbearableError("poisoned", poisoned.why)
        raise ValueError(poisoned.why)

    def should_delete(self, closed: Closed) -> bool:
        return True


@attrs.define
class Text:
    """A total of a stream that is known by text."""

    id: str
    number: int = 0

    def apply(self, counted: Counted) -> None:
        self.number += counted.by


@attrs.define
class Label:
    id: UUID
    name: str = ""
    money: Money | None = None

    def apply(self, named: Named) -> None:
        self.name += named.name

    def apply_paid(self, paid: Paid) -> None:
        self.money = paid.money


async def enrich(session, events):
    return events
