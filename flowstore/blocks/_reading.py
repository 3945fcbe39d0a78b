"""Receiving: from one output or several, once or in a loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio

from flowstore.blocks._receiver import Receiver
from flowstore.blocks._state import BlockState

if TYPE_CHECKING:
    from flowstore.blocks._node import Node
    from flowstore.blocks._outlet import BaseOutlet

__all__ = ["Reading", "end_of"]


def end_of(node: Node) -> BaseException:
    """Build what a receiver raises at a block's end."""
    if node.state is BlockState.COMPLETED:
        return trio.EndOfChannel()
    return node.end_error()


class Reading:
    """Receives from outputs in the order given; as an iterator, until the end.

    From its first item until it is exhausted, broken off or garbage, an iterator counts as a
    receiver: the network waits for it rather than calling itself stalled.
    """

    __slots__ = ("_begun", "_outlets", "_seen")

    def __init__(self, outlets: tuple[BaseOutlet, ...]) -> None:
        self._outlets = outlets
        self._begun = False
        self._seen = 0  # of an output that keeps its value: how many the iterator knows of

    async def receive(self) -> tuple[int, Any]:
        """Take one item; returns the output's index with it.

        Raises:
            trio.EndOfChannel: all outputs have completed.
            BlockFaultedError: one has faulted.
            BlockClosedError: one was cancelled, the others are at their end.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        while True:
            for index, outlet in enumerate(self._outlets):
                if outlet.available():
                    item = outlet.take()
                    await trio.lowlevel.cancel_shielded_checkpoint()
                    return index, item
            await self._raise_at_end()
            receiver = Receiver(self._outlets, takes=True, counted=self._begun)
            if await receiver.wait() and receiver.outlet is not None:
                return self._outlets.index(receiver.outlet), receiver.item

    async def available(self) -> bool:
        """Wait until an item can be received; False at a good end."""
        await trio.lowlevel.checkpoint_if_cancelled()
        self._count(1)  # until the caller has had its chance to take what it was told of
        try:
            while not any(outlet.available() for outlet in self._outlets):
                try:
                    await self._raise_at_end()
                except trio.EndOfChannel:
                    return False
                await Receiver(self._outlets, takes=False, counted=True).wait()
            await trio.lowlevel.cancel_shielded_checkpoint()
        finally:
            self._count(-1)
        return True

    async def _raise_at_end(self) -> None:
        """Raise if no output can give anything any more, or one has faulted."""
        nodes = [outlet.node for outlet in self._outlets]
        faulted = next((node for node in nodes if node.state is BlockState.FAULTED), None)
        if faulted is None and not all(node.ended for node in nodes):
            return
        await trio.lowlevel.cancel_shielded_checkpoint()
        raise end_of(faulted or next((node for node in nodes if not node.succeeded), nodes[0]))

    def __aiter__(self) -> Reading:
        return self

    async def __anext__(self) -> Any:
        if not self._begun:
            self._begun = True
            self._count(1)
        try:
            await self._wait_for_news()
            return (await self.receive())[1]
        except trio.EndOfChannel:
            self._end()
            raise StopAsyncIteration from None
        except BaseException:
            self._end()
            raise

    async def _wait_for_news(self) -> None:
        """Wait until an output that keeps its value has another one than the last time."""
        outlet = self._outlets[0]
        if outlet.version() is None:
            return
        while outlet.version() == self._seen:
            if outlet.node.ended:
                await trio.lowlevel.checkpoint()
                raise end_of(outlet.node)
            await Receiver((outlet,), takes=False, counted=True).wait()
        self._seen = outlet.version() or 0

    async def aclose(self) -> None:
        """Stop counting as a receiver; nothing is lost by it."""
        self._end()

    def __del__(self) -> None:
        self._end()

    def _end(self) -> None:
        if self._begun:
            self._begun = False
            self._count(-1)

    def _count(self, change: int) -> None:
        for outlet in self._outlets:
            outlet.node.readers += change
            if change < 0:
                outlet.node.receiver_left()
