"""How a shard's run comes to an end that somebody has to be told of."""

from flowstore.errors import FlowstoreError

__all__ = ["RunEndedError", "ShardStoppedError"]


class ShardStoppedError(FlowstoreError):
    """A replay was stopped before its end.

    Attributes:
        shard: the shard's name.
        progress: how far it had come.
        ceiling: how far it was to come.
    """

    def __init__(self, shard: str, progress: int, ceiling: int) -> None:
        super().__init__(
            f"shard {shard!r} was stopped at sequence {progress}, on its way to {ceiling}"
        )
        self.shard = shard
        self.progress = progress
        self.ceiling = ceiling


class RunEndedError(FlowstoreError):
    """A run ended that nobody had stopped: it would stand still, and nobody would know why.

    Attributes:
        shard: the shard's name.
    """

    def __init__(self, shard: str) -> None:
        super().__init__(
            f"shard {shard!r} ended although nobody stopped it: something in it raised a"
            " trio.Cancelled of a scope that is over; let a cancellation go where it came from"
        )
        self.shard = shard
