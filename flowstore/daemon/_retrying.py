"""Trouble with the database that passes: what it is, and waiting it out."""

import logging
import math
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import attrs
import trio

from flowstore.errors import (
    DatabaseError,
    DatabaseUnavailableError,
    InsufficientPrivilegeError,
    SchemaError,
)

__all__ = ["Patience", "is_passing", "is_the_stores"]

_T = TypeVar("_T")

_PASSING_CLASSES: Final = frozenset({"08", "53", "57", "58"})
"""PostgreSQL's classes of trouble with connections, resources, operators and the system."""
_PASSING: Final = frozenset({"40001", "40P01", "55P03"})
"""Serialization failure, deadlock, lock not available."""
_CANCELLED: Final = "57014"
"""A statement that ran into a timeout: it would again."""


def is_passing(error: BaseException) -> bool:
    """Tell whether the same attempt may succeed later, as it isn't about the data."""
    if isinstance(error, DatabaseUnavailableError):
        return True
    if not isinstance(error, DatabaseError) or error.sqlstate is None:
        return False
    state = error.sqlstate
    return state in _PASSING or (state[:2] in _PASSING_CLASSES and state != _CANCELLED)


def is_the_stores(error: BaseException) -> bool:
    """Tell whether it is the store that is wrong, and every event would fail alike.

    None of them may be set aside for that: a right that wasn't granted, a table that isn't there.
    """
    return isinstance(error, (InsufficientPrivilegeError, SchemaError))


@attrs.frozen
class Patience:
    """Try again while trouble passes, waiting longer each time.

    Attributes:
        shortest: seconds before the second attempt; doubles with each further one.
        longest: seconds it grows to at most.
        logger: is told of every failed attempt.
        tell: is told why nothing moves, and an empty text once it does.
        deadline: trio's time after which nothing is tried again.
    """

    shortest: float
    longest: float
    logger: logging.Logger
    tell: Callable[[str], None]
    deadline: float = math.inf

    async def attempt(self, what: str, work: Callable[[], Awaitable[_T]]) -> _T:
        """Do the work, as often as it takes.

        Raises:
            Exception: whatever the work raises that isn't passing, or hasn't passed in time.
        """
        wait = self.shortest
        has_failed = False
        while True:
            begun = trio.current_time()
            try:
                result = await work()
            except DatabaseError as error:
                # An attempt that has waited for long for a silent network has waited enough.
                again = max(trio.current_time() + self.shortest, begun + wait)
                if not is_passing(error) or again > self.deadline:
                    raise
                self.logger.warning("%s: %s; trying again in %.2g s", what, error, wait)
                self.tell(f"the database failed while {what}: {error}")
                has_failed = True
                await trio.sleep_until(again)
                wait = min(2 * wait, self.longest)
            else:
                if has_failed:
                    self.tell("")
                return result
