"""Looking at the books of blocks after every step of every task."""

import math
from typing import Any, Final

import attrs
import trio

from flowstore.blocks import Block, BlockState, BlockStatistics
from flowstore.testing._broken_law import BrokenLawError

__all__ = ["BookKeeper"]

_ENDED: Final = frozenset({BlockState.COMPLETED, BlockState.FAULTED, BlockState.CANCELLED})


@attrs.define(eq=False)
class BookKeeper(trio.abc.Instrument):
    """Check the counts of blocks while they run, as one of trio's instruments.

    In every block, after every step, what it accepted is finished, failed, discarded or inside,
    no count is negative, and no more is inside than it may hold. A run that turns in circles
    is ended.

        books = BookKeeper()
        trio.run(main, instruments=[books])  # calls books.watch(block), works inside books.scope
        books.close()

    Attributes:
        most_steps: how many steps of tasks a run may take.
        scope: is cancelled when it takes more.
    """

    most_steps: int = 200_000
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope, init=False)
    _capacities: dict[Block, float] = attrs.field(factory=dict["Block", float], init=False)
    _steps: int = attrs.field(default=0, init=False)
    _violation: str | None = attrs.field(default=None, init=False)

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The blocks it looks at."""
        return tuple(self._capacities)

    def watch(self, block: Any, capacity: float = math.inf) -> Any:
        """Look at a block too, and give it back.

        Args:
            block: any block.
            capacity: how many items may be inside.
        """
        self._capacities[block] = capacity
        return block

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """Look at all blocks; what is wrong is told by `close`."""
        del task
        self._steps += 1
        try:
            self._look()
        except Exception as error:  # noqa: BLE001  trio would log it and drop the instrument
            self._violation = self._violation or repr(error)
        if self._steps == self.most_steps:
            self._violation = f"the blocks turn in circles: {self._steps} steps and no end"
            self.scope.cancel()

    def check(self) -> None:
        """Check that nothing was wrong at any step.

        Raises:
            BrokenLawError: names the block's counts.
        """
        self._look()
        if self._violation is not None:
            raise BrokenLawError("books", self._violation)

    def close(self) -> None:
        """Check that nothing was wrong at any step, and that every block has ended and holds nothing.

        A completed block has discarded nothing either.

        Raises:
            BrokenLawError: names the block's counts.
        """
        self.check()
        for block in self._capacities:
            counts = block.statistics()
            _demand(block.state in _ENDED, "a block hasn't ended", counts)
            _demand(counts.inside == 0, "a block that has ended holds items", counts)
            _demand(counts.waiting_senders == 0, "senders wait for a block that has ended", counts)
            if block.state is BlockState.COMPLETED:
                _demand(counts.discarded == 0, "a block that completed discarded items", counts)

    def _look(self) -> None:
        if self._violation is not None:
            return
        for block, capacity in self._capacities.items():
            self._violation = self._violation or _wrong(block.statistics(), capacity)


def _wrong(counts: BlockStatistics, capacity: float) -> str | None:
    settled = counts.finished + counts.failed + counts.discarded
    if counts.accepted != settled + counts.inside:
        return f"the books do not balance: {counts}"
    if not 0 <= counts.inside <= capacity:
        return f"outside the capacity of {capacity}: {counts}"
    if min(counts.finished, counts.failed, counts.discarded) < 0:
        return f"a negative count: {counts}"
    return None


def _demand(is_true: bool, what: str, counts: BlockStatistics) -> None:  # noqa: FBT001  it asserts
    if not is_true:
        raise BrokenLawError("books", f"{what}: {counts}")
