"""Filling a rebuild's shadow by worker processes, each with a part of the streams.

A process of our own making, not one of `multiprocessing` or a library on top of it: those run the
application's program again in each worker, which appends everything twice where the program doesn't ask
whether it is `__main__`; and such a worker isn't told that the process which began it was killed.
"""

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, cast

import attrs
import trio

from flowstore.daemon._applier import EventFailedError
from flowstore.daemon._errand import Done, Failed, Logged, Moved, News, UnsendableError, errand_for
from flowstore.daemon._estimate import Running
from flowstore.daemon._filling import Filling
from flowstore.daemon._frames import frame, receive_frame
from flowstore.errors import FlowstoreError, ProgressConflictError, RebuildError
from flowstore.projections import IProjection, shard_name, why_not_split
from flowstore.store import Shadow, ShadowPart

__all__ = ["WorkerError", "check_split", "check_workers", "fill_by_workers"]

_MODULE: Final = "flowstore.daemon._start_worker"


class WorkerError(FlowstoreError):
    """A worker process has ended early, or met an error that can't be sent."""


def check_workers(workers: Any) -> None:
    """Refuse what is no number of processes.

    Raises:
        ValueError: it isn't a whole number from 1.
    """
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
        message = f"workers is {workers!r}: it is a number of processes, a whole one from 1"
        raise ValueError(message)


def check_split(projection: IProjection, workers: int) -> None:
    """Refuse a projection whose streams can't be shared out.

    Raises:
        RebuildError: they can't; the message says why.
    """
    reason = why_not_split(projection)
    if reason is not None:
        raise RebuildError(shard_name(projection), None, _unsplit(workers, reason))


async def fill_by_workers(
    filling: Filling, shadow: Shadow, running: Running, ceiling: int, workers: int
) -> None:
    """Bring an empty shadow to a ceiling, by so many processes.

    Raises:
        EventFailedError: an event can't be applied, and is not to be set aside.
        ProgressConflictError: another rebuild has begun.
        RebuildError: a worker can't be told what to do.
        WorkerError: one has ended early.
    """
    floor, rebuilding = running.progress, filling.store.rebuilding
    filling.aim(running, ceiling, floor)
    if floor >= ceiling:
        return
    patience = filling.patience(running)
    opening = partial(rebuilding.open_parts, shadow, workers, floor)
    parts = await patience.attempt("sharing out a rebuild", opening)
    crew = _Crew(filling, shadow, running, ceiling, parts)
    try:
        async with trio.open_nursery() as nursery:
            for part, errand in zip(parts, crew.errands(), strict=True):
                nursery.start_soon(crew.employ, part, errand)
    except ExceptionGroup as group:
        failure = _first(group)
        raise failure from failure.__cause__
    joining = partial(rebuilding.join_parts, shadow, parts, floor, ceiling)
    await patience.attempt("putting the parts of a rebuild together", joining)
    filling.aim(running, ceiling, ceiling)


@attrs.define(eq=False)
class _Crew:
    """The workers of one rebuild, and how far each is."""

    _filling: Filling
    _shadow: Shadow
    _running: Running
    _ceiling: int
    _parts: Sequence[ShadowPart]
    _floor: int = attrs.field(init=False)
    _moved: dict[str, Moved] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._floor = self._running.progress
        self._moved = {part.shard: Moved(self._floor) for part in self._parts}

    def errands(self) -> list[bytes]:
        """Write down what each is to do.

        Raises:
            RebuildError: it can't be sent.
        """
        filling = self._filling
        tell = partial(errand_for, filling.store, self._shadow, filling.settings)
        try:
            return [tell(part=part, ceiling=self._ceiling).packed() for part in self._parts]
        except UnsendableError as error:
            raise self._refused(str(error), error) from error

    def _refused(self, reason: str, cause: Exception) -> RebuildError:
        told = _unsplit(len(self._parts), reason)
        refused = RebuildError(self._running.name, None, told)
        refused.__cause__ = cause
        return refused

    async def employ(self, part: ShadowPart, errand: bytes) -> None:
        """Have a process do an errand; it is ended when this ends, however that is."""
        process = await _start()
        assert process.stdin is not None  # noqa: S101  asked for
        assert process.stdout is not None  # noqa: S101  as above
        try:
            async with process.stdin, process.stdout:
                with suppress(trio.BrokenResourceError):  # it has ended, which the other pipe tells
                    await process.stdin.send_all(frame(errand))
                while not isinstance(news := await _next(process.stdout), Done):
                    if news is None:
                        raise WorkerError(await _ending(process))
                    self._note(part, news)
        finally:
            with trio.CancelScope(shield=True):
                process.kill()
                await process.wait()

    def _note(self, part: ShadowPart, news: News) -> None:
        if isinstance(news, Failed):
            raise self._raised(news)
        if isinstance(news, Logged):
            number = part.part.number + 1
            text = "worker %d of %d: %s"
            self._filling.log.log(news.level, text, number, part.part.of, news.text)
        elif isinstance(news, Moved):
            self._moved[part.shard] = news
            done = sum(each.progress - self._floor for each in self._moved.values())
            self._running.progress = self._floor + done // len(self._moved)
            self._running.reason = next((m.reason for m in self._moved.values() if m.reason), "")
            self._filling.tell(self._running)

    def _raised(self, failed: Failed) -> Exception:
        """Make of a worker's failure what would have been raised here."""
        if failed.kind == "conflict":
            at = self._running.progress
            return ProgressConflictError(self._shadow.shard, expected=at, found=None)
        if failed.kind == "refused":
            return self._shadow.refuse(failed.error)
        error = _unpacked(failed)
        if failed.kind == "unsent":
            reason = f"a worker process can't import what it needs: {failed.error}"
            return self._refused(f"{reason}; put it in a module that can be imported", error)
        if failed.kind == "other":
            return error
        raised = EventFailedError(self._running.name, failed.sequence, error)
        raised.__cause__ = error
        return raised


async def _start() -> trio.Process:
    """Start a worker, which finds the same modules as this process, and `__main__` never.

    In a session of its own: Ctrl-C is for this process, which ends its workers.
    """
    optimized = ["-" + "O" * sys.flags.optimize] if sys.flags.optimize else []
    return await trio.lowlevel.open_process(
        [sys.executable, "-P", *optimized, "-m", _MODULE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": _path()},
        start_new_session=True,
    )


def _path() -> str:
    return os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)


async def _next(stdout: trio.abc.ReceiveStream) -> News | None:
    packed = await receive_frame(stdout)
    return None if packed is None else pickle.loads(packed)  # noqa: S301 - of a process of ours


async def _ending(process: trio.Process) -> str:
    """Say how a process ended that had more to do."""
    code = await process.wait()
    if code < 0:
        how = f"was ended by {signal.Signals(-code).name}"
    else:
        how = f"ended with exit code {code}; see its standard error"
    return f"worker process {process.pid} {how} before it was through"


def _unpacked(failed: Failed) -> Exception:
    error: Exception = WorkerError(failed.error)
    if failed.pickled is not None:
        with suppress(Exception):  # an application's own may do anything
            error = pickle.loads(failed.pickled)  # noqa: S301 - of a process of ours
    error.add_note(f"raised in a worker process:\n{failed.trace}")
    return error


def _first(group: ExceptionGroup[Exception]) -> Exception:
    """Choose what is raised: of events that failed at the same time the first."""
    found = list(_leaves(group))
    events = [error for error in found if isinstance(error, EventFailedError)]
    return min(events, key=lambda error: error.sequence) if events else found[0]


def _leaves(group: ExceptionGroup[Exception]) -> Iterator[Exception]:
    for member in group.exceptions:
        if isinstance(member, ExceptionGroup):
            yield from _leaves(cast("ExceptionGroup[Exception]", member))
        else:
            yield member


def _unsplit(workers: int, reason: str) -> str:
    return f"it can't be rebuilt by workers={workers}: {reason}; or use workers=1"
