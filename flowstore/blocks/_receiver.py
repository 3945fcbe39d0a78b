"""A task that waits for an item, and the awaitable end of a block."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from flowstore.blocks._outlet import BaseOutlet

__all__ = ["Completion", "Receiver"]


class Receiver:
    """A task parked until one of several outputs has something for it.

    One that `takes` is handed an item; one that doesn't is only woken to look.
    """

    __slots__ = ("counted", "item", "outlet", "outlets", "takes", "task")

    def __init__(
        self, outlets: Sequence[BaseOutlet], *, takes: bool, counted: bool = False
    ) -> None:
        self.outlets = outlets
        self.takes = takes
        self.counted = counted  # among its nodes' readers
        self.outlet: BaseOutlet | None = None
        self.item: Any = None
        self.task: trio.lowlevel.Task | None = None

    async def wait(self) -> bool:
        """Wait; True if an item was handed over, False if it is time to look again.

        Cancelled, it has received nothing.
        """
        self.task = trio.lowlevel.current_task()
        for outlet in self.outlets:
            outlet.receivers.append(self)

        def abort(_raise: object) -> trio.lowlevel.Abort:
            self._leave()
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)
        return self.outlet is not None

    def hand(self, outlet: BaseOutlet, item: Any) -> None:
        """Hand an item over and let the task go on."""
        self.outlet, self.item = outlet, item
        self.wake()

    def wake(self) -> None:
        """Let the task go on."""
        task = self.task
        if task is not None:
            self._leave()
            trio.lowlevel.reschedule(task)

    def _leave(self) -> None:
        self.task = None
        for outlet in self.outlets:
            outlet.receivers.remove(self)
            outlet.node.receiver_left()


class Completion:
    """The end of a block: await it as often as you like, also afterwards."""

    __slots__ = ("_error", "_lot", "_over")

    def __init__(self) -> None:
        self._lot = trio.lowlevel.ParkingLot()
        self._over = False
        self._error: Any = None

    def __await__(self) -> Generator[Any, Any, None]:
        return self._wait().__await__()

    async def _wait(self) -> None:
        if self._over:
            await trio.lowlevel.checkpoint()
        else:
            await self._lot.park()
        if self._error is not None:
            raise self._error()

    def settle(self, error: Any = None) -> None:
        """Let all waiters go on; `error` makes what they raise, each its own."""
        self._over = True
        self._error = error
        self._lot.unpark_all()
