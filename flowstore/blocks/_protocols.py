"""What code may ask of any block, source or target."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

    from flowstore.blocks._link import Link, Unmatched
    from flowstore.blocks._state import BlockState, BlockStatistics

__all__ = ["Block", "Source", "Target"]

In_contra = TypeVar("In_contra", contravariant=True)
Out_co = TypeVar("Out_co", covariant=True)


@runtime_checkable
class Block(Protocol):
    """Anything that a network runs: it has a life and counts."""

    @property
    def name(self) -> str:
        """The name in statistics, pictures and errors."""
        ...

    @property
    def state(self) -> BlockState:
        """Where the block stands in its life."""
        ...

    @property
    def completion(self) -> Awaitable[None]:
        """The block's end; awaitable often, also afterwards."""
        ...

    def complete(self) -> None:
        """Take no more items; what was accepted is still worked on."""
        ...

    def fault(self, error: BaseException) -> None:
        """End with a fault."""
        ...

    def statistics(self) -> BlockStatistics:
        """Count everything at this moment."""
        ...


@runtime_checkable
class Target(Protocol[In_contra]):
    """Anything that takes items."""

    def post(self, item: In_contra) -> bool:
        """Put an item in if there is room now."""
        ...

    async def send(self, item: In_contra) -> None:
        """Put an item in, waiting for room."""
        ...

    async def send_many(self, items: Iterable[In_contra]) -> None:
        """Put many items in, in order, waiting for room."""
        ...

    def complete(self) -> None:
        """Take no more items."""
        ...

    def fault(self, error: BaseException) -> None:
        """End with a fault."""
        ...


@runtime_checkable
class Source(Protocol[Out_co]):
    """Anything that gives items."""

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
        """Hand every item to the target, if the predicate accepts it."""
        ...

    async def receive(self) -> Out_co:
        """Take an item out, waiting for one."""
        ...

    def try_receive(self) -> Out_co:
        """Take an item out if there is one now."""
        ...

    def __aiter__(self) -> AsyncIterator[Out_co]:
        """Receive until the end."""
        ...
