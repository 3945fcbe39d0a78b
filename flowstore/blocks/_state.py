"""A block's states and its counts."""

import enum

import attrs

__all__ = ["BlockState", "BlockStatistics", "LinkStatistics"]


class BlockState(enum.Enum):
    """Where a block stands in its life.

    ```
    OPEN ──complete──▶ DRAINING ──last output has left──▶ COMPLETED
      └────────────────────┴──fault──▶ FAULTED
      └────────────────────┴──cancellation, or another block's fault──▶ CANCELLED
    ```
    """

    OPEN = "open"
    DRAINING = "draining"
    COMPLETED = "completed"
    FAULTED = "faulted"
    CANCELLED = "cancelled"


@attrs.frozen
class BlockStatistics:
    """A block's counts at one moment, all in inputs.

    Always: `accepted == finished + failed + discarded + inside`.

    Attributes:
        name: the block's name.
        state: where the block stands in its life.
        accepted: inputs taken in since the block was made (a source: items pulled).
        finished: inputs that are through: their last output has left, or the sink has returned.
        failed: inputs whose function raised.
        discarded: inputs given up at a fault or cancellation, leftovers of a join, dropped items.
        inside: inputs in the block's hands; the sum of the next four.
        input: waiting to be worked on.
        running: in the block's function.
        held_for_order: done, but waiting for an earlier input.
        output: done, waiting to leave.
        waiting_senders: senders and linked sources that wait for room.
    """

    name: str
    state: BlockState
    accepted: int
    finished: int
    failed: int
    discarded: int
    inside: int
    input: int
    running: int
    held_for_order: int
    output: int
    waiting_senders: int


@attrs.frozen
class LinkStatistics:
    """A link's counts at one moment.

    Attributes:
        delivered: items that went over the link.
        open: whether it can still carry items.
        waiting: whether its source waits for room in the target.
        remaining: items it may still carry before it closes by itself; None without a limit.
    """

    delivered: int
    open: bool
    waiting: bool
    remaining: int | None
