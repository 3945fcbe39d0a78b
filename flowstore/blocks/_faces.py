"""The verbs that blocks show to the outside, over the machines that do the work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

import trio

from flowstore.blocks._connect import connect
from flowstore.blocks._functions import check_exception
from flowstore.blocks._inlet import Inlet
from flowstore.blocks._reading import Reading, end_of
from flowstore.blocks._sending import send_many, send_slowly

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

    from flowstore.blocks._link import Link, Unmatched
    from flowstore.blocks._node import Node
    from flowstore.blocks._outlet import BaseOutlet
    from flowstore.blocks._protocols import Target
    from flowstore.blocks._state import BlockState, BlockStatistics

__all__ = [
    "BlockFace",
    "LinkFace",
    "SourceFace",
    "TargetFace",
    "TargetVerbs",
    "inlet_of",
    "node_of",
    "outlet_of",
]

In_contra = TypeVar("In_contra", contravariant=True)
Out_co = TypeVar("Out_co", covariant=True)


class BlockFace:
    """The verbs of every block: its name, its life, its counts."""

    _node: Node

    def __init__(self, node: Node) -> None:
        self._node = node
        node.block = self
        node.kind = type(self).__name__

    def __repr__(self) -> str:
        node = self._node
        return f"<{node.kind} {node.name!r}, {node.state.value}, {node.inside} inside>"

    @property
    def name(self) -> str:
        """The name in statistics, pictures and errors."""
        return self._node.name

    @property
    def state(self) -> BlockState:
        """Where the block stands in its life."""
        return self._node.state

    @property
    def completion(self) -> Awaitable[None]:
        """The block's end: await it as often as you like, also afterwards.

        Raises:
            BlockFaultedError: the block has faulted; the fault is the cause.
            BlockClosedError: it was cancelled; the cause is the fault of another block, if any.
        """
        return self._node.completion

    def complete(self) -> None:
        """Take no more items; what was accepted is still worked on. Idempotent, never waits."""
        self._node.complete()

    def fault(self, error: BaseException) -> None:
        """End with a fault: what is held is discarded, the network is cancelled and raises it.

        After `complete` it wins as long as items are unfinished; after the end it does nothing.

        Raises:
            TypeError: `error` is no exception.
        """
        check_exception(error)
        self._node.fault(error)

    def statistics(self) -> BlockStatistics:
        """Count everything at this moment."""
        return self._node.statistics()


class TargetVerbs(Generic[In_contra]):
    """The verbs of whatever takes items: a block, or a side of one."""

    _inlet: Inlet

    def post(self, item: In_contra) -> bool:
        """Put an item in if there is room now; never waits, never raises.

        Returns:
            False if the block is full, others wait for room already, or it takes no more items.
        """
        return self._inlet.offer(item)

    async def send(self, item: In_contra) -> None:
        """Put an item in, waiting for room behind those who came earlier.

        Always a checkpoint. Cancelled, the item was not accepted.

        Raises:
            BlockClosedError: the block takes no more items; a fault is the cause.
            RuntimeError: the block's own function sends to it while it is full: it would wait for
                itself.
        """
        inlet = self._inlet
        await trio.lowlevel.checkpoint_if_cancelled()
        if inlet.offer(item):
            await trio.lowlevel.cancel_shielded_checkpoint()
            return
        await send_slowly(inlet, item)

    async def send_many(self, items: Iterable[In_contra]) -> None:
        """Put many items in, in order, waiting for room; the fast lane.

        One checkpoint for every 64 items, and one even for none. From the first item to the last
        the call keeps its place: nobody who came later gets in between. Cancelled or closed
        midway, the items up to some place were accepted, the others not.

        Raises:
            BlockClosedError: the block takes no more items; its `accepted` counts the items of
                this call that were accepted.
            RuntimeError: as for `send`.
        """
        await send_many(self._inlet, items)


class TargetFace(BlockFace, TargetVerbs[In_contra]):
    """The verbs of a block that takes items."""

    def __init__(self, node: Node) -> None:
        super().__init__(node)
        self._inlet = node.inlets[0]


class LinkFace(BlockFace, Generic[Out_co]):
    """The verb of a block that gives items to links."""

    def link_to(
        self,
        target: Target[Out_co],  # pyright: ignore[reportGeneralTypeIssues]  a sink of what it gives
        predicate: Callable[[Out_co], object] | None = None,
        *,
        propagate_completion: bool = True,
        max_messages: int | None = None,
        append: bool = True,
        unmatched: Unmatched = "fault",
    ) -> Link:
        """Hand items to the target, if the predicate accepts them; what is there already, too.

        Args:
            target: the block that takes the items. A target of a running network adopts this
                block, and the other way round.
            predicate: asked about every item that is offered; None accepts all.
            propagate_completion: complete the target when this was its last source that does so.
            max_messages: close the link after so many items, without propagating; None: never.
            append: behind this block's other links; False: before them.
            unmatched: what becomes of an item that no link's predicate accepts; the last link in
                order decides: "fault", "hold" it for a later link, or "drop" it.

        Raises:
            TypeError: `target` takes no items.
            ValueError: `max_messages` or `unmatched` is none of the above.
        """
        outlet = outlet_of(self)
        return connect(
            outlet,
            inlet_of(target),
            predicate,
            propagate=propagate_completion,
            max_messages=max_messages,
            append=append,
            unmatched=unmatched,
        )


class SourceFace(LinkFace[Out_co]):
    """The verbs of a block that gives items to links and receivers."""

    async def receive(self) -> Out_co:
        """Take the oldest item out, waiting for one.

        Always a checkpoint. Cancelled, nothing was taken.

        Raises:
            trio.EndOfChannel: the block has completed and everything was taken.
            BlockFaultedError: it has faulted.
            BlockClosedError: it was cancelled.
        """
        outlet = self._node.outlet or outlet_of(self)
        await trio.lowlevel.checkpoint_if_cancelled()
        if not outlet.available():
            return (await Reading((outlet,)).receive())[1]
        item = outlet.take()
        await trio.lowlevel.cancel_shielded_checkpoint()
        return item

    def try_receive(self) -> Out_co:
        """Take the oldest item out, if there is one now.

        Raises:
            trio.WouldBlock: there is none yet.
            trio.EndOfChannel: there will be none any more.
            BlockFaultedError: the block has faulted.
            BlockClosedError: it was cancelled.
        """
        outlet = outlet_of(self)
        if outlet.available():
            return outlet.take()
        if outlet.node.ended:
            raise end_of(outlet.node)
        raise trio.WouldBlock

    def receive_all_nowait(self) -> list[Out_co]:
        """Take all items out that are there now.

        Raises:
            BlockFaultedError: the block has faulted.
            BlockClosedError: it was cancelled.
        """
        outlet = outlet_of(self)
        items = outlet.take_all()
        if not items and outlet.node.ended and not outlet.node.succeeded:
            raise end_of(outlet.node)
        return items

    async def output_available(self) -> bool:
        """Wait until something can be received; False once nothing ever can.

        Always a checkpoint.

        Raises:
            BlockFaultedError: the block has faulted.
            BlockClosedError: it was cancelled.
        """
        return await Reading((outlet_of(self),)).available()

    def __aiter__(self) -> AsyncIterator[Out_co]:
        """Receive until the block has completed; breaking out loses nothing.

        Raises:
            BlockFaultedError: the block has faulted.
            BlockClosedError: it was cancelled.
        """
        return Reading((outlet_of(self),))


def node_of(block: Any) -> Node:
    """Find a block's machine.

    Raises:
        TypeError: it is no block.
    """
    if isinstance(block, BlockFace):
        return block._node  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  this is the one door to it
    message = f"expected a block of flowstore.blocks, found {block!r}"
    raise TypeError(message)


def inlet_of(target: Any) -> Inlet:
    """Find where a target takes its items.

    Raises:
        TypeError: it takes none.
    """
    inlet = getattr(target, "_inlet", None)
    if isinstance(inlet, Inlet):
        return inlet
    message = f"expected a block that takes items, found {target!r}"
    raise TypeError(message)


def outlet_of(source: Any) -> BaseOutlet:
    """Find where a source gives its items.

    Raises:
        TypeError: it gives none.
    """
    outlet = node_of(source).outlet
    if outlet is not None:
        return outlet
    message = f"expected a block that gives items, found {source!r}"
    raise TypeError(message)
