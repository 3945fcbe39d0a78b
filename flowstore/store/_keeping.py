"""Connections that are kept for longer than a block: each by a task of the store's."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import TypeAlias

import attrs
import trio

from flowstore.postgres import Connection, plain_nursery
from flowstore.store._statements import Lend

__all__ = ["Keep", "Kept", "keep_nothing", "keeping"]


@attrs.frozen(eq=False)
class Kept:
    """Hold a connection that a task looks after until it is given back, or the store ends.

    Attributes:
        connection: what is kept.
    """

    connection: Connection
    _token: trio.lowlevel.TrioToken = attrs.field(factory=trio.lowlevel.current_trio_token)
    _unwanted: trio.Event = attrs.field(factory=trio.Event)
    _back: trio.Event = attrs.field(factory=trio.Event)

    @property
    def is_over(self) -> bool:
        """Whether the connection is of no use any more."""
        return self.connection.closed or self._back.is_set()

    async def give_back(self) -> None:
        """Give the connection back, and wait until the pool has it; also when cancelled."""
        self._unwanted.set()
        with trio.CancelScope(shield=True):  # rolling back has a time limit of its own
            await self._back.wait()

    def drop(self) -> None:
        """Have the connection given back soon; for a finalizer, which may run anywhere."""
        with suppress(trio.RunFinishedError):  # then it went back with the store
            self._token.run_sync_soon(self._unwanted.set)

    async def stay(self) -> None:
        """Stay until the connection is given back."""
        await self._unwanted.wait()

    def end(self) -> None:
        """Tell whoever gave it back that it has arrived."""
        self._back.set()


Keep: TypeAlias = Callable[[], Awaitable[Kept]]
"""Lends a connection until it is given back."""


@asynccontextmanager
async def keeping(lend: Lend) -> AsyncGenerator[Keep]:
    """Make a function that lends connections until they are given back, or the block ends.

    Each is lent within a task. Were the pool's block entered by hand, a session that nobody leaves
    would keep its locks beyond the end of the store.
    """
    async with plain_nursery() as nursery:

        async def keep() -> Kept:
            return await nursery.start(_keep, lend)

        yield keep


async def _keep(lend: Lend, *, task_status: trio.TaskStatus[Kept]) -> None:
    kept: Kept | None = None
    try:
        async with lend() as connection:
            kept = Kept(connection)
            task_status.started(kept)
            await kept.stay()
    finally:
        if kept is not None:
            kept.end()


async def keep_nothing() -> Kept:
    """Refuse, for a store that has no connections.

    Raises:
        NotImplementedError: always.
    """
    raise NotImplementedError
