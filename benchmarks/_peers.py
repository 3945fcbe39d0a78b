"""What the cases of the block benchmark share: the stages' functions, and how a case is described."""

from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

import attrs

CAPACITY = 128
HOPS = 10
PARALLEL = 8
STOP = object()
"""Follows the last item through queues that can't be closed."""


@attrs.frozen
class Peer:
    """One case of one workload.

    Attributes:
        workload: what is done, a key of `blocks.WORKLOADS`.
        name: who does it.
        run: does it once with so many items; plain or async (on trio).
        count: items a run, so that runs of fast and slow cases take about as long.
        remark: what a reader must know to compare it.
    """

    workload: str
    name: str
    run: Callable[[int], Awaitable[object] | object]
    count: int
    remark: str = ""


class Sink:
    """Remembers the last item only: memory stays flat, and a run can be checked.

    Attributes:
        keep: the last stage's plain function.
        keep_later: the same as an async function.
    """

    def __init__(self) -> None:
        last = self._last = [0]

        def keep(item: int) -> None:
            last[0] = item

        async def keep_later(item: int) -> None:
            last[0] = item

        self.keep = keep
        self.keep_later = keep_later

    def check(self, count: int) -> None:
        """Make sure that the run did its work.

        Raises:
            RuntimeError: the last item didn't arrive last.
        """
        if self._last[0] != count:
            raise RuntimeError(f"the last item to arrive was {self._last[0]}, not {count}")


class InOrder:
    """Gives results of numbered items to a sink in the order of the numbers."""

    def __init__(self, keep: Callable[[int], None]) -> None:
        self._keep = keep
        self._held: dict[int, int] = {}
        self._next = 0

    def fill(self, number: int, result: int) -> None:
        """Take a result; give it, and those that waited for it."""
        held = self._held
        held[number] = result
        while self._next in held:
            self._keep(held.pop(self._next))
            self._next += 1


def add_one(item: int) -> int:
    return item + 1


async def add_one_later(item: int) -> int:
    return item + 1


def in_thread(work: Callable[[], object]) -> None:
    """Run the work in a thread of its own: trio runs in this one, and libraries ask who does."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(work).result()
