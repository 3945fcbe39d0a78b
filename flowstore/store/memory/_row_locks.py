"""Locks on rows, as transactions take them: first come, first served, until the transaction ends."""

import math
from collections import deque
from collections.abc import Hashable
from typing import TypeAlias

import attrs
import trio

from flowstore.errors import DatabaseError

__all__ = ["LockedOutError", "Place", "RowLocks"]

Place: TypeAlias = tuple[str, Hashable]
"""Table and key of a row, whether there is such a row or not."""


class LockedOutError(DatabaseError):
    """A lock wasn't to be had: in time, or ever."""


@attrs.define(eq=False)
class RowLocks:
    """Say who holds which row, and let the others wait in the order they came."""

    _holders: dict[Place, Hashable] = attrs.field(factory=dict[Place, Hashable], init=False)
    _queues: dict[Place, deque[tuple[Hashable, trio.Event]]] = attrs.field(
        factory=dict[Place, deque[tuple[Hashable, trio.Event]]], init=False
    )
    _wanted: dict[Hashable, Place] = attrs.field(factory=dict[Hashable, Place], init=False)

    def holds(self, owner: Hashable, place: Place) -> bool:
        """Tell whether somebody holds a row."""
        return self._holders.get(place) is owner

    async def take(self, owner: Hashable, place: Place, seconds: float = math.inf) -> None:
        """Take a row, once those who came before are through with it.

        Raises:
            LockedOutError: it took longer than `seconds` (SQLSTATE 55P03), or who holds the row
                waits, at one remove or several, for this owner (40P01).
        """
        holder = self._holders.setdefault(place, owner)
        if holder is owner:
            return
        self._refuse_circle(owner, holder)
        entry = (owner, trio.Event())
        self._queues.setdefault(place, deque()).append(entry)
        self._wanted[owner] = place
        try:
            with trio.move_on_after(seconds):
                await entry[1].wait()
        except BaseException:
            # Cancelled, and in the same moment handed the row: nobody else would let go of it.
            self.release(owner, place)
            raise
        finally:
            self._wanted.pop(owner, None)
            if not entry[1].is_set():
                self._queues[place].remove(entry)
        if not entry[1].is_set():
            raise LockedOutError(
                f"canceling statement due to lock timeout: {place!r} was held for {seconds} s",
                sqlstate="55P03",
            )

    def release(self, owner: Hashable, place: Place) -> None:
        """Hand a row to whoever waits first."""
        if self._holders.get(place) is not owner:
            return
        queue = self._queues.get(place)
        if queue:
            following, event = queue.popleft()
            self._holders[place] = following
            # Before its task goes on: it waits for nobody any more, and least of all for itself.
            del self._wanted[following]
            event.set()
        else:
            del self._holders[place]
            self._queues.pop(place, None)

    def forget(self, owner: Hashable) -> None:
        """Release what an owner has, and end its wait: its task goes on without the row."""
        place = self._wanted.pop(owner, None)
        if place is not None:
            [entry] = [entry for entry in self._queues[place] if entry[0] is owner]
            self._queues[place].remove(entry)
            entry[1].set()
        for place in [place for place, holder in self._holders.items() if holder is owner]:
            self.release(owner, place)

    def _refuse_circle(self, owner: Hashable, holder: Hashable) -> None:
        """Refuse to wait for whoever waits for us: neither would ever go on."""
        while (wanted := self._wanted.get(holder)) is not None:
            holder = self._holders[wanted]
            if holder is owner:
                raise LockedOutError(
                    f"deadlock detected: {wanted!r} is held by who waits for it here",
                    sqlstate="40P01",
                )
