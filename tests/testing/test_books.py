"""The book keeper sees what is wrong at one step and right again at the next."""

import attrs
import pytest
import trio

from flowstore.blocks import BlockState, BufferBlock, TransformBlock, null_target, pipe, run
from flowstore.testing import BookKeeper


@attrs.define(eq=False)
class Lying:
    """A block whose counts are as said."""

    counts: object

    @property
    def state(self):
        return self.counts.state

    def statistics(self):
        return self.counts


HONEST = attrs.evolve(
    BufferBlock(name="x").statistics(), state=BlockState.COMPLETED, accepted=2, finished=2
)


def test_books_of_real_blocks_balance_at_every_step():
    books = BookKeeper()

    async def main():
        double = books.watch(TransformBlock(lambda item: item * 2, bounded_capacity=3), 3)
        for item in range(3):
            double.post(item)
        double.complete()
        await run(pipe(double, null_target()))

    async def run_it():
        with trio.fail_after(5):
            await main()

    trio.run(run_it, instruments=[books])
    books.close()
    assert len(books.blocks) == 1


@pytest.mark.parametrize(
    ("changes", "story"),
    [
        ({"accepted": 3}, "do not balance"),
        ({"accepted": 3, "inside": 1}, "outside the capacity of 0"),
        ({"failed": -1, "accepted": 1}, "a negative count"),
        ({"discarded": 1, "accepted": 3}, "completed discarded items"),
        ({"state": BlockState.OPEN}, "hasn't ended"),
        ({"waiting_senders": 1}, "senders wait"),
    ],
)
def test_what_is_wrong_is_told(changes, story):
    books = BookKeeper()
    books.watch(Lying(attrs.evolve(HONEST, **changes)), 0)
    with pytest.raises(AssertionError, match=story):
        books.close()


def test_a_block_that_has_ended_holds_nothing():
    books = BookKeeper()
    books.watch(Lying(attrs.evolve(HONEST, accepted=3, inside=1)))
    books.check()
    with pytest.raises(AssertionError, match="ended holds items"):
        books.close()


def test_what_was_wrong_for_one_step_is_remembered():
    books, block = BookKeeper(), Lying(HONEST)
    books.watch(block)

    async def main():
        block.counts = attrs.evolve(HONEST, accepted=3)
        await trio.lowlevel.checkpoint()
        block.counts = HONEST

    trio.run(main, instruments=[books])
    with pytest.raises(AssertionError, match="do not balance"):
        books.check()


def test_a_run_that_turns_in_circles_is_ended():
    books = BookKeeper(most_steps=100)

    async def main():
        with books.scope:
            while True:
                await trio.lowlevel.checkpoint()

    trio.run(main, instruments=[books])
    with pytest.raises(AssertionError, match="turn in circles: 100 steps"):
        books.close()
