"""Beginning to own a shard, and where one begins that has no place yet."""

from collections.abc import Awaitable, Callable
from datetime import datetime

import attrs

from flowstore.daemon._needs import DaemonStore
from flowstore.projections import IProjection, shard_name
from flowstore.store import Claim

__all__ = ["Claiming", "claim_place", "first_place"]

Claiming = Callable[[], Awaitable[Claim]]
"""Claims a shard, as whoever may run it."""


async def claim_place(store: DaemonStore, projection: IProjection, claiming: Claiming) -> Claim:
    """Begin to own a shard; a new one is put where its options say."""
    claim = await claiming()
    if claim.started:
        return claim
    place = await first_place(store, projection)
    unit = store.projection_session()
    shard = shard_name(projection)
    await store.commit_batch(unit, shard=shard, floor=0, ceiling=place, claim=claim)
    return attrs.evolve(claim, sequence=place, started=True)


async def first_place(
    store: DaemonStore, projection: IProjection, *, rebuilding: bool = False
) -> int:
    """Find where a shard begins that has no place yet.

    Args:
        store: where the events are.
        projection: what the shard runs.
        rebuilding: "now" and "inline" are over: what they had passed was written once, and is
            deleted.
    """
    begin = projection.async_options.start_from
    if isinstance(begin, int):
        return begin
    if isinstance(begin, datetime):
        return await store.sequence_before(begin)
    if begin == "beginning" or rebuilding:
        return 0
    return await store.high_water()
