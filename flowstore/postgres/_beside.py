"""Background work that belongs to a block."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio

__all__ = ["beside", "plain_nursery"]


@asynccontextmanager
async def plain_nursery() -> AsyncGenerator[trio.Nursery]:
    """Open a nursery for what runs beside a block, and is cancelled at the block's end.

    What the block itself raises leaves as it is, not in the nursery's group, Ctrl-C too: whoever
    opens a store need not know that there is a nursery, and can catch its errors by their names.

    Raises:
        BaseExceptionGroup: what the tasks raised, and with it what the block did.
    """
    failure: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            try:
                yield nursery
            except (Exception, KeyboardInterrupt, SystemExit) as error:  # noqa: BLE001 - raised below
                failure = error
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        if failure is None:
            raise
        raise BaseExceptionGroup(group.message, [failure, *group.exceptions]) from None
    if failure is not None:
        raise failure


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
