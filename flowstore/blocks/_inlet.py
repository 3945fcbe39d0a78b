"""The side of a block that takes items: who may put one in now, and who waits for room."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from flowstore.blocks._errors import BlockClosedError
from flowstore.blocks._state import BlockState

if TYPE_CHECKING:
    from collections.abc import Iterable

    import trio

    from flowstore.blocks._link import Link
    from flowstore.blocks._node import Node

import trio.lowlevel

__all__ = ["STEP", "Inlet", "Sender"]

STEP = 64
"""Items of one block that one scheduling step handles at most: what keeps a program fair."""


class Sender:
    """A task that waits in `send` or `send_many` until its items have been taken.

    `more` says that the task has further items to bring: it then keeps its place at the head of
    the queue with an empty hand, and nobody passes it.
    """

    __slots__ = ("accepted", "error", "items", "more", "task")

    def __init__(self, items: Iterable[Any]) -> None:
        self.task: trio.lowlevel.Task | None = None
        self.items: deque[Any] = deque(items)
        self.more = False
        self.accepted = 0
        self.error: BlockClosedError | None = None

    def wake(self) -> None:
        """Let the task go on, if it is parked."""
        if self.task is not None:
            task, self.task = self.task, None
            trio.lowlevel.reschedule(task)


class Inlet:
    """Takes items into a block's queue while there is room, in the order of the offers.

    `waiters` holds senders and full-standing links, oldest first; while it isn't empty nobody is
    served out of turn. Everything here is synchronous, so that between two checkpoints of any task
    the books are straight.
    """

    __slots__ = ("closed", "incoming", "node", "queue", "source_ended", "waiters")

    greedy = True
    """Whether items are stored as they come; a non-greedy inlet takes them by the group."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.queue: deque[Any] = deque()
        self.waiters: deque[Sender | Link] = deque()
        self.incoming: list[Link] = []
        self.source_ended = False
        self.closed = False

    # -- what differs from block to block ----------------------------------------------------

    def room(self) -> float:
        """Tell how many items may be taken now; `math.inf` for no bound."""
        return self.node.room()

    def admit(self, item: Any) -> None:
        """Take one item; the caller has made sure of its place."""
        self.node.accepted += 1
        self.queue.append(item)

    def admit_from(self, items: deque[Any], count: int) -> None:
        """Take `count` items from the left of `items`; the caller has made sure of the places."""
        self.node.accepted += count
        if items is self.queue:  # a buffer that is linked to itself
            items.rotate(-count)
        elif count == len(items):
            self.queue.extend(items)
            items.clear()
        else:
            take, put = items.popleft, self.queue.append
            for _ in range(count):
                put(take())

    def offer(self, item: Any) -> bool:
        """Take the item if there is room and nobody has waited for it longer."""
        if self.closed or self.waiters or self.room() <= 0:
            return False
        self.admit(item)
        self.node.arrived()
        return True

    def serve(self) -> None:
        """Give free places to those who wait, oldest first."""
        waiters = self.waiters
        while waiters and not self.closed and (room := self.room()) > 0:
            waiter = waiters[0]
            if isinstance(waiter, Sender):
                if not self._serve_sender(waiter, room):
                    return
            else:
                waiters.popleft()
                waiter.waiting = False
                waiter.outlet.pump_in_turn(waiter)

    # -- the rules that all share ------------------------------------------------------------

    def grant(self, *, in_turn: bool) -> float:
        """Tell how many items a link may hand over now.

        In its turn, with others behind it, a link may hand over one: its next item is a newer
        offer than theirs.
        """
        if self.closed:
            return 0
        if not self.waiters:
            return self.room()
        return min(1, self.room()) if in_turn else 0

    def _serve_sender(self, sender: Sender, room: float) -> bool:
        """Take what the sender brings; False while it keeps its place with an empty hand."""
        count = int(min(room, len(sender.items)))
        if count:
            self.admit_from(sender.items, count)
            sender.accepted += count
        if not sender.items:
            if not sender.more:
                self.waiters.popleft()
            sender.wake()
        if count:
            self.node.arrived()
        return not (sender.items or sender.more)

    def add_source(self, link: Link) -> None:
        """Take note of a new link that leads here."""
        self.incoming.append(link)

    def enqueue(self, link: Link) -> None:
        """Let a link wait for room at the end of the queue; once is enough."""
        if not link.waiting:
            link.waiting = True
            self.waiters.append(link)

    def forget(self, link: Link) -> None:
        """Take a closed link out of all lists; complete if it was the last after another's end."""
        if link.waiting:
            link.waiting = False
            self.waiters.remove(link)
        if link in self.incoming:
            self.incoming.remove(link)
        self._close_after_sources()

    def source_done(self, link: Link, state: BlockState, cause: BaseException | None) -> None:
        """Take note that the source behind a link has ended."""
        node = self.node
        if link.propagate:
            if state is BlockState.COMPLETED:
                self.source_ended = True
            elif not node.ended and not node.lives_with(link.outlet.node):
                if cause is None:
                    node.end(BlockState.CANCELLED)
                else:
                    node.fault(cause)
        self.forget(link)

    def _close_after_sources(self) -> None:
        if self.source_ended and not any(link.propagate for link in self.incoming):
            self.close()

    def close(self) -> None:
        """Take no more items: those who wait are told so, links are closed."""
        if self.closed:
            return
        self.closed = True
        self.settle()
        self.node.input_closed()

    def settle(self) -> None:
        """Tell everyone who waits that nothing more is taken."""
        self.closed = True
        waiting, self.waiters = self.waiters, deque[Any]()
        for waiter in waiting:
            if isinstance(waiter, Sender):
                waiter.error = self.closed_error(waiter.accepted)
                waiter.wake()
            else:
                waiter.waiting = False
        for link in tuple(self.incoming):
            link.close()

    def closed_error(self, accepted: int = 0) -> BlockClosedError:
        """Build the error that tells a sender why nothing is taken."""
        node = self.node
        error = BlockClosedError(
            node.name,
            f"is {_ENDS[node.state]} and takes no more items: send before it is completed",
            accepted=accepted,
        )
        error.__cause__ = node.cause
        return error


_ENDS = {
    BlockState.OPEN: "closed",
    BlockState.DRAINING: "completed",
    BlockState.COMPLETED: "completed",
    BlockState.FAULTED: "faulted",
    BlockState.CANCELLED: "cancelled",
}
