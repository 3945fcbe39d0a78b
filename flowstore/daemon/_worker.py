"""A rebuild's worker process: fills a part of a shadow.

It is told its errand on its standard input, and ends when that ends: when whoever has begun the rebuild
is gone, however that was. On its standard output it tells how far it is.
"""

import logging
import math
import os
import pickle
import traceback
from collections.abc import Callable, Generator
from contextlib import AsyncExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final, Literal

import attrs
import trio

from flowstore.daemon._applier import EventFailedError
from flowstore.daemon._errand import Done, Errand, Failed, Logged, Moved, News
from flowstore.daemon._estimate import Estimate, Running
from flowstore.daemon._filling import Filling, patience_of
from flowstore.daemon._frames import frame, receive_frame
from flowstore.daemon._groups import bare
from flowstore.daemon._pipeline import Fetch
from flowstore.daemon._reasons import InHand
from flowstore.errors import ProgressConflictError
from flowstore.projections import IProjection, shard_name
from flowstore.store import EventStore, NoShadowError, Part, open_event_store

__all__ = ["main", "work"]

_CONNECTIONS: Final = 4
"""A fetch, a load, a commit and a look at the mark at the same time."""


def main() -> None:
    """Do the one errand of this process."""
    # What the application prints goes where its errors go: the pipe is for whoever waits for news.
    inbox, outbox = os.dup(0), os.dup(1)
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    trio.run(_serve, trio.lowlevel.FdStream(inbox), trio.lowlevel.FdStream(outbox))


async def _serve(inbox: trio.lowlevel.FdStream, outbox: trio.lowlevel.FdStream) -> None:
    packed = await receive_frame(inbox)
    if packed is None:
        return
    post, letters = trio.open_memory_channel[News](math.inf)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_end_with, inbox, nursery.cancel_scope)
        async with trio.open_nursery() as mail:
            mail.start_soon(_send, letters, outbox)
            with post:
                await _carry_out(packed, post.send_nowait)
        nursery.cancel_scope.cancel()


async def _end_with(inbox: trio.lowlevel.FdStream, scope: trio.CancelScope) -> None:
    """End everything once nobody is there any more who could say something."""
    while await inbox.receive_some():
        pass
    scope.cancel()


async def _send(letters: trio.MemoryReceiveChannel[News], outbox: trio.lowlevel.FdStream) -> None:
    with suppress(trio.BrokenResourceError):  # nobody listens any more: the inbox says so too
        async for news in letters:
            await outbox.send_all(frame(pickle.dumps(news)))


async def _carry_out(packed: bytes, tell: Callable[[News], None]) -> None:
    try:
        errand: Errand = pickle.loads(packed)  # noqa: S301 - of the process that has started this one
    except Exception as error:  # noqa: BLE001  importing runs the application's code
        tell(_failure(error, "unsent"))
        return
    try:
        with _logging_to(tell) as log:
            await work(errand, tell, log)
    except Exception as error:  # noqa: BLE001  whoever waits decides what it means
        tell(_failure(bare(error)))
    else:
        tell(Done())


async def work(errand: Errand, tell: Callable[[News], None], log: logging.Logger) -> None:
    """Fill a part of a shadow up to its ceiling.

    Raises:
        EventFailedError: an event can't be applied, and is not to be set aside.
        ProgressConflictError: another rebuild has begun.
        NoShadowError: the projection does what no shadow can take in.
    """

    def told(running: Running) -> None:
        tell(Moved(running.progress, running.reason))

    projection, floor = errand.projection, errand.part.claim.sequence
    running = Running(
        shard_name(projection), Estimate(floor, errand.ceiling, trio.current_time()), floor
    )
    async with AsyncExitStack() as stack:

        async def enter() -> EventStore:
            opening = open_event_store(errand.dsn, errand.options(), max_connections=_CONNECTIONS)
            return await stack.enter_async_context(opening)

        settings = errand.settings
        patience = patience_of(settings, running, told, log)
        store = await patience.attempt("opening the store", enter)
        filling = Filling(
            store=store,
            settings=settings,
            pages=_PartPages(store, errand.part.part, settings.page_bytes),
            commits=trio.CapacityLimiter(math.inf),
            tell=told,
            log=log,
        )
        shadow = store.rebuilding.take_part(projection, errand.kinds, errand.part)
        try:
            await filling.fill(shadow, running, errand.ceiling)
        except Exception:
            shadow.check()  # however a refusal came out of the pipeline
            raise


@attrs.frozen(eq=False)
class _PartPages:
    """Fetch the pages of a part of the streams."""

    _store: EventStore
    _part: Part
    _page_bytes: int

    @contextmanager
    def reading(self, projection: IProjection, floor: int, in_hand: InHand) -> Generator[Fetch]:
        """Give what fetches a projection's pages, for the block."""
        del floor, in_hand  # nobody else reads, and nobody asks what is in hand
        rebuilding, bound = self._store.rebuilding, self._page_bytes
        yield rebuilding.part_pages(projection, self._part, max_bytes=bound).fetch


# -- telling ---------------------------------------------------------------------------------------


class _Told(logging.Handler):
    """Hands over what is logged."""

    def __init__(self, tell: Callable[[News], None]) -> None:
        super().__init__()
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        self._tell(Logged(record.levelno, record.getMessage()))


@contextmanager
def _logging_to(tell: Callable[[News], None]) -> Generator[logging.Logger]:
    log = logging.getLogger("flowstore.daemon")
    handler = _Told(tell)
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    try:
        yield log
    finally:
        log.removeHandler(handler)


def _failure(error: Exception, other: Literal["other", "unsent"] = "other") -> Failed:
    cause = error.__cause__ or error if isinstance(error, EventFailedError) else error
    told = f"{type(cause).__name__}: {cause}"
    trace = "".join(traceback.format_exception(cause))
    if isinstance(error, EventFailedError):
        return Failed("event", error.sequence, told, _pickled(cause), trace)
    if isinstance(error, ProgressConflictError):
        return Failed("conflict", 0, told, None, trace)
    if isinstance(error, NoShadowError):
        return Failed("refused", 0, error.reason, None, trace)
    return Failed(other, 0, told, _pickled(error), trace)


def _pickled(error: BaseException) -> bytes | None:
    """Pickle an error if it comes out the same; an application's may do anything."""
    try:
        packed = pickle.dumps(error)
        again = pickle.loads(packed)  # noqa: S301 - just written
    except Exception:  # noqa: BLE001  then its words have to do
        return None
    return packed if type(again) is type(error) and str(again) == str(error) else None
