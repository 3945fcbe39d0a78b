"""A session that keeps its documents in a dictionary, events without a store, and real stores."""

import copy
import itertools
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from flowstore.daemon import Store
from flowstore.events import Event, EventStream, group_by_stream_id
from flowstore.projections import IProjection, Projections, apply_projection, shard_name
from flowstore.store import EventStore, StoreOptions, open_event_store


class MemorySession:
    """Documents by type and id; what was asked is kept as calls, to count round trips."""

    def __init__(self) -> None:
        self.documents: dict[tuple[type, Any], Any] = {}
        self.calls: list[str] = []

    def store(self, *documents: Any) -> None:
        for document in documents:
            self.documents[type(document), document.id] = copy.deepcopy(document)

    def delete(self, document: Any) -> None:
        self.delete_by_id(type(document), document.id)

    def delete_by_id(self, document_type: type, document_id: Any, /) -> None:
        self.calls.append("delete")
        self.documents.pop((document_type, document_id), None)

    def execute(self, sql: str, /, *params: Any) -> None:
        self.calls.append(sql % params)

    async def load(self, document_type: type, document_id: Any, /) -> Any:
        self.calls.append("load")
        return copy.deepcopy(self.documents.get((document_type, document_id)))

    async def load_many(self, document_type: type, document_ids: Iterable[Any], /) -> list[Any]:
        self.calls.append("load_many")
        found = [self.documents.get((document_type, wanted)) for wanted in document_ids]
        return [copy.deepcopy(document) for document in found if document is not None]


def make_stream(stream_id: Any, *events: Any, first: int = 1) -> EventStream:
    """Give data a place: versions and sequences count up from `first`."""
    return EventStream(
        stream_id,
        [
            Event(
                data=data,
                sequence=place,
                id=UUID(int=place),
                stream_id=stream_id,
                version=place,
                type_name=type(data).__name__,
                timestamp=datetime(2026, 1, 2, tzinfo=UTC),
            )
            for place, data in enumerate(events, first)
        ],
    )


@pytest.fixture(scope="session")
def memory_session():
    return MemorySession


@pytest.fixture(scope="session")
def stream_of():
    return make_stream


@pytest.fixture
def opening(pg_dsn: str, schema: str) -> Callable[..., AbstractAsyncContextManager[EventStore]]:
    """Open the test's schema with projections: `async with opening(projections) as store`."""

    def open_with(projections: Projections, **options: Any):
        return open_event_store(
            pg_dsn, StoreOptions(**{"schema": schema, "projections": projections, **options})
        )

    return open_with


@pytest.fixture
def serving(pg_dsn: str, schema: str) -> Callable[..., AbstractAsyncContextManager[Store]]:
    """Open the test's schema as applications do: `async with serving(projections) as store`."""

    def open_with(projections: Projections, *, cls: type[Store] = Store, **options: Any):
        chosen = StoreOptions(**{"schema": schema, "projections": projections, **options})
        return open_event_store(pg_dsn, chosen, cls=cls)

    return open_with


async def follow(store: EventStore, projection: IProjection, sizes: Sequence[int] = (500,)) -> None:
    """Do what a daemon does with a shard, in pages of the given sizes, until it is current."""
    mark, shard = await store.high_water(), shard_name(projection)
    floor, sizes_again = await store.progress(projection), itertools.cycle(sizes)
    types = tuple(projection.consumes)
    while floor < mark:
        page = await store.fetch_page(floor, mark, types=types, limit=next(sizes_again))
        assert not page.failures
        unit = store.projection_session()
        tenants = {event.tenant_id: None for event in page.events}
        for tenant in tenants:
            streams = group_by_stream_id(e for e in page.events if e.tenant_id == tenant)
            session = unit if tenant is None else unit.for_tenant(tenant)
            await apply_projection(projection, session, streams)
        await store.commit_batch(unit, shard=shard, floor=floor, ceiling=page.ceiling)
        floor = page.ceiling


@pytest.fixture(scope="session")
def followed():
    return follow
