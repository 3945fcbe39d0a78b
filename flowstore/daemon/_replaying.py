"""Standing ready to replay: owning the shard for as long as it takes, torn down for a rebuild."""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

from flowstore.daemon._claiming import claim_place, first_place
from flowstore.daemon._lease import Ownership
from flowstore.daemon._needs import DaemonStore
from flowstore.projections import IProjection
from flowstore.store import Claim

__all__ = ["replaying"]


@asynccontextmanager
async def replaying(
    store: DaemonStore,
    projection: IProjection,
    ownership: Ownership,
    *,
    rebuilding: bool,
    wait: Callable[[str, int | None], None],
    advance: Callable[[int], None],
) -> AsyncGenerator[Claim]:
    """Own a shard for the block, which replays it.

    Args:
        store: where the events are.
        projection: what the shard runs.
        ownership: tells whose the shard is.
        rebuilding: delete everything that the projection has written first.
        wait: is told whom it is waiting for.
        advance: is told where the shard stands.
    """
    async with ownership.of(projection, wait, insist=True) as claiming:
        if rebuilding:
            # Before the documents are gone, so that nobody who waits takes them for fresh.
            advance(0)
            place = await first_place(store, projection, rebuilding=True)
            await store.teardown(projection, place=place)
        claim = await claim_place(store, projection, claiming)
        advance(claim.sequence)
        yield claim
