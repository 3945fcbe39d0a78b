"""Folding pages into spans: what several neighbouring pages wrote, to be committed as one.

While a span is committed the next is folded. What a span wrote, the next ones are given without
asking the database, also before it is committed; so a span that fails takes all of that with it: see
`SpanFailedError`.
"""

import math
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from typing import Final, cast

import attrs
import trio

from flowstore.blocks import StreamBlock
from flowstore.daemon._applier import Applier, by_tenant
from flowstore.daemon._needs import Target
from flowstore.daemon._reasons import InHand
from flowstore.errors import FlowstoreError, ProgressConflictError
from flowstore.events import EventBatch, EventStream
from flowstore.projections import IProjection, apply_projection
from flowstore.store import HeldDocuments, Written

__all__ = ["Folding", "Span", "SpanFailedError", "failed_span"]

_CHUNK: Final = 4_000
"""Events that are folded together at most, beyond a page: each document once."""
_LONGEST: Final = 1.0
"""Seconds after which a span ends: what a crash takes back, and how long nobody sees it move."""
_AHEAD: Final = 4
"""Pages that wait to be folded at most."""


@attrs.frozen(eq=False)
class Span:
    """Hold what the pages of (floor, ceiling] wrote."""

    floor: int
    ceiling: int
    written: Written = attrs.field(repr=False)


class SpanFailedError(FlowstoreError):
    """A span can't be folded or committed: apply its pages one by one, which tells what is wrong.

    Attributes:
        ceiling: how far pages are to be applied one by one.
    """

    def __init__(self, shard: str, floor: int, ceiling: int, error: Exception) -> None:
        super().__init__(
            f"shard {shard!r} couldn't apply the pages of ({floor}, {ceiling}] together:"
            f" {type(error).__name__}: {error}"
        )
        self.ceiling = ceiling


def failed_span(error: Exception) -> SpanFailedError:
    """Find in what a pipeline raised the span that failed; raise what is more than that."""
    failed: list[SpanFailedError] = []
    for each in _leaves(error):
        if not isinstance(each, SpanFailedError):
            raise error
        failed.append(each)
    return max(failed, key=lambda each: each.ceiling)


def _leaves(error: Exception) -> Iterator[Exception]:
    if isinstance(error, ExceptionGroup):
        for member in cast("ExceptionGroup[Exception]", error).exceptions:
            yield from _leaves(member)
    else:
        yield error


@attrs.define(eq=False)
class Folding:
    """Fold batches into spans, and commit them, one pipeline's each.

    Attributes:
        store: where units of work come from.
        projection: what is folded.
        applier: commits.
        held: what the pages before wrote.
        span_bytes: most bytes that a span gathers before it is committed.
        gathers: gather as much as fits, rather than committing as soon as nothing waits.
        in_hand: is told what is being done.
    """

    store: Target
    projection: IProjection
    applier: Applier
    held: HeldDocuments
    span_bytes: int
    gathers: bool
    in_hand: InHand
    _waiting: Callable[[], int] = attrs.field(default=lambda: 0, init=False)
    _confirmed: trio.Event = attrs.field(factory=trio.Event, init=False)

    def block(self) -> StreamBlock[EventBatch, Span]:
        """Make the block that folds."""
        block = StreamBlock(self._fold, bounded_capacity=_AHEAD, name="fold")
        self._waiting = lambda: block.statistics().input
        return block

    async def commit(self, span: Span) -> None:
        """Commit a span; those before it are.

        Raises:
            SpanFailedError: nothing of it was written, for a reason that its pages may tell.
            ProgressConflictError: the shard was moved, or has another owner.
        """
        unit = self.store.projection_session()
        unit.take_over(span.written)
        try:
            await self.applier.commit_unit(EventBatch(span.floor, span.ceiling), unit)
        except ProgressConflictError:
            raise
        except Exception as error:
            raise self._failed(span.floor, span.ceiling, error) from error
        self.held.confirm()
        self._forget_if_idle()
        self._confirmed.set()

    # -- inside ------------------------------------------------------------------------------

    async def _fold(self, batches: AsyncIterator[EventBatch]) -> AsyncGenerator[Span]:
        span: Span | None = None
        began = -math.inf
        while (chunk := await self._next(batches)) is not None:
            if span is None:
                span = Span(chunk.floor, chunk.floor, self.held.begin())
                began = trio.current_time()
            with self.in_hand.doing(f"applying the page ({chunk.floor}, {chunk.ceiling}]"):
                await self._fold_chunk(span.written, chunk)
            span = attrs.evolve(span, ceiling=chunk.ceiling)
            if await self._is_due(span, began):
                yield span
                span = None
        if span is not None:
            yield span

    async def _next(self, batches: AsyncIterator[EventBatch]) -> EventBatch | None:
        """Take the next batch, and those that wait behind it."""
        self._forget_if_idle()
        try:
            found = [await anext(batches)]
        except StopAsyncIteration:
            return None
        count = _count(found[0])
        while count < _CHUNK and self._waiting() and not found[-1].failures:
            found.append(await anext(batches))
            count += _count(found[-1])
        return found[0] if len(found) == 1 else _joined(found)

    def _forget_if_idle(self) -> None:
        """At the tail look at the database again: nothing is in a hurry, and somebody may mend."""
        if not self._waiting() and not self.held.pending:
            self.held.forget_committed()

    async def _fold_chunk(self, written: Written, chunk: EventBatch) -> None:
        if chunk.failures:
            raise self._failed(chunk.floor, chunk.ceiling, chunk.failures[0].error)
        try:
            unit = self.store.projection_session()
            unit.keep(self.held)
            for tenant, streams in by_tenant(chunk.streams):
                session = unit if tenant is None else unit.for_tenant(tenant)
                await apply_projection(self.projection, session, streams)
            written.add(unit.written(self.held))
        except Exception as error:
            raise self._failed(chunk.floor, chunk.ceiling, error) from error

    async def _is_due(self, span: Span, began: float) -> bool:
        """Tell whether a span is to be committed now; waits while another is, and nothing comes."""
        if span.written.size >= self.span_bytes or trio.current_time() >= began + _LONGEST:
            return True
        if self.gathers:
            return False
        while not self._waiting() and self.held.pending > 1:
            self._confirmed = trio.Event()
            await self._confirmed.wait()
        return not self._waiting()

    def _failed(self, floor: int, ceiling: int, error: Exception) -> SpanFailedError:
        return SpanFailedError(self.applier.shard, floor, ceiling, error)


def _count(batch: EventBatch) -> int:
    return sum(len(stream.events) for stream in batch.streams)


def _joined(batches: Sequence[EventBatch]) -> EventBatch:
    """Make one batch of neighbours; streams stay in the order of their first sequence."""
    streams: dict[tuple[str | None, object], EventStream] = {}
    for stream in (stream for batch in batches for stream in batch.streams):
        key = (stream.events[0].tenant_id, stream.id)
        first = streams.get(key)
        if first is not None:
            stream = attrs.evolve(first, events=(*first.events, *stream.events))  # noqa: PLW2901  neighbours' events, in order
        streams[key] = stream
    last = batches[-1]
    return EventBatch(batches[0].floor, last.ceiling, tuple(streams.values()), last.failures)
