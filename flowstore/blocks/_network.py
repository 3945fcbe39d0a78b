"""The scope that runs blocks: one nursery, one fate."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Self, TypeVar, overload

import trio

from flowstore.blocks._aftermath import gather, has_cancellation, is_echo, only_cancellation
from flowstore.blocks._drain import (
    close_heads,
    close_idle_cycles,
    is_idle,
    is_settled,
    stalled,
    waits_outside,
)
from flowstore.blocks._engine import held, kick
from flowstore.blocks._faces import node_of
from flowstore.blocks._pictures import dot, mermaid
from flowstore.blocks._protocols import Block
from flowstore.blocks._seat import Seat
from flowstore.blocks._state import BlockState

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType

    from flowstore.blocks._node import Node
    from flowstore.blocks._state import BlockStatistics

__all__ = ["Network"]

B = TypeVar("B", bound=Block)
C = TypeVar("C", bound=Block)


class Network:
    """Runs blocks in one nursery; `async with Network() as network:` is their life.

    Leaving the body normally drains: a `SourceBlock` runs to the end of its items, other blocks
    that nothing leads to are completed, and all are awaited. Leaving it by an exception, or a fault
    in any block, abandons: everything is cancelled, and what went wrong leaves as one flat
    `ExceptionGroup`, each fault once.

    Args:
        name: shown in errors and pictures.

    Raises:
        ExceptionGroup: of the faults, of what the body raised, and of `StalledNetworkError` when
            the body has returned and items are left that nobody will ever take.
    """

    def __init__(self, *, name: str | None = None) -> None:
        self.name = name or "network"
        self.started = False
        self._over = False
        self._cancelled = False
        self._nodes: dict[Node, None] = {}
        self._faults: list[BaseException] = []
        self._active = 0  # tasks of blocks that aren't parked
        self._soon: list[Node] = []
        self._watchers = trio.lowlevel.ParkingLot()
        self._manager: Any = None
        self._nursery: trio.Nursery | None = None
        self._pump: Seat | None = None

    # -- the verbs of its users --------------------------------------------------------------

    @overload
    def add(self, block: B, /) -> B: ...
    @overload
    def add(self, block: B, other: C, /) -> tuple[B, C]: ...
    @overload
    def add(self, block: Block, other: Block, third: Block, /, *more: Block) -> tuple[Any, ...]: ...
    def add(self, *blocks: Any) -> Any:
        """Run blocks, and all that they are linked with, in this network.

        Returns:
            The block, or the tuple of the blocks; of an encapsulation both ends are added.

        Raises:
            ValueError: a block runs in another network.
            RuntimeError: this network has ended.
            TypeError: something is no block.
        """
        if self._over:
            message = f"network {self.name!r} has ended and runs no more blocks: make a new one"
            raise RuntimeError(message)
        nodes = [node for block in blocks for node in _nodes_of(block)]
        for node in nodes:
            if node.host is not None and node.host is not self:
                message = (
                    f"block {node.name!r} runs in network {node.host.name!r} already and can't be"
                    f" added to {self.name!r}: link the networks' blocks instead"
                )
                raise ValueError(message)
        for node in nodes:
            self.adopt(node)
        return blocks[0] if len(blocks) == 1 else blocks

    async def wait_idle(self) -> None:
        """Wait until nothing moves by itself any more; always a checkpoint.

        Then no block has input, running work or output that a link would take, no timer runs and no
        source is pulling. Unread output of a block without links doesn't count.
        """
        await trio.lowlevel.checkpoint()
        while not self._over and not (self._active == 0 and is_idle(self._nodes)):
            await self._watchers.park()

    def cancel(self) -> None:
        """Cancel the body and all blocks; `async with` then ends without an error. Idempotent."""
        self._cancelled = True
        self._end_all(None)
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()

    def statistics(self) -> dict[Any, BlockStatistics]:
        """Count everything at this moment: a mapping from block to counts, in the order of adding."""
        return {node.block: node.statistics() for node in self._nodes}

    def to_mermaid(self) -> str:
        """Draw the network with its present counts as a Mermaid flowchart."""
        return mermaid(self._nodes)

    def to_dot(self) -> str:
        """Draw the network with its present counts in Graphviz' language."""
        return dot(self._nodes)

    def __repr__(self) -> str:
        return f"<Network {self.name!r}, {len(self._nodes)} blocks>"

    # -- life --------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        if self.started:
            message = f"network {self.name!r} was entered before: make a new one for every run"
            raise RuntimeError(message)
        self._manager = trio.open_nursery()
        nursery = await self._manager.__aenter__()
        self._nursery = nursery
        self.started = True
        self._pump = Seat(self)
        self.spawn(self._visit_loop, f"{self.name}: visits")
        for node in tuple(self._nodes):
            node.start(self)
        if self._cancelled:
            nursery.cancel_scope.cancel()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        if error is None:
            error = await self._drain()
        self._end_all(next(iter(self._faults), None))
        assert self._nursery is not None  # noqa: S101  __aenter__ has set it
        self._nursery.cancel_scope.cancel()
        # Only cancellation is the nursery's to judge: it would hand back a copy of a group.
        passed = error if error is not None and has_cancellation(error) else None
        escaped: BaseException | None = None
        try:
            await self._manager.__aexit__(
                type(passed) if passed is not None else None,
                passed,
                passed.__traceback__ if passed is not None else None,
            )
        except BaseException as raised:  # noqa: BLE001  sorted out below
            escaped = raised
        self._over = True
        self._watchers.unpark_all()
        errors = gather(self._faults, None if passed else error, escaped, self._is_echo)
        if errors:
            message = f"network {self.name!r} was abandoned"
            raise BaseExceptionGroup(message, errors) from None
        outside = None if escaped is None else only_cancellation(escaped)
        if outside is not None and outside is not error:
            raise outside
        return outside is None

    async def _drain(self) -> BaseException | None:
        """Let everything run to its end; returns what prevents that."""
        try:
            while True:
                close_heads(self._nodes)
                if all(node.ended for node in self._nodes):
                    return None
                if self._active == 0 and is_settled(self._nodes):
                    if close_idle_cycles(self._nodes):
                        continue
                    if not waits_outside(self, self._nodes):
                        return stalled(self.name, self._nodes)
                await self._watchers.park()
        except BaseException as error:  # noqa: BLE001  cancellation is passed to the nursery
            return error

    # -- what nodes tell ---------------------------------------------------------------------

    def adopt(self, node: Node) -> None:
        """Run the node, and all that it is linked with, from now on."""
        found = [node]
        while found:
            node = found.pop()
            if node.host is not None or not node.adoptable:
                continue
            self._nodes[node] = None
            node.start(self)
            found += (link.inlet.node for link in (node.outlet.links if node.outlet else ()))
            found += (link.outlet.node for inlet in node.inlets for link in inlet.incoming)
            if self._over or self._cancelled:
                node.end(BlockState.CANCELLED)

    def spawn(self, work: Callable[[], Awaitable[None]], name: str) -> None:
        """Start a task of a node."""
        assert self._nursery is not None  # noqa: S101  nodes start when the network has
        self._active += 1
        self._nursery.start_soon(self._run, work, name=f"{self.name}: {name}")

    async def _run(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except trio.Cancelled:
            # Cancelled from outside: nothing may complete on what is left as if nothing were lost.
            self._end_all(None)
            raise
        finally:
            self.task_parked()

    def task_parked(self) -> None:
        """Take note that a task of a node waits, or has ended."""
        self._active -= 1
        if self._active == 0:
            self._watchers.unpark_all()

    def task_woken(self) -> None:
        """Take note that a parked task goes on."""
        self._active += 1

    def visit_soon(self, node: Node) -> None:
        """Visit the node in the scheduler's next round."""
        self._soon.append(node)
        if self._pump is not None:
            self._pump.wake()

    async def _visit_loop(self) -> None:
        assert self._pump is not None  # noqa: S101  __aenter__ has set it
        while True:
            if not self._soon:
                await self._pump.wait()
                continue
            nodes, self._soon = self._soon, []
            for node in nodes:
                node.soon = False
                kick(node)
            if self._soon:
                await trio.lowlevel.checkpoint()

    def node_failed(self, error: BaseException) -> None:
        """End all nodes with the fault as their cause, and remember it."""
        if any(error is fault for fault in self._faults):
            return
        self._faults.append(error)
        self._end_all(error)
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()

    def changed(self) -> None:
        """Look again whether the network is at its end."""
        self._watchers.unpark_all()

    def receiver_left(self) -> None:
        """Look again, if nothing else moves."""
        if self._active == 0:
            self._watchers.unpark_all()

    def _end_all(self, cause: BaseException | None) -> None:
        with contextlib.ExitStack() as stack:  # all in one step, as for a fault
            for node in tuple(self._nodes):
                stack.enter_context(held(node))
            for node in tuple(self._nodes):
                node.end(BlockState.CANCELLED, cause)

    def _is_echo(self, error: BaseException) -> bool:
        return is_echo(error, self._faults, cancelled=self._cancelled)


def _nodes_of(block: Any) -> tuple[Node, ...]:
    """Find the machines of a block, or of both ends of an encapsulation."""
    ends = getattr(block, "ends", None)
    return tuple(map(node_of, ends)) if ends is not None else (node_of(block),)
