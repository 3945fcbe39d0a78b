"""The daemon's three blocks: source, grouping and sink. Applications link theirs between them."""

import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection
from contextlib import AbstractContextManager, aclosing, nullcontext
from functools import partial
from typing import TypeAlias

from flowstore.blocks import ActionBlock, SourceBlock, TransformBlock
from flowstore.daemon._applier import Applier
from flowstore.daemon._mark import FreshMarks, Marks
from flowstore.daemon._needs import DaemonStore
from flowstore.daemon._retrying import Patience
from flowstore.daemon._settings import PAGE_BYTES, DaemonSettings
from flowstore.events import EventBatch, EventPage, EventStream, group_by_stream_id
from flowstore.projections import IProjection

__all__ = ["Fetch", "event_source", "group_by_stream", "projection_sink", "read_pages"]

Fetch: TypeAlias = Callable[[int, int], Awaitable[EventPage]]
"""Reads a page above a floor, up to a mark."""


def event_source(
    store: DaemonStore,
    *,
    floor: int | IProjection = 0,
    ceiling: int | None = None,
    follow: bool = True,
    consumes: Collection[type] = (),
    page_size: int = 500,
    page_bytes: int = PAGE_BYTES,
    bounded_capacity: float = 2,
) -> SourceBlock[EventPage]:
    """Make a block that reads the store in pages, in the order of its sequence.

    A page's floor is the ceiling of the page before, also where nothing in between was wanted, so
    that progress moves over what was passed. What can't be decoded stands in `page.failures`.

    Args:
        store: what to read.
        floor: read after this sequence, exclusive; or after a projection's progress.
        ceiling: read up to this sequence, inclusive, and end there; None: no end of that kind.
        follow: go on waiting for new events; False: end at the high-water mark of the start.
        consumes: the event types wanted, passing over all others; empty: every one.
        page_size: most events a page, at least 1.
        page_bytes: most bytes of JSON a page, at least 1; an event that is larger comes alone.
        bounded_capacity: pages it reads ahead at most.

    Raises:
        ValueError: a number that is out of bounds.
    """
    for name, number in (("page_size", page_size), ("page_bytes", page_bytes)):
        if number < 1:
            message = f"{name} has to be at least 1: {number!r}"
            raise ValueError(message)
    if ceiling is not None and isinstance(floor, int) and ceiling < floor:
        message = f"ceiling {ceiling!r} is below floor {floor!r}: nothing lies between them"
        raise ValueError(message)

    async def pages() -> AsyncGenerator[EventPage]:
        start = floor if isinstance(floor, int) else await store.progress(floor)
        end = await _end(store, start, ceiling, follow=follow)
        marks = FreshMarks(store, DaemonSettings())
        fetch = partial(
            store.fetch_page, types=tuple(consumes), limit=page_size, max_bytes=page_bytes
        )
        found = read_pages(marks, nullcontext(fetch), floor=start, ceiling=end)
        # A source that is completed closes this generator, which has to close the one inside.
        async with aclosing(found):
            async for page in found:
                yield page

    return SourceBlock(pages, bounded_capacity=bounded_capacity, name="fetch, decode")


async def _end(store: DaemonStore, start: int, ceiling: int | None, *, follow: bool) -> float:
    """Find the sequence that a source ends at; `math.inf` for one that never does."""
    if follow:
        return math.inf if ceiling is None else ceiling
    mark = max(start, await store.high_water())
    return mark if ceiling is None else min(ceiling, mark)


async def read_pages(
    marks: Marks,
    reading: AbstractContextManager[Fetch],
    *,
    floor: int,
    ceiling: float,
    patience: Patience | None = None,
) -> AsyncGenerator[EventPage]:
    """Yield the pages of (floor, ceiling] as the mark allows; ends at the ceiling.

    Args:
        marks: tells how far it is safe to read.
        reading: gives, for as long as pages are read, what reads them.
        floor: read after this sequence; exclusive.
        ceiling: end there; inclusive.
        patience: waits out trouble with the database; None raises it.
    """
    at = floor
    with reading as fetch:
        while at < ceiling:
            look = partial(marks.above, at)
            found = await (patience.attempt("looking for the mark", look) if patience else look())
            mark = int(min(found, ceiling))
            while at < mark:
                read = partial(fetch, at, mark)
                page = await (patience.attempt("reading events", read) if patience else read())
                yield page
                at = page.ceiling


def group_by_stream(*, bounded_capacity: float = 1) -> TransformBlock[EventPage, EventBatch]:
    """Make a block that sorts a page's events into their streams.

    Streams stand in the order of their first event, the events of each in version order; floor,
    ceiling and failures stay.

    Args:
        bounded_capacity: pages it holds at most.
    """
    return TransformBlock(_group, bounded_capacity=bounded_capacity, name="group by stream")


def _group(page: EventPage) -> EventBatch:
    streams: tuple[EventStream, ...] = tuple(group_by_stream_id(page.events))
    return EventBatch(page.floor, page.ceiling, streams, page.failures)


def projection_sink(
    store: DaemonStore, projection: IProjection, *, bounded_capacity: float = 1
) -> ActionBlock[EventBatch]:
    """Make a block that applies batches and commits their effects with the progress.

    Batches have to come in floor order. One batch is one transaction: documents, dead letters and
    progress, under the projection's name, whether it is registered or not; a daemon goes on from
    there. A `version` has progress and documents of its own, also where another is registered. An event that can't be applied is dealt with as `projection.async_options` says: then the
    batch is applied again in smaller parts until that event is alone.

    Args:
        store: where documents and progress are written.
        projection: what to apply.
        bounded_capacity: batches it holds at most, the one being applied included.

    Faults:
        ProgressConflictError: a batch's floor is not the progress; nothing of it was written.
    """
    begin = partial(store.projection_session, projection=projection)
    applier = Applier(store, projection, on_error=projection.async_options.on_error, begin=begin)
    return ActionBlock(applier.apply, bounded_capacity=bounded_capacity, name="apply, commit")
