"""An event loop that plain functions may go into and come out of again."""

import math
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import trio
from trio.testing import MockClock

__all__ = ["SteppedLoop"]

_T = TypeVar("_T")

_MOST_TICKS: Final = 30_000
"""Of a single call: some seconds; whoever takes more waits for what never comes."""


class SteppedLoop:
    """Run trio while somebody waits for an answer, and hold it still in between.

    Tasks that are started stay as they are until the next call. Its clock is virtual, and jumps
    when every task waits. It takes no thread: trio is a guest here, and this is its host.

    Attributes:
        nursery: for tasks that outlive a call.
    """

    nursery: trio.Nursery

    def __init__(self) -> None:
        self._ticks: deque[Callable[[], object]] = deque()
        self._is_over = False
        self._jobs, self._to_do = trio.open_memory_channel[Callable[[], Awaitable[None]]](math.inf)
        trio.lowlevel.start_guest_run(
            self._serve,
            run_sync_soon_threadsafe=self._ticks.append,
            done_callback=self._end,
            host_uses_signal_set_wakeup_fd=True,
            clock=MockClock(autojump_threshold=0),
        )

    def call(self, function: Callable[..., Awaitable[_T]], *arguments: Any) -> _T:
        """Run an async function to its end, and everybody else meanwhile.

        Raises:
            RuntimeError: it doesn't come to its end.
            BaseException: whatever it raises.
        """
        results: list[_T] = []
        failures: list[BaseException] = []
        scope, ended = trio.CancelScope(), trio.Event()

        async def job() -> None:
            try:
                with scope:
                    results.append(await function(*arguments))
            except trio.Cancelled:
                raise
            except BaseException as error:  # noqa: BLE001  raised again where it was asked for
                failures.append(error)
            finally:
                ended.set()

        self._jobs.send_nowait(job)
        if not self._run_until(ended.is_set):
            scope.cancel()
            self._run_until(ended.is_set)
            raise RuntimeError(f"{function!r} doesn't come to its end")
        if failures:
            raise failures[0]
        return results[0]

    def close(self) -> None:
        """End all tasks."""
        if not self._is_over:
            self._run_until(lambda: hasattr(self, "nursery"))
            self.nursery.cancel_scope.cancel()
            self._run_until(lambda: self._is_over)

    async def _serve(self) -> None:
        async with trio.open_nursery() as self.nursery:
            async for job in self._to_do:
                await job()

    def _end(self, _outcome: Any) -> None:
        self._is_over = True

    def _run_until(self, is_done: Callable[[], bool]) -> bool:
        """Go on until something is true; tell whether it ever was."""
        for _ in range(_MOST_TICKS):
            if is_done() or not self._ticks:
                break
            self._ticks.popleft()()
        return is_done()
