"""A compacted stream gives the same document whoever folds it."""

from uuid import UUID, uuid4

import attrs

from flowstore.daemon import open_store
from flowstore.store import StoreOptions


@attrs.frozen
class Added:
    amount: int


@attrs.define
class Total:
    id: UUID
    sum: int = 0
    version: int = 0

    def apply_added(self, event: Added) -> None:
        self.sum += event.amount


async def test_a_rebuild_after_a_compaction_gives_the_same_document_as_before(dsn):
    options = StoreOptions()
    options.projections.aggregate_streams_with(Total)
    stream = uuid4()
    async with open_store(dsn, options) as store, store.build_projection_daemon() as daemon:
        async with store.session() as session:
            session.events.start_stream(stream, Added(1), Added(2))
            await session.save_changes()
            await session.events.compact_stream(Total, stream)
            await session.save_changes()
            session.events.append(stream, Added(4))
            await session.save_changes()
            live = await session.events.aggregate_stream(Total, stream)
        await daemon.rebuild(Total)
        async with store.session() as session:
            rebuilt = await session.load(Total, stream)
    assert rebuilt == live == Total(stream, 7, 3)


async def test_a_running_shard_takes_a_compacted_stream_from_where_it_stands(dsn):
    options = StoreOptions()
    options.projections.aggregate_streams_with(Total)
    stream = uuid4()
    async with open_store(dsn, options) as store, store.build_projection_daemon() as daemon:
        async with store.session() as session:
            session.events.start_stream(stream, Added(1))
            await session.save_changes()
        await daemon.catch_up()
        async with store.session() as session:
            session.events.append(stream, Added(2), Added(4))
            await session.save_changes()
            await session.events.compact_stream(Total, stream)
            await session.save_changes()
        await daemon.catch_up()
        async with store.session() as session:
            assert await session.load(Total, stream) == Total(stream, 7, 3)
