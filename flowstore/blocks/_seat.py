"""The place where a block's task waits until there is something to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from flowstore.blocks._node import Host

__all__ = ["Seat"]


class Seat:
    """Parks one task at a time; counts as inactive in the network while it is parked.

    A bare `wait_task_rescheduled`: an Event object and a scope a wait would cost more than the
    items do.
    """

    __slots__ = ("_host", "_task")

    def __init__(self, host: Host) -> None:
        self._host = host
        self._task: trio.lowlevel.Task | None = None

    @property
    def taken(self) -> bool:
        """Tell whether a task is parked here."""
        return self._task is not None

    def wake(self) -> bool:
        """Let the parked task go on; False if there is none."""
        task = self._task
        if task is None:
            return False
        self._task = None
        self._host.task_woken()
        trio.lowlevel.reschedule(task)
        return True

    async def wait(self) -> None:
        """Park the calling task until it is woken."""
        self._task = trio.lowlevel.current_task()
        self._host.task_parked()

        def abort(_raise: object) -> trio.lowlevel.Abort:
            self._task = None
            self._host.task_woken()
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)
