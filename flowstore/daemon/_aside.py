"""Starting shards, and having one stand aside while something is done with its projection."""

from collections.abc import AsyncGenerator
from contextlib import ExitStack, asynccontextmanager

import attrs
import trio

from flowstore.daemon._lease import Ownership
from flowstore.daemon._shard import Shard

__all__ = ["Aside", "Starter"]


@attrs.define
class Aside:
    """Say what becomes of a shard that stands aside.

    Attributes:
        was_running: it ran, or was paused, before; so it does afterwards, unless it was stopped.
        goes_on: also if what it stands aside for fails or is cancelled. A shard that itself has
            failed meanwhile stays failed: its status tells why.
    """

    was_running: bool
    goes_on: bool = True


@attrs.frozen(eq=False)
class Starter:
    """Starts shards in a daemon's nursery; whoever has a shard's turn decides alone about it.

    Attributes:
        nursery: what shards run in.
        ownership: says whose shards are.
    """

    nursery: trio.Nursery
    ownership: Ownership

    async def start(self, shard: Shard) -> None:
        """Start a shard unless it runs; returns once it does."""
        async with shard.turn:
            must_end = shard.wanted == "paused" or shard.is_halting
            shard.wanted = "running"
            if must_end:
                await shard.halt()
            # Told otherwise meanwhile, it stays as it was told to be.
            if shard.wanted == "running" and not shard.is_running:
                await self.nursery.start(shard.run)

    async def restart(self, shard: Shard) -> None:
        """End a shard's run, if there is one, and begin another; returns once it runs."""
        async with self.aside(shard) as aside:
            shard.wanted, aside.was_running = "running", True

    @asynccontextmanager
    async def aside(self, shard: Shard) -> AsyncGenerator[Aside]:
        """Have a shard stand aside for the block, and go on as it was before.

        Cancelled while the shard is on its way out or in again, it goes on in a task of the
        daemon's: whoever stopped waiting for it has not stopped the shard. No other process takes
        it over meanwhile.
        """
        async with shard.turn:
            shard.unbar()
            kept = ExitStack()
            kept.enter_context(self.ownership.keeping(shard.name))
            aside = Aside(shard.is_running)
            try:
                await shard.halt()
                yield aside
                aside.goes_on = True
                if aside.was_running and shard.wanted != "stopped":
                    await self.nursery.start(shard.run)
            except BaseException:
                if aside.was_running and aside.goes_on and shard.wanted != "stopped":
                    self.nursery.start_soon(self._go_on, shard, kept.pop_all())
                raise
            finally:
                kept.close()

    async def _go_on(self, shard: Shard, kept: ExitStack) -> None:
        with kept:
            await self._begin_again(shard)

    async def _begin_again(self, shard: Shard) -> None:
        async with shard.turn:
            if shard.is_halting:  # nobody waits any more for what was to end
                await shard.halt()
            if shard.state != "failed" and shard.wanted != "stopped" and not shard.is_running:
                await self.nursery.start(shard.run)
