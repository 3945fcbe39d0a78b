"""What befalls the processes that run a projection."""

import trio

from flowstore.errors import DatabaseUnavailableError
from flowstore.store.memory import CommitStep
from flowstore.testing._strategies import CrashPoint
from flowstore.testing._witness import Commit

__all__ = ["Troubles"]


class Troubles:
    """Crash processes, cancel them, and have the database fail, as it is drawn.

    Args:
        crashes: what befalls commits, one trouble after the other.
        cancellations: after how many turns each process is cancelled; those after the last of them
            are left in peace.
        log: is told of all of it.
    """

    def __init__(
        self,
        crashes: tuple[CrashPoint, ...],
        cancellations: tuple[int, ...],
        log: list[Commit | str],
    ) -> None:
        self._crashes, self._cancellations, self._log = list(crashes), list(cancellations), log
        self._passed = 0
        self._process: trio.Nursery | None = None

    def begin(self, process: trio.Nursery) -> None:
        """Have a process begin."""
        self._process = process
        if self._cancellations:
            process.start_soon(self._cancel, process, self._cancellations.pop(0))

    async def at(self, step: CommitStep) -> None:
        """Do what befalls a commit at a step of it.

        Raises:
            DatabaseUnavailableError: the database fails.
        """
        await trio.lowlevel.checkpoint()
        if not self._crashes or step != self._crashes[0].step:
            return
        if self._passed < self._crashes[0].after:
            self._passed += 1
            return
        crash, self._passed = self._crashes.pop(0), 0
        is_kept = step == "committed"
        if not crash.is_fatal:
            self._log.append(
                "a commit is kept, and its answer is lost" if is_kept else "a commit fails"
            )
            raise DatabaseUnavailableError("the connection is gone")
        self._log.append(f"the process ends {'after' if is_kept else 'before'} a commit")
        assert self._process is not None  # noqa: S101  whoever commits has begun
        self._process.cancel_scope.cancel()
        await trio.lowlevel.checkpoint()

    async def _cancel(self, process: trio.Nursery, turns: int) -> None:
        for _ in range(turns):
            await trio.lowlevel.checkpoint()
        self._log.append("the process is cancelled")
        process.cancel_scope.cancel()
