"""The connection of a source's output with a target's input."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Self

from flowstore.blocks._errors import note_item
from flowstore.blocks._state import LinkStatistics

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from flowstore.blocks._inlet import Inlet
    from flowstore.blocks._outlet import BaseOutlet

__all__ = ["Link", "Unmatched"]

Unmatched = Literal["fault", "hold", "drop"]


class Link:
    """A connection over which a source hands its items to a target; made by `link_to`.

    Closing it, by `close()` or by leaving it as a context manager, withdraws an offer that waits
    for room: the item stays with the source, for its next link.
    """

    __slots__ = (
        "delivered",
        "inlet",
        "is_open",
        "outlet",
        "owed",
        "predicate",
        "propagate",
        "remaining",
        "unmatched",
        "waiting",
    )

    def __init__(
        self,
        outlet: BaseOutlet,
        inlet: Inlet,
        predicate: Callable[[Any], object] | None = None,
        *,
        propagate: bool = True,
        max_messages: int | None = None,
        unmatched: Unmatched = "fault",
    ) -> None:
        self.outlet = outlet
        self.inlet = inlet
        self.predicate = predicate
        self.propagate = propagate
        self.remaining = max_messages
        self.unmatched: Unmatched = unmatched
        self.is_open = True
        self.waiting = False
        self.delivered = 0
        self.owed: Any = None  # what a broadcast or fan-out still has to hand over

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _value: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "open" if self.is_open else "closed"
        return f"<Link {self.outlet.node.name!r} -> {self.inlet.node.name!r}, {state}>"

    def close(self) -> None:
        """Disconnect source and target; idempotent, never waits, loses nothing.

        The target isn't completed by it, unless another source that propagates has completed
        before and this was the last link that was open.
        """
        if not self.is_open:
            return
        self.is_open = False
        self.outlet.drop_link(self)
        self.inlet.forget(self)
        self.outlet.node.link_closed()

    def statistics(self) -> LinkStatistics:
        """Count what went over the link."""
        return LinkStatistics(
            delivered=self.delivered,
            open=self.is_open,
            waiting=self.waiting,
            remaining=self.remaining,
        )

    def accepts(self, item: Any) -> bool:
        """Ask the predicate; an exception in it leaves with a note that names block and item."""
        if self.predicate is None:
            return True
        try:
            return bool(self.predicate(item))
        except BaseException as error:
            note_item(error, self.outlet.node.name, item, "the predicate for item")
            raise

    def count(self, items: int) -> None:
        """Take note of delivered items; an exhausted link closes without propagating."""
        self.delivered += items
        if self.remaining is not None:
            self.remaining -= items
            if self.remaining <= 0:
                self.close()
