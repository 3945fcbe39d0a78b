"""Dataflow blocks for trio: TPL Dataflow's names and meanings, bounded and cancellable."""

from typing import TYPE_CHECKING

from flowstore._late import found_late

if TYPE_CHECKING:
    from flowstore.blocks._batch import BatchBlock
    from flowstore.blocks._broadcast import BroadcastBlock, WriteOnceBlock
    from flowstore.blocks._buffer import BufferBlock
    from flowstore.blocks._channels import as_receive_channel, as_send_channel
    from flowstore.blocks._compose import choose, encapsulate, null_target, pipe, run
    from flowstore.blocks._errors import (
        BlockClosedError,
        BlockFaultedError,
        StalledNetworkError,
        UnmatchedItemError,
    )
    from flowstore.blocks._fan_out import FanOutBlock
    from flowstore.blocks._function_blocks import (
        ActionBlock,
        StreamBlock,
        TransformBlock,
        TransformManyBlock,
    )
    from flowstore.blocks._join import BatchedJoinBlock, JoinBlock
    from flowstore.blocks._link import Link
    from flowstore.blocks._network import Network
    from flowstore.blocks._protocols import Block, Source, Target
    from flowstore.blocks._source import SourceBlock
    from flowstore.blocks._state import BlockState, BlockStatistics
else:
    __getattr__, __dir__ = found_late(
        __name__,
        {
            "_batch": ("BatchBlock",),
            "_broadcast": ("BroadcastBlock", "WriteOnceBlock"),
            "_buffer": ("BufferBlock",),
            "_channels": ("as_receive_channel", "as_send_channel"),
            "_compose": ("choose", "encapsulate", "null_target", "pipe", "run"),
            "_errors": (
                "BlockClosedError",
                "BlockFaultedError",
                "StalledNetworkError",
                "UnmatchedItemError",
            ),
            "_fan_out": ("FanOutBlock",),
            "_function_blocks": (
                "ActionBlock",
                "StreamBlock",
                "TransformBlock",
                "TransformManyBlock",
            ),
            "_join": ("BatchedJoinBlock", "JoinBlock"),
            "_link": ("Link",),
            "_network": ("Network",),
            "_protocols": ("Block", "Source", "Target"),
            "_source": ("SourceBlock",),
            "_state": ("BlockState", "BlockStatistics"),
        },
    )

__all__ = [
    "ActionBlock",
    "BatchBlock",
    "BatchedJoinBlock",
    "Block",
    "BlockClosedError",
    "BlockFaultedError",
    "BlockState",
    "BlockStatistics",
    "BroadcastBlock",
    "BufferBlock",
    "FanOutBlock",
    "JoinBlock",
    "Link",
    "Network",
    "Source",
    "SourceBlock",
    "StalledNetworkError",
    "StreamBlock",
    "Target",
    "TransformBlock",
    "TransformManyBlock",
    "UnmatchedItemError",
    "WriteOnceBlock",
    "as_receive_channel",
    "as_send_channel",
    "choose",
    "encapsulate",
    "null_target",
    "pipe",
    "run",
]
