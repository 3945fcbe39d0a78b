"""`accepted == finished + failed + discarded + inside`, for every block, always."""

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from flowstore.blocks import (
    ActionBlock,
    BlockState,
    BufferBlock,
    Network,
    SourceBlock,
    TransformBlock,
    TransformManyBlock,
    pipe,
)


def assert_books_balance(statistics):
    for entry in statistics:
        assert entry.accepted == entry.finished + entry.failed + entry.discarded + entry.inside
        assert min(entry.input, entry.running, entry.held_for_order, entry.output) >= 0
        assert min(entry.finished, entry.failed, entry.discarded, entry.inside) >= 0


class Boom(Exception):  # noqa: N818 - stands for any user's error
    pass


OPTIONS = st.fixed_dictionaries(
    {
        "bounded_capacity": st.integers(1, 4),
        "max_degree_of_parallelism": st.integers(1, 3),
    }
)


@settings(deadline=None)
@given(
    plan=st.lists(
        st.tuples(
            st.integers(0, 3),  # checkpoints in the transform
            st.integers(0, 3),  # outputs of the transform-many
            st.integers(0, 2),  # checkpoints in the sink
            st.sampled_from(["fine", "fine", "fine", "handled", "fault"]),
        ),
        max_size=12,
    ),
    options=st.tuples(OPTIONS, OPTIONS, OPTIONS),
    ordered=st.booleans(),
    ending=st.sampled_from(["drain", "cancel", "error"]),
    after=st.integers(0, 20),
    seed=st.random_module(),
)
async def test_the_books_balance_at_every_moment(plan, options, ordered, ending, after, seed):  # noqa: C901 - one pipeline, four functions
    async def work(entry):
        assert_books_balance(network.statistics().values())
        for _ in range(entry[0]):
            await trio.lowlevel.checkpoint()
        if entry[3] == "handled":
            raise Boom
        if entry[3] == "fault":
            raise KeyError
        return entry

    def on_error(_entry, error):
        assert_books_balance(network.statistics().values())
        if not isinstance(error, Boom):
            raise error

    def spread(entry):
        for _ in range(entry[1]):
            assert_books_balance(network.statistics().values())
            yield entry

    async def sink(entry):
        for _ in range(entry[2]):
            await trio.lowlevel.checkpoint()
        assert_books_balance(network.statistics().values())

    blocks = (
        SourceBlock(plan, bounded_capacity=options[0]["bounded_capacity"]),
        TransformBlock(work, on_error=on_error, ensure_ordered=ordered, **options[0]),
        TransformManyBlock(spread, ensure_ordered=ordered, **options[1]),
        BufferBlock(bounded_capacity=options[2]["bounded_capacity"]),
        ActionBlock(sink, **options[2]),
    )
    try:
        with trio.fail_after(60):
            async with Network() as network:
                network.add(pipe(*blocks))
                for _ in range(after):
                    await trio.lowlevel.checkpoint()
                    assert_books_balance(network.statistics().values())
                if ending == "cancel":
                    network.cancel()
                elif ending == "error":
                    raise Boom  # noqa: TRY301 - the body of a network fails
    except* (Boom, KeyError):
        pass
    statistics = network.statistics()
    assert_books_balance(statistics.values())
    assert [entry.inside for entry in statistics.values()] == [0] * len(blocks)
    assert BlockState.OPEN not in {entry.state for entry in statistics.values()}
    assert BlockState.DRAINING not in {entry.state for entry in statistics.values()}
    for entry in statistics.values():
        if entry.state is BlockState.COMPLETED:
            assert entry.discarded == 0


@pytest.mark.parametrize("parallelism", [1, 4])
async def test_a_block_never_reports_success_with_items_lost(parallelism):
    gate = trio.Event()

    async def hold(_item):
        await gate.wait()

    sink = ActionBlock(hold, max_degree_of_parallelism=parallelism)
    async with Network() as network:
        network.add(sink)
        await sink.send_many(range(8))
        sink.complete()
        await trio.lowlevel.checkpoint()
        network.cancel()
    assert sink.state is BlockState.CANCELLED
    assert sink.statistics().discarded == 8
    assert sink.statistics().inside == 0
