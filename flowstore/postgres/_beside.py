"""Background work that belongs to a block."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio


@asynccontextmanager
async def beside(work: Callable[[int], Awaitable[None]], argument: int) -> AsyncGenerator[None]:
    """Run `work` beside the block, and end it with the block.

    The block's exception leaves as it is, not in the nursery's group: whoever opens a pool need not
    know that there is a nursery.
    """
    scope = trio.CancelScope(shield=True)  # a cancellation from outside ends the block first
    failure: BaseException | None = None

    async def run() -> None:
        with scope:
            await work(argument)

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            try:
                yield
            finally:
                scope.cancel()
    except BaseExceptionGroup as group:
        if len(group.exceptions) != 1:
            raise
        [failure] = group.exceptions
    if failure is not None:
        raise failure
