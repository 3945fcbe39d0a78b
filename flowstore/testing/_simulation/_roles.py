"""What the processes of a simulation do: daemons, writers, and somebody who mends."""

import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from random import Random

import trio

from flowstore.daemon import DaemonSettings
from flowstore.errors import DatabaseError, FlowstoreError
from flowstore.testing._memory_store import MemoryStore
from flowstore.testing._simulation._accounts import Mended
from flowstore.testing._simulation._processes import Process
from flowstore.testing._simulation._scenario import (
    Scenario,
    Writer,
    append_some,
)
from flowstore.testing._simulation._trace import Trace

__all__ = ["run_daemon", "run_mender", "run_writer", "trace_logger"]


def _nothing() -> None:
    """Do nothing."""


class _ToTrace(logging.Handler):
    """Write what a daemon logs into the trace."""

    def __init__(self, trace: Trace, who: str, failed: Callable[[], None]) -> None:
        super().__init__(logging.WARNING)
        self._trace, self._who, self._failed = trace, who, failed

    def emit(self, record: logging.LogRecord) -> None:
        """Note a message."""
        self._trace.note(self._who, f"logs: {record.getMessage()}")
        if record.levelno >= logging.ERROR:
            self._failed()


def trace_logger(trace: Trace, who: str, failed: Callable[[], None] = _nothing) -> logging.Logger:
    """Make a logger that belongs to no other.

    Args:
        trace: is told of warnings and errors.
        who: logs.
        failed: is called when there was an error.
    """
    logger = logging.Logger(who)  # noqa: LOG001  as it says
    logger.addHandler(_ToTrace(trace, who, failed))
    return logger


async def run_daemon(
    store: MemoryStore, settings: DaemonSettings, trace: Trace, who: str, stop: trio.Event
) -> None:
    """Run a daemon until it is told to stop, or a shard of it fails, which ends the process.

    Who watched every status, as an operator does, would have a share in every tenth step of a run.
    """
    errors, to_look = trio.open_memory_channel[None](1)

    def failed() -> None:
        with suppress(trio.WouldBlock):
            errors.send_nowait(None)

    logger = trace_logger(trace, who, failed)
    async with store.build_projection_daemon(settings, logger) as daemon:
        await daemon.start_all()
        async with trio.open_nursery() as nursery:

            async def watch() -> None:
                async for _ in to_look:
                    if any(status.state == "failed" for status in daemon.statuses()):
                        nursery.cancel_scope.cancel()

            nursery.start_soon(watch)
            await stop.wait()
            nursery.cancel_scope.cancel()


async def run_writer(
    writer: Writer,
    process: Process,
    scenario: Scenario,
    turns: list[int],
    trace: Trace,
    *,
    peace: trio.Event,
) -> None:
    """Take the turns that are left, spread over the time that the trouble lasts.

    Args:
        writer: the writer, in this process.
        process: the process.
        scenario: what is to be done.
        turns: those that are left; one that was begun is over, also for a process that was killed.
        trace: is told of what fails.
        peace: once it is there, nobody waits for anything to happen.
    """
    draw = writer.random
    while turns:
        turns.pop()
        with trio.move_on_after(draw.uniform(0, 2 * scenario.duration / scenario.turns)):
            await peace.wait()
        process.may_abort = draw.random() < scenario.aborts
        try:
            if scenario.write is not None:
                await scenario.write(writer)
            else:
                await append_some(writer, scenario.decide)
        except FlowstoreError as error:
            # Given up on purpose, refused, or not known whether it stands: the next turn comes.
            trace.note(writer.name, f"fails with {type(error).__name__}: {error}")
        except Exception as error:  # noqa: BLE001  whatever the scenario's own function raises
            trace.violate("scenario", f"{writer.name}: {type(error).__name__}: {error}")
        finally:
            process.may_abort = False


async def run_mender(store: MemoryStore, draw: Random, duration: float, trace: Trace) -> None:
    """Mend what is spoiled at some time, and from then on retry what was set aside."""
    await trio.sleep(draw.uniform(0, duration * 0.7))
    await patiently(lambda: mend(store))
    trace.note("operator", "has mended what was spoiled")
    while True:
        # Often: a retry has to come between a page's look at its documents and its commit.
        await trio.sleep(draw.uniform(0, duration * 0.04))
        await patiently(lambda: retry_letters(store, trace, "operator"))


async def mend(store: MemoryStore) -> None:
    """Have spoiled events be applicable."""
    async with store.session() as session:
        session.store(Mended("mended"))
        await session.save_changes()


async def retry_letters(store: MemoryStore, trace: Trace, who: str) -> None:
    """Retry what was set aside, one after the other; what fails again stays there."""
    for letter in await store.dead_letters():
        try:
            await store.retry_dead_letter(letter)
        except DatabaseError:
            raise
        except Exception as error:  # noqa: BLE001  a projection's own, whatever it is
            trace.note(who, f"retries {letter.sequence} of {letter.shard!r} in vain: {error}")


async def patiently(work: Callable[[], Awaitable[None]]) -> None:
    """Do something again until the database is there for it."""
    while True:
        try:
            await work()
        except DatabaseError:
            await trio.sleep(0.05)
        else:
            return
