"""The side of a block that gives items: links first, in their order, then those who receive."""

from __future__ import annotations

import abc
from collections import deque
from typing import TYPE_CHECKING, Any

from flowstore.blocks._engine import kick
from flowstore.blocks._errors import UnmatchedItemError
from flowstore.blocks._inlet import STEP

if TYPE_CHECKING:
    from flowstore.blocks._link import Link
    from flowstore.blocks._node import Node
    from flowstore.blocks._receiver import Receiver
    from flowstore.blocks._state import BlockState

__all__ = ["BaseOutlet", "Outlet"]


class BaseOutlet(abc.ABC):
    """What every kind of output shares: its links, its receivers, and their end."""

    __slots__ = ("links", "node", "queue", "receivers")

    def __init__(self, node: Node) -> None:
        self.node = node
        self.queue: deque[Any] = deque()
        self.links: list[Link] = []
        self.receivers: deque[Receiver] = deque()

    # -- what differs from kind to kind ------------------------------------------------------

    @abc.abstractmethod
    def pump(self) -> None:
        """Hand over whatever can be handed over now, `STEP` items at most."""

    @abc.abstractmethod
    def pump_in_turn(self, link: Link) -> None:
        """Hand over to a link that has waited and whose turn it is."""

    @abc.abstractmethod
    def peek(self, link: Link) -> bool:
        """Tell whether the link could hand over an item now."""

    @abc.abstractmethod
    def take_for(self, link: Link) -> Any:
        """Take the item that `peek` has promised."""

    def available(self) -> bool:
        """Tell whether a receiver would get something now."""
        return bool(self.queue)

    def version(self) -> int | None:
        """Count the values so far where the latest one stays; None where items leave."""
        return None

    @abc.abstractmethod
    def take(self) -> Any:
        """Take the head for a receiver; the caller has asked `available`."""

    def take_all(self) -> list[Any]:
        """Take all that is there for a receiver."""
        items: list[Any] = []
        while self.available():
            items.append(self.take())
        return items

    def linked(self, link: Link) -> None:  # noqa: ARG002  some kinds keep books on each link
        """Take a new link in; what is there goes to it."""
        if self.node.started:
            # Not in the caller's step: several links made at once would hand over too much in it.
            self.node.visit_soon()
        else:
            kick(self.node)

    def link_after_end(self, link: Link) -> None:
        """Pass the end on over a link that was made after it."""
        link.is_open = False
        link.inlet.source_done(link, self.node.state, self.node.cause)

    # -- shared ------------------------------------------------------------------------------

    def add_link(self, link: Link, *, append: bool = True) -> None:
        """Add a link behind, or before, the others."""
        if append:
            self.links.append(link)
        else:
            self.links.insert(0, link)
        self.linked(link)

    def drop_link(self, link: Link) -> None:
        """Forget a closed link."""
        if link in self.links:
            self.links.remove(link)

    def clear(self) -> None:
        """Give up all that is held."""
        self.queue.clear()

    def shut(self, state: BlockState, cause: BaseException | None) -> None:
        """Pass the block's end on over all links, and tell the receivers."""
        links, self.links = self.links, []
        for link in links:
            link.is_open = False
            link.inlet.source_done(link, state, cause)
        self.settle_receivers()

    def settle_receivers(self) -> None:
        """Let every receiver look again: there is something, or never will be."""
        for receiver in tuple(self.receivers):
            receiver.wake()


class Outlet(BaseOutlet):
    """A FIFO output of which each item goes to one taker.

    Only the head is offered; the first link in order whose predicate accepts it and whose target
    has room takes it. A matching link whose target is full waits in the target's queue, and the
    offer goes on to the next link.
    """

    __slots__ = ("gone", "plain_link")

    def __init__(self, node: Node) -> None:
        super().__init__(node)
        self.gone = 0  # items that have left; tells whether the head is still the same
        self.plain_link: Link | None = None

    def linked(self, link: Link) -> None:
        self._choose_lane()
        super().linked(link)

    def drop_link(self, link: Link) -> None:
        super().drop_link(link)
        self._choose_lane()

    def _choose_lane(self) -> None:
        """Find out whether items may be handed over by the run: one link, no conditions."""
        self.plain_link = None
        if len(self.links) == 1:
            link = self.links[0]
            if link.predicate is None and link.remaining is None and link.inlet.greedy:
                self.plain_link = link

    def pump(self) -> None:
        if self.queue:
            self._pump(None)

    def pump_in_turn(self, link: Link) -> None:
        before = self.gone
        self._pump(link)
        if self.gone != before:
            kick(self.node)

    def _pump(self, turn: Link | None) -> None:
        node, queue = self.node, self.queue
        handled = 0
        while queue:
            if handled >= STEP:
                node.visit_soon()
                return
            if not node.started:
                moved = self._to_receiver()
            elif self.plain_link is not None:
                moved = self._hand_over(self.plain_link, turn, STEP - handled)
            else:
                moved = self._offer_head(turn)
            if not moved:
                break
            handled += moved
            turn = None
        if queue and self.receivers:
            self._tell_lookers()

    def _hand_over(self, link: Link, turn: Link | None, limit: int) -> int:
        """Hand over as many items as the sole link's target will take."""
        inlet = link.inlet
        count = int(min(inlet.grant(in_turn=link is turn), len(self.queue), limit))
        if count <= 0:
            if inlet.closed:
                link.close()
                return 1  # look again: without this link
            inlet.enqueue(link)
            return self._to_receiver()
        inlet.admit_from(self.queue, count)
        self.gone += count
        self.node.left(count)
        link.delivered += count
        inlet.node.arrived()
        return count

    def _offer_head(self, turn: Link | None) -> int:
        """Offer the head to each link in order; 0 when it has to stay."""
        item, gone = self.queue[0], self.gone
        matched = False
        for link in tuple(self.links):
            if not link.is_open:
                continue
            try:
                accepted = link.accepts(item)
            except BaseException as error:  # noqa: BLE001  whatever a predicate raises is a fault
                self.node.fail(error)
                return 0
            if self.gone != gone or self.node.ended:
                return int(bool(self.queue))
            if not accepted or not link.is_open:
                continue
            matched = True
            if self._give_head(link, in_turn=link is turn):
                return 1
        if self._to_receiver():
            return 1
        return 0 if matched or not self.links else self._unmatched(item)

    def _give_head(self, link: Link, *, in_turn: bool) -> bool:
        """Offer the head to one link whose predicate accepts it."""
        inlet = link.inlet
        if inlet.closed:
            link.close()
            return False
        if not inlet.greedy:
            gone = self.gone
            inlet.enqueue(link)
            inlet.node.form()
            return self.gone != gone
        if inlet.grant(in_turn=in_turn) < 1:
            inlet.enqueue(link)
            return False
        inlet.admit(self.queue.popleft())
        self.gone += 1
        self.node.left(1)
        link.count(1)
        inlet.node.arrived()
        return True

    def _unmatched(self, item: Any) -> int:
        """Do what the last link says about an item that no predicate accepts."""
        mode = self.links[-1].unmatched
        if mode == "fault":
            self.node.fail(UnmatchedItemError(self.node.name, item), item)
        elif mode == "drop":
            self.queue.popleft()
            self.gone += 1
            self.node.dropped()
            return 1
        return 0

    def _to_receiver(self) -> int:
        """Hand the head to the oldest task that waits in `receive`."""
        for receiver in self.receivers:
            if receiver.takes:
                receiver.hand(self, self._pop())
                return 1
        return 0

    def _tell_lookers(self) -> None:
        for receiver in tuple(self.receivers):
            if not receiver.takes:
                receiver.wake()

    def _pop(self) -> Any:
        item = self.queue.popleft()
        self.gone += 1
        self.node.left(1)
        return item

    def take(self) -> Any:
        item = self._pop()
        self.node.taken()
        return item

    def take_all(self) -> list[Any]:
        items = list(self.queue)
        if items:
            self.queue.clear()
            self.gone += len(items)
            self.node.left(len(items))
            self.node.taken()
        return items

    def peek(self, link: Link) -> bool:
        if not self.queue or not link.is_open:
            return False
        try:
            return link.accepts(self.queue[0])
        except BaseException as error:  # noqa: BLE001  whatever a predicate raises is a fault
            self.node.fail(error)
            return False

    def take_for(self, link: Link) -> Any:
        item = self._pop()
        link.count(1)
        kick(self.node)
        return item
