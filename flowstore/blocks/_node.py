"""The machine inside a block: its books, its life, and what it tells its neighbours."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, Any, Protocol

from flowstore.blocks._engine import Engine, held, kick
from flowstore.blocks._errors import BlockClosedError, BlockFaultedError, note_item
from flowstore.blocks._receiver import Completion
from flowstore.blocks._state import BlockState, BlockStatistics

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import trio

    from flowstore.blocks._inlet import Inlet
    from flowstore.blocks._outlet import BaseOutlet

__all__ = ["NO_ITEM", "Host", "Node"]

NO_ITEM: Any = object()
"""Stands where an item could: None is an item like any other."""


class Host(Protocol):
    """What a node asks of the network that runs it."""

    name: str
    started: bool

    def spawn(self, work: Callable[[], Awaitable[None]], name: str) -> None:
        """Start a task of the node; it counts as active."""
        ...

    def task_parked(self) -> None:
        """Take note that a task of a node waits for work or room."""
        ...

    def task_woken(self) -> None:
        """Take note that a parked task goes on."""
        ...

    def visit_soon(self, node: Node) -> None:
        """Visit the node from another task, in the next round of the scheduler."""
        ...

    def node_failed(self, error: BaseException) -> None:
        """End all other nodes and remember the fault."""
        ...

    def adopt(self, node: Node) -> None:
        """Run the node, and all that it is linked with, from now on."""
        ...

    def changed(self) -> None:
        """Take note that a node has ended, or a link was closed."""
        ...

    def receiver_left(self) -> None:
        """Take note that a task has stopped receiving from a node."""
        ...


class Node(abc.ABC):
    """A block's machine; each kind of block has its own, with its own idea of room and order.

    The books, all in inputs: `accepted == finished + failed + discarded + inside`, where `inside`
    is derived, so that it can't be wrong by itself. All methods are synchronous.
    """

    def __init__(self, name: str, capacity: float) -> None:
        self.name = name
        self.capacity = capacity
        self.state = BlockState.OPEN
        self.cause: BaseException | None = None
        self.accepted = 0
        self.finished = 0
        self.failed = 0
        self.discarded = 0
        self.inlets: tuple[Inlet, ...] = ()
        self.outlet: BaseOutlet | None = None
        self.completion = Completion()
        self.host: Host | None = None
        self.block: Any = None  # the public face
        self.kind = ""
        self.adoptable = True
        self.started = False
        self.ended = False
        self.closed = False
        self.engine = Engine()
        self.listed = False  # on the engine's list
        self.soon = False  # on the network's list for the next round
        self.readers = 0  # `async for` loops that are under way
        self.tasks: set[trio.lowlevel.Task] = set()  # those that run the block's function

    # -- what differs from block to block ----------------------------------------------------

    @abc.abstractmethod
    def room(self) -> float:
        """Tell how many items may be accepted now."""

    @abc.abstractmethod
    def counts(self) -> tuple[int, int, int]:
        """Count the inputs that are waiting, held for order, and done but not yet gone."""

    @abc.abstractmethod
    def clear(self) -> None:
        """Give up all that is held, except for what runs in a function."""

    def arrived(self) -> None:
        """Do what new input asks for."""
        kick(self)

    def left(self, count: int) -> None:
        """Keep the books for `count` outputs that have left."""
        self.finished += count

    def taken(self) -> None:
        """Do what the room that a receiver has made asks for."""
        kick(self)

    def dropped(self) -> None:
        """Keep the books for an output that was dropped because nothing matched it."""
        self.discarded += 1

    def form(self) -> None:  # noqa: B027  not every kind of block needs it
        """Take a group from those who wait, where a block takes items by the group."""

    def drained(self) -> bool:
        """Tell whether a block that takes no more has nothing left to give."""
        return self.inside == 0

    def visited(self) -> None:  # noqa: B027  not every kind of block needs it
        """Wake tasks that wait for room or work."""

    def begin(self) -> None:  # noqa: B027  not every kind of block needs it
        """Start the tasks that do the block's work."""

    def release(self) -> None:  # noqa: B027  not every kind of block needs it
        """Let idle tasks of an ended block end."""

    def timer_pending(self) -> bool:
        """Tell whether the clock alone will change something."""
        return False

    def is_busy(self) -> bool:
        """Tell whether input or running work is left that only has to wait for room."""
        waiting, held, done = self.counts()
        return waiting > 0 or self.inside > waiting + held + done

    # -- the books ---------------------------------------------------------------------------

    @property
    def inside(self) -> int:
        """Count the inputs in the block's hands."""
        return self.accepted - self.finished - self.failed - self.discarded

    @property
    def succeeded(self) -> bool:
        """Tell whether the block has ended well."""
        return self.state is BlockState.COMPLETED

    @property
    def running(self) -> int:
        """Count the inputs in the block's function."""
        return self.inside - sum(self.counts())

    def statistics(self) -> BlockStatistics:
        """Count everything at this moment."""
        waiting, held, done = self.counts()
        inside = self.inside
        return BlockStatistics(
            name=self.name,
            state=self.state,
            accepted=self.accepted,
            finished=self.finished,
            failed=self.failed,
            discarded=self.discarded,
            inside=inside,
            input=waiting,
            running=inside - waiting - held - done,
            held_for_order=held,
            output=done,
            waiting_senders=sum(len(inlet.waiters) for inlet in self.inlets),
        )

    # -- life --------------------------------------------------------------------------------

    def lives_with(self, other: Node) -> bool:
        """Tell whether both are run by one network, which then ends them together."""
        return self.host is not None and self.host is other.host

    def visit(self) -> None:
        """Settle all that a change may have made possible; called by the engine only."""
        if self.ended:
            return
        if self.outlet is not None:
            self.outlet.pump()
        for inlet in self.inlets:
            if inlet.waiters:
                inlet.serve()
        self.visited()
        if self.closed and not self.ended and self.drained():
            self.end(BlockState.COMPLETED)

    def visit_soon(self) -> None:
        """Have the node visited in the scheduler's next round."""
        if self.host is not None and not self.soon:
            self.soon = True
            self.host.visit_soon(self)

    def start(self, host: Host) -> None:
        """Begin to work, once the network runs."""
        self.host = host
        if host.started and not self.started:
            self.started = True
            if not self.ended:
                self.begin()
                kick(self)

    def complete(self) -> None:
        """Take no more items; what was accepted is still worked on."""
        for inlet in self.inlets:
            inlet.close()

    def input_closed(self) -> None:
        """Begin to drain once every input is closed."""
        if all(inlet.closed for inlet in self.inlets):
            self.drain()

    def drain(self) -> None:
        """Go over to draining; complete at once where nothing is left."""
        if self.closed or self.ended:
            return
        self.closed = True
        self.state = BlockState.DRAINING
        kick(self)

    def fault(self, error: BaseException) -> None:
        """End with a fault, if not at an end already; the network is told."""
        if self.ended:
            return
        # In one step: a source that is told that its link has closed, but not why, would call the
        # item it still holds a second fault.
        with held(self):
            self.end(BlockState.FAULTED, error)
            if self.host is not None:
                self.host.node_failed(error)

    def fail(self, error: BaseException, item: Any = NO_ITEM, what: str = "item") -> None:
        """End with a fault that an item has caused; the error names block and item.

        A block that has ended already stays as it is, but the error isn't lost: the network
        raises it beside the others.
        """
        if item is not NO_ITEM:
            note_item(error, self.name, item, what)
        if not self.ended:
            self.fault(error)
        elif self.host is not None:
            self.host.node_failed(error)

    def end(self, state: BlockState, cause: BaseException | None = None) -> None:
        """End for good: give up what is held, settle everyone who waits, pass the end on."""
        if self.ended:
            return
        self.ended = self.closed = True
        self.state, self.cause = state, cause
        running = self.running
        self.clear()
        self.discarded += self.inside - running
        for inlet in self.inlets:
            inlet.settle()
        if self.outlet is not None:
            self.outlet.shut(state, cause)
        self.release()
        self.settle_completion()
        if self.host is not None:
            self.host.changed()

    def settle_completion(self) -> None:
        """Announce the end, once the last function has returned."""
        if self.ended and self.inside == 0:
            done = self.state is BlockState.COMPLETED
            self.completion.settle(None if done else self.end_error)

    def end_error(self) -> BlockClosedError | BlockFaultedError:
        """Build the error that tells of a bad end."""
        if self.state is BlockState.FAULTED:
            error: BlockClosedError | BlockFaultedError = BlockFaultedError(self.name)
        else:
            error = BlockClosedError(self.name, "was cancelled: what it still held is discarded")
        error.__cause__ = self.cause
        return error

    # -- told by links and receivers ---------------------------------------------------------

    def link_closed(self) -> None:
        """Offer the head to the other links."""
        kick(self)
        if self.host is not None:
            self.host.changed()

    def receiver_left(self) -> None:
        """Take note that nobody may be left who receives."""
        if self.host is not None:
            self.host.receiver_left()
