"""Blocks in the shape of trio's memory channels, for code that expects those."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import trio

from flowstore.blocks._errors import BlockClosedError, BlockFaultedError
from flowstore.blocks._faces import inlet_of, outlet_of
from flowstore.blocks._reading import Reading

if TYPE_CHECKING:
    from flowstore.blocks._protocols import Source, Target

__all__ = ["as_receive_channel", "as_send_channel"]

T = TypeVar("T")
In_contra = TypeVar("In_contra", contravariant=True)
Out_co = TypeVar("Out_co", covariant=True)


class BlockSendChannel(trio.abc.SendChannel[In_contra]):
    """Sends into a block; closing it completes the block."""

    def __init__(self, block: Target[In_contra]) -> None:
        inlet_of(block)
        self._block = block
        self._closed = False

    async def send(self, value: In_contra) -> None:
        """Send, waiting for room.

        Raises:
            trio.ClosedResourceError: this channel was closed.
            trio.BrokenResourceError: the block takes no more items; the block's error is the cause.
        """
        if self._closed:
            raise trio.ClosedResourceError
        try:
            await self._block.send(value)
        except BlockClosedError as error:
            raise trio.BrokenResourceError(str(error)) from error

    async def aclose(self) -> None:
        """Complete the block; idempotent."""
        if not self._closed:
            self._closed = True
            self._block.complete()
        await trio.lowlevel.checkpoint()


class BlockReceiveChannel(trio.abc.ReceiveChannel[Out_co]):
    """Receives from a block; closing it ends the receiving only."""

    def __init__(self, block: Source[Out_co]) -> None:
        self._reading = Reading((outlet_of(block),))
        self._closed = False

    async def receive(self) -> Out_co:
        """Receive, waiting for an item.

        Raises:
            trio.EndOfChannel: the block has completed.
            trio.ClosedResourceError: this channel was closed.
            trio.BrokenResourceError: the block faulted or was cancelled; its error is the cause.
        """
        if self._closed:
            raise trio.ClosedResourceError
        try:
            item: Any = await anext(self._reading)
        except StopAsyncIteration:
            raise trio.EndOfChannel from None
        except (BlockFaultedError, BlockClosedError) as error:
            raise trio.BrokenResourceError(str(error)) from error
        return item

    async def aclose(self) -> None:
        """Stop receiving; idempotent. Items stay in the block."""
        self._closed = True
        await self._reading.aclose()
        await trio.lowlevel.checkpoint()


def as_send_channel(block: Target[T]) -> trio.abc.SendChannel[T]:
    """Show a block's input as a trio send channel; closing it completes the block.

    Raises:
        TypeError: the block takes no items.
    """
    return BlockSendChannel(block)


def as_receive_channel(block: Source[T]) -> trio.abc.ReceiveChannel[T]:
    """Show a block's output as a trio receive channel; until closed it counts as a receiver.

    Raises:
        TypeError: the block gives no items.
    """
    return BlockReceiveChannel(block)
