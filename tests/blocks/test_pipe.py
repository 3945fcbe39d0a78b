"""pipe(*blocks): links them in order, returns the chain as one block."""

import pytest
from trio.testing import wait_all_tasks_blocked

from flowstore.blocks import (
    ActionBlock,
    BatchBlock,
    BlockState,
    BufferBlock,
    Network,
    SourceBlock,
    TransformBlock,
    TransformManyBlock,
    pipe,
    run,
)


async def test_it_links_the_blocks_in_order():
    async with Network() as network:
        chain = pipe(
            TransformBlock(lambda number: number + 1),
            TransformBlock(lambda number: number * 10),
            TransformBlock(str),
        )
        network.add(chain)
        await chain.send_many([1, 2, 3])
        chain.complete()
        assert [text async for text in chain] == ["20", "30", "40"]


async def test_what_it_returns_takes_at_the_first_and_gives_at_the_last():
    async with Network() as network:
        first, last = BufferBlock(), BufferBlock()
        chain = network.add(pipe(first, last))
        chain.post("item")
        await wait_all_tasks_blocked()
        assert (first.statistics().accepted, last.statistics().accepted) == (1, 1)
        assert chain.statistics() == last.statistics()
        chain.complete()
        assert first.post("late") is False
        assert [item async for item in chain] == ["item"]


async def test_adding_it_adds_every_block_of_the_chain():
    async with Network() as network:
        blocks = [BufferBlock() for _ in range(4)]
        network.add(pipe(*blocks))
        assert set(blocks) == set(network.statistics())


async def test_completion_propagates_from_the_first_to_the_last():
    seen = []
    async with Network() as network:
        sink = ActionBlock(seen.append)
        chain = network.add(pipe(SourceBlock(range(3)), BatchBlock(2), sink))
        await chain.completion
        assert sink.state is BlockState.COMPLETED
    assert seen == [(0, 1), (2,)]


async def test_a_pipe_of_one_block_behaves_as_the_block():
    async with Network() as network:
        block = BufferBlock()
        alone = pipe(block)
        network.add(alone)
        alone.post("item")
        assert await alone.receive() == "item"
        assert block.statistics().finished == 1


async def test_pipes_are_piped_like_blocks():
    seen = []
    spread = pipe(TransformBlock(range), TransformManyBlock(list))
    write = pipe(TransformBlock(str), ActionBlock(seen.append))
    await run(SourceBlock([2, 0, 3]), spread, write)
    assert seen == ["0", "1", "0", "1", "2"]


@pytest.mark.parametrize("capacity", [1, 2, 128])
async def test_a_long_pipe_loses_nothing_at_any_capacity(capacity):
    seen = []
    stages = [TransformBlock(lambda item: item, bounded_capacity=capacity) for _ in range(20)]
    await run(SourceBlock(range(100)), *stages, ActionBlock(seen.append, bounded_capacity=capacity))
    assert seen == list(range(100))


async def test_a_piped_block_can_take_a_second_link_besides():
    odd, even = [], []
    numbers = SourceBlock(range(6))
    split = BufferBlock()
    async with Network() as network:
        pipe(numbers, split)
        split.link_to(ActionBlock(odd.append), lambda number: number % 2 == 1)
        split.link_to(ActionBlock(even.append))
        network.add(numbers)
    assert (odd, even) == ([1, 3, 5], [0, 2, 4])
