"""Waiting on sockets the way trio waits, for generators written the way psycopg writes them.

psycopg keeps its protocol as generators that say what they wait for (read, write or either) and
are sent what became ready. Sent "nothing yet" they ask again, so a wait that was cancelled can be
taken up where it was left.
"""

import select
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Final, TypeVar

import psycopg
import trio
from psycopg import pq
from psycopg.abc import PQGen
from psycopg.waiting import Ready, Wait

T = TypeVar("T")

WAIT_R, WAIT_W = Wait.R, Wait.W
READY_R: Final = Ready.R
# Looked up once: an enum's member takes longer to find than to compare.

MAX_BUSY_TIME: Final = 0.005
"""Seconds a task may go on without letting others run; psycopg's own figure for asyncio."""


class Mutex:
    """Exclude others from a connection, whoever lets go of it.

    psycopg holds a connection's lock across the yields of async generators, which may be finalised
    by another task: a `trio.Lock` belongs to its task and would refuse. Taking a free mutex isn't a
    checkpoint, because its cost would be paid by every statement. Waiters are served in order.
    """

    __slots__ = ("_held", "_waiters")

    def __init__(self) -> None:
        self._held = False
        self._waiters = trio.lowlevel.ParkingLot()

    def locked(self) -> bool:
        """Tell whether somebody is inside."""
        return self._held

    async def __aenter__(self) -> None:
        if self._held:
            await self._waiters.park()  # the one who leaves hands the mutex over, still held
        else:
            self._held = True

    async def __aexit__(self, *_: object) -> None:
        if self._waiters:
            self._waiters.unpark()
        else:
            self._held = False


class Driver:
    """Drive the generators of one connection, and let other tasks run now and then.

    Attributes:
        silent_since: since when it has waited for the server without a byte, by the clock of
            `monotonic`; None while it doesn't wait.
        why_closed: what a task is told that finds the socket closed under it.
    """

    __slots__ = ("_yielded_at", "silent_since", "why_closed")

    def __init__(self) -> None:
        self._yielded_at = monotonic()
        self.silent_since: float | None = None
        self.why_closed = "connection socket closed"

    async def drive(
        self,
        generator: PQGen[T],
        fd: int,
        *,
        resumed: bool = False,
        flush: Callable[[], int] | None = None,
    ) -> T:
        """Run a psycopg generator to its end over the socket `fd`.

        Cancelled, it leaves the generator suspended: drive it again as `resumed`. Once the generator
        is over its result is never lost to a cancellation.

        Args:
            generator: says what it waits for.
            fd: the socket.
            resumed: whether the generator was driven before, and is to go on.
            flush: sends what libpq still holds, and gives what is left, 0 for nothing; None where
                the generator has seen to it.

        Raises:
            psycopg.OperationalError: the socket was closed while waiting.
            psycopg.Error: whatever the generator raises.
        """
        try:
            # psycopg's compiled generators take no None once they have begun.
            wanted = generator.send(Ready.NONE) if resumed else next(generator)
            while True:
                if wanted == WAIT_R and flush is None:
                    # What nearly every wait is for, here: each call on the way takes its time.
                    self.silent_since = monotonic()
                    try:
                        await trio.lowlevel.wait_readable(fd)
                    finally:
                        self.silent_since = None
                    self._yielded_at = monotonic()
                    wanted = generator.send(READY_R)
                else:
                    wanted = generator.send(await self._wait(fd, wanted, flush))
        except StopIteration as finished:
            await self._let_others_run(trio.lowlevel.cancel_shielded_checkpoint)
            return finished.value
        except (OSError, trio.ClosedResourceError) as error:
            raise psycopg.OperationalError(self.why_closed) from error

    async def _wait(self, fd: int, wanted: Wait, flush: Callable[[], int] | None) -> Ready:
        # A socket is nearly always writable: one look costs less than a turn of the event loop.
        if wanted & WAIT_W:
            await self._let_others_run(trio.lowlevel.checkpoint)
            if ready := ready_now(fd, wanted):
                return ready
        self.silent_since = monotonic()
        try:
            if wanted == WAIT_R and flush is not None and flush():
                # The answer to what was never sent would be waited for, for ever. It is called
                # ready in either case: flushing may have read it already.
                await _wait_for_either(fd)
                ready = READY_R
            else:
                ready = await _wait_for(fd, wanted)
        finally:
            self.silent_since = None
        self._yielded_at = monotonic()
        return ready

    async def _let_others_run(self, checkpoint: Callable[[], Awaitable[None]]) -> None:
        if monotonic() - self._yielded_at > MAX_BUSY_TIME:
            await checkpoint()
            self._yielded_at = monotonic()


def has_input(fd: int) -> bool:
    """Tell whether `fd` has something to read, or an error to tell, without waiting."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(0))


def ready_now(fd: int, wanted: Wait) -> Ready:
    """Look what of `wanted` is ready on `fd`, without waiting."""
    poll = select.poll()
    poll.register(
        fd,
        (select.POLLIN if wanted & Wait.R else 0) | (select.POLLOUT if wanted & Wait.W else 0),
    )
    ready = 0
    for _, events in poll.poll(0):
        # An error makes both sides ready: the next read or write will tell which error.
        if events & (select.POLLIN | select.POLLHUP | select.POLLERR):
            ready |= Ready.R
        if events & (select.POLLOUT | select.POLLERR):
            ready |= Ready.W
    return Ready(ready & wanted)


async def _wait_for(fd: int, wanted: Wait) -> Ready:
    if wanted == Wait.R:
        await trio.lowlevel.wait_readable(fd)
        return Ready.R
    if wanted == Wait.W:
        await trio.lowlevel.wait_writable(fd)
        return Ready.W
    return await _wait_for_either(fd)


async def _wait_for_either(fd: int) -> Ready:
    ready = 0
    failures: list[Exception] = []

    async def watch(wait: Callable[[int], Awaitable[None]], bit: Ready) -> None:
        nonlocal ready
        try:
            await wait(fd)
            ready |= bit
        except (OSError, trio.ClosedResourceError) as error:
            failures.append(error)
        nursery.cancel_scope.cancel()

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch, trio.lowlevel.wait_readable, Ready.R)
            nursery.start_soon(watch, trio.lowlevel.wait_writable, Ready.W)
    except BaseExceptionGroup:
        # Only cancellations get here; psycopg and our callers expect a bare one.
        await trio.lowlevel.checkpoint_if_cancelled()
        raise
    if failures:
        raise failures[0]
    return Ready(ready)


async def poll_until_done(
    poll: Callable[[], int], socket: Callable[[], int], explain: Callable[[], str]
) -> None:
    """Step libpq's state machine for connecting or cancelling until it is done.

    Args:
        poll: makes one step and says what the next one waits for.
        socket: gives the descriptor in use, which may change from step to step.
        explain: gives libpq's message once `poll` has failed.

    Raises:
        psycopg.OperationalError: libpq gave up; its message says why.
    """
    while (status := poll()) != pq.PollingStatus.OK:
        if status == pq.PollingStatus.READING:
            await trio.lowlevel.wait_readable(socket())
        elif status == pq.PollingStatus.WRITING:
            await trio.lowlevel.wait_writable(socket())
        else:
            raise psycopg.OperationalError(explain())
