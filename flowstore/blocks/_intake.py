"""Which item a worker may take next: the oldest, or the oldest whose key isn't being worked on."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

__all__ = ["Fifo", "KeyFault", "Lanes"]


class KeyFault(Exception):  # noqa: N818  never leaves the room
    """Carries an item and what its key function raised."""

    def __init__(self, item: Any, error: BaseException) -> None:
        super().__init__(item, error)
        self.item = item
        self.error = error


class Fifo:
    """Gives items in the order of arrival."""

    __slots__ = ("_queue",)

    def __init__(self, queue: deque[Any]) -> None:
        self._queue = queue

    def ready(self) -> bool:
        """Tell whether an item may be taken."""
        return bool(self._queue)

    def pending(self) -> bool:
        """Tell whether a further worker might find something."""
        return bool(self._queue)

    def take(self) -> tuple[Any, Any]:
        """Take the next item, with its key."""
        return None, self._queue.popleft()

    def done(self, key: Any) -> None:
        """Take note that the item of that key is through."""

    def waiting(self) -> int:
        """Count the items that haven't been taken."""
        return len(self._queue)

    def clear(self) -> None:
        """Give up all items."""
        self._queue.clear()


class Lanes:
    """Gives items in the order of arrival within a key, one at a time; keys don't wait for others.

    A lane exists while an item of its key is being worked on or may be taken; later items of the
    key stand in it. Items are sorted into lanes only when a worker looks for one, so that the key
    function runs in the block's own task.
    """

    __slots__ = ("_key", "_lanes", "_queue", "_ready")

    def __init__(self, queue: deque[Any], key: Callable[[Any], Hashable]) -> None:
        self._queue = queue
        self._key = key
        self._lanes: dict[Hashable, deque[Any]] = {}
        self._ready: deque[tuple[Hashable, Any]] = deque()

    def ready(self) -> bool:
        """Sort items into lanes until one may be taken; False if none may.

        Raises:
            KeyFault: the key function raised, or its key can't be hashed.
        """
        while self._queue and not self._ready:
            item = self._queue.popleft()
            try:
                key = self._key(item)
                lane = self._lanes.get(key)
            except BaseException as error:
                raise KeyFault(item, error) from error
            if lane is None:
                self._lanes[key] = deque()
                self._ready.append((key, item))
            else:
                lane.append(item)
        return bool(self._ready)

    def pending(self) -> bool:
        """Tell whether a further worker might find something."""
        return bool(self._ready or self._queue)

    def take(self) -> tuple[Any, Any]:
        """Take the next item, with its key; the caller has asked `ready`."""
        return self._ready.popleft()

    def done(self, key: Any) -> None:
        """Let the key's next item be taken."""
        lane = self._lanes.get(key)
        if lane is None:  # the block has ended meanwhile
            return
        if lane:
            self._ready.append((key, lane.popleft()))
        else:
            del self._lanes[key]

    def waiting(self) -> int:
        """Count the items that haven't been taken."""
        return len(self._queue) + len(self._ready) + sum(map(len, self._lanes.values()))

    def clear(self) -> None:
        """Give up all items."""
        self._queue.clear()
        self._ready.clear()
        self._lanes.clear()
