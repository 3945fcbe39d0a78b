"""Folding pages into spans: what several neighbouring pages wrote, to be committed as one.

Within a span documents are objects, as they are within a page: each is read once and written once. While a span is committed the next is folded. What a span wrote, the next ones are given without
asking the database, also before it is committed; so a span that fails takes all of that with it: see
`SpanFailedError`. At the tail, where nothing follows at once, those stay whose rows the commit has told:
the next commit compares them, and refuses a span that was folded over anything else.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from itertools import chain
from typing import Final, cast

import attrs
import trio

from flowstore.blocks import StreamBlock
from flowstore.daemon._applier import Applier, by_tenant
from flowstore.daemon._needs import Target
from flowstore.daemon._reasons import InHand
from flowstore.errors import DocumentsEditedError, FlowstoreError, ProgressConflictError
from flowstore.events import EventBatch, EventPage, group_by_stream_id
from flowstore.projections import IProjection, apply_projection
from flowstore.store import HeldDocuments, OpenDocuments, ProjectionUnit, Written

__all__ = ["Folding", "Span", "SpanFailedError", "SpanOutdatedError", "failed_span"]

_CHUNK: Final = 4_000
"""Events that are folded at once at most, beyond a page: each document once."""
_CHUNK_BYTES: Final = 4 * 1024 * 1024
"""Bytes of JSON that those have at most, beyond a page."""
_LONGEST: Final = 1.0
"""Seconds after which a span ends: what a crash takes back, and how long nobody sees it move."""
_LONGEST_GATHERED: Final = 3.0
"""The same in a replay, which nobody waits for page by page: on a busy machine a second is few events."""
_FEW: Final = 100
"""Events of a page at the tail, of whose new streams it is taken that nothing was made of them yet."""
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


class SpanOutdatedError(SpanFailedError):
    """A span was folded over documents that somebody has written to: fold its pages again."""


def failed_span(error: Exception) -> SpanFailedError:
    """Find in what a pipeline raised the span that failed; raise what is more than that.

    Where one is outdated that is all that is known: those after it were folded over it.
    """
    failed: list[SpanFailedError] = []
    for each in _leaves(error):
        if not isinstance(each, SpanFailedError):
            raise error
        failed.append(each)
    outdated = [each for each in failed if isinstance(each, SpanOutdatedError)]
    return max(outdated or failed, key=lambda each: each.ceiling)


def _leaves(error: Exception) -> Iterator[Exception]:
    if isinstance(error, ExceptionGroup):
        for member in cast("ExceptionGroup[Exception]", error).exceptions:
            yield from _leaves(member)
    else:
        yield error


@attrs.define(eq=False)
class Folding:
    """Fold pages into spans, and commit them, one pipeline's each.

    Attributes:
        store: where units of work come from.
        projection: what is folded.
        applier: commits.
        held: what the pages before wrote.
        span_bytes: most bytes that a span gathers before it is committed.
        gathers: gather as much as fits, rather than committing as soon as nothing waits.
        expects_new: take it that there is no document yet where a stream begins, at the tail.
        in_hand: is told what is being done.
    """

    store: Target
    projection: IProjection
    applier: Applier
    held: HeldDocuments
    span_bytes: int
    gathers: bool
    expects_new: bool
    in_hand: InHand
    _waiting: Callable[[], int] = attrs.field(default=lambda: 0, init=False)
    _confirmed: trio.Event = attrs.field(factory=trio.Event, init=False)

    def block(self) -> StreamBlock[EventPage, Span]:
        """Make the block that folds."""
        block = StreamBlock(self._fold, bounded_capacity=_AHEAD, name="fold")
        self._waiting = lambda: block.statistics().input
        return block

    async def commit(self, span: Span) -> None:
        """Commit a span; those before it are.

        Raises:
            SpanFailedError: nothing of it was written, for a reason that its pages may tell.
            SpanOutdatedError: nothing of it was written, as somebody has written to documents.
            ProgressConflictError: the shard was moved, or has another owner.
        """
        unit = self.store.projection_session()
        unit.take_over(span.written)
        try:
            await self.applier.commit_unit(EventBatch(span.floor, span.ceiling), unit)
        except ProgressConflictError:
            raise
        except DocumentsEditedError as edited:
            where = (self.applier.shard, span.floor, span.ceiling)
            raise SpanOutdatedError(*where, edited) from edited
        except Exception as error:
            raise self._failed(span.floor, span.ceiling, error) from error
        self.held.confirm(unit.kept)
        self._forget_if_idle()
        self._confirmed.set()

    # -- inside ------------------------------------------------------------------------------

    async def _fold(self, pages: AsyncIterator[EventPage]) -> AsyncGenerator[Span]:
        span: _Open | None = None
        while (chunk := await self._next(pages)) is not None:
            if span is None:
                span = _Open(self.store, self.held, chunk.floor)
            with self.in_hand.doing(f"applying the page ({chunk.floor}, {chunk.ceiling}]"):
                await self._fold_chunk(span, chunk)
            if await self._is_due(span):
                yield await self._close(span)
                span = None
        if span is not None:
            yield await self._close(span)

    async def _next(self, pages: AsyncIterator[EventPage]) -> EventPage | None:
        """Take the next page, and as one with it those that wait behind it."""
        self._forget_if_idle()
        try:
            found = [await anext(pages)]
        except StopAsyncIteration:
            return None
        count, size = len(found[0].events), found[0].size
        while count < _CHUNK and size < _CHUNK_BYTES and self._waiting() and not found[-1].failures:
            page = await anext(pages)
            found.append(page)
            count, size = count + len(page.events), size + page.size
        return found[0] if len(found) == 1 else _joined(found)

    def _forget_if_idle(self) -> None:
        """At the tail rely on nothing that the commit doesn't look at: somebody may mend it."""
        if not self._waiting() and not self.held.pending:
            self.held.forget_unstamped()

    async def _fold_chunk(self, span: "_Open", chunk: EventPage) -> None:
        if chunk.failures:
            raise self._failed(chunk.floor, chunk.ceiling, chunk.failures[0].error)
        try:
            for tenant, streams in by_tenant(group_by_stream_id(chunk.events)):
                session = span.session(tenant)
                if self.expects_new and len(chunk.events) <= _FEW:
                    session.expect_new(
                        [stream.id for stream in streams if stream.events[0].version == 1]
                    )
                await apply_projection(self.projection, session, streams)
        except Exception as error:
            raise self._failed(chunk.floor, chunk.ceiling, error) from error
        span.unit.weigh(chunk.size)
        span.ceiling = chunk.ceiling

    async def _is_due(self, span: "_Open") -> bool:
        """Tell whether a span is to be committed now; waits while another is, and nothing comes."""
        is_long = trio.current_time() >= span.began + (
            _LONGEST_GATHERED if self.gathers else _LONGEST
        )
        if is_long or span.documents.size >= self.span_bytes:
            return True
        if self.gathers:
            return False
        while not self._waiting() and self.held.pending > 1:
            self._confirmed = trio.Event()
            await self._confirmed.wait()
        return not self._waiting()

    async def _close(self, span: "_Open") -> Span:
        try:
            return Span(span.floor, span.ceiling, await span.unit.write_out())
        except Exception as error:
            raise self._failed(span.floor, span.ceiling, error) from error

    def _failed(self, floor: int, ceiling: int, error: Exception) -> SpanFailedError:
        return SpanFailedError(self.applier.shard, floor, ceiling, error)


class _Open:
    """A span whose pages are being folded."""

    def __init__(self, store: Target, held: HeldDocuments, floor: int) -> None:
        self.floor = self.ceiling = floor
        self.began = trio.current_time()
        self.documents = OpenDocuments(held)
        self.unit = store.projection_session()
        self.unit.keep(self.documents)
        self._sessions: dict[str | None, ProjectionUnit] = {None: self.unit}

    def session(self, tenant: str | None) -> ProjectionUnit:
        """Give the session for a tenant's events; None: of the only one."""
        found = self._sessions.get(tenant)
        if found is None:
            found = self._sessions[tenant] = self.unit.for_tenant(tenant)
        return found


def _joined(pages: Sequence[EventPage]) -> EventPage:
    """Make one page of neighbours."""
    first, last = pages[0], pages[-1]
    events = tuple(chain.from_iterable(page.events for page in pages))
    size = sum(page.size for page in pages)
    return EventPage(first.floor, last.ceiling, events, last.failures, size=size)
