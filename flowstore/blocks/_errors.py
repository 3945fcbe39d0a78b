"""What the block library raises; each descends from `FlowstoreError`."""

from flowstore.errors import FlowstoreError

__all__ = [
    "BlockClosedError",
    "BlockFaultedError",
    "StalledNetworkError",
    "UnmatchedItemError",
]

_REPR_LIMIT = 200  # characters of an item's repr in messages and notes


class BlockClosedError(FlowstoreError):
    """A block takes, or gives, no more items: it was completed, cancelled or has faulted.

    The cause (`__cause__`) is the fault that ended the block or its network; None after a
    completion or a cancellation.

    Attributes:
        block: the block's name.
        accepted: how many items of the call were accepted before the block closed; these are in
            the block's hands and must not be sent again.
    """

    def __init__(self, block: str, message: str, *, accepted: int = 0) -> None:
        super().__init__(f"block {block!r} {message}")
        self.block = block
        self.accepted = accepted


class BlockFaultedError(FlowstoreError):
    """A block has faulted; the fault is the cause (`__cause__`).

    Attributes:
        block: the block's name.
    """

    def __init__(self, block: str) -> None:
        super().__init__(f"block {block!r} has faulted: its fault is the cause of this error")
        self.block = block


class UnmatchedItemError(FlowstoreError):
    """No link's predicate accepts an item, and the last link says that this is a fault.

    Attributes:
        block: the name of the block that holds the item.
        item: the item.
    """

    def __init__(self, block: str, item: object) -> None:
        super().__init__(
            f"no link of block {block!r} accepts {short_repr(item)}: link a target without a"
            " predicate last (null_target() drops the rest), or give the last link"
            " unmatched='drop' or 'hold'"
        )
        self.block = block
        self.item = item


class StalledNetworkError(FlowstoreError):
    """A network's body has returned, but output is left that nobody will ever take.

    Attributes:
        blocks: the names of the blocks that can't end.
    """

    def __init__(self, network: str, blocks: tuple[str, ...], lines: tuple[str, ...]) -> None:
        listed = "".join(f"\n  {line}" for line in lines)
        super().__init__(
            f"network {network!r} stands still with items inside: link the output somewhere"
            f" (null_target() drops it), receive it, or cancel the network{listed}"
        )
        self.blocks = blocks


def short_repr(item: object) -> str:
    """Show an item in at most 200 characters, whatever its repr does.

    A repr that raises must not replace the error that is being told.
    """
    try:
        shown = repr(item)
    except Exception as error:  # noqa: BLE001  a user's repr may raise anything
        return f"<{type(item).__name__} whose repr raised {type(error).__name__}>"
    return shown if len(shown) <= _REPR_LIMIT else shown[: _REPR_LIMIT - 3] + "..."


def note_item(error: BaseException, block: str, item: object, what: str = "item") -> None:
    """Add a note (PEP 678) that names block and item, once an error and block."""
    note = f"in block {block!r}, {what} {short_repr(item)}"
    if note not in getattr(error, "__notes__", ()):
        error.add_note(note)
