"""null_target(): takes everything, keeps nothing."""

import pytest

from flowstore.blocks import (
    ActionBlock,
    BlockState,
    BufferBlock,
    Network,
    SourceBlock,
    null_target,
    run,
)


async def test_it_takes_every_item_without_a_network():
    target = null_target()
    assert [target.post(item) for item in range(1_000)] == [True] * 1_000
    await target.send("item")


async def test_it_accepts_after_complete_too():
    target = null_target()
    target.complete()
    assert target.post("item") is True
    await target.send("item")


async def test_a_source_linked_to_it_completes():
    async with Network() as network:
        source = network.add(SourceBlock(range(500)))
        source.link_to(null_target())
    assert source.state is BlockState.COMPLETED
    counts = source.statistics()
    assert (counts.accepted, counts.finished, counts.discarded) == (500, 500, 0)


async def test_it_is_no_block_to_drain():
    async with Network() as network:
        buffer = network.add(BufferBlock())
        buffer.link_to(null_target())
        assert list(network.statistics()) == [buffer]


async def test_what_no_other_link_takes_can_go_to_it():
    seen = []
    async with Network() as network:
        numbers = network.add(SourceBlock(range(6)))
        numbers.link_to(ActionBlock(seen.append), lambda number: number % 3 == 0)
        numbers.link_to(null_target())
    assert seen == [0, 3]


async def test_many_sources_may_share_one():
    target = null_target()
    async with Network() as network:
        first, second = network.add(SourceBlock(range(3)), BufferBlock())
        first.link_to(target)
        second.link_to(target)
        await first.completion
        second.post("after the first has completed it")
    assert second.statistics().finished == 1


async def test_it_serves_several_networks_one_after_the_other():
    target = null_target()
    for _ in range(2):
        async with Network() as network:
            source = network.add(SourceBlock(range(3)))
            source.link_to(target)
        assert source.statistics().finished == 3


@pytest.mark.parametrize("capacity", [1, 128])
async def test_it_can_end_a_chain(capacity):
    buffer = BufferBlock(bounded_capacity=capacity)
    await run(SourceBlock(range(300)), buffer, null_target())
    assert buffer.statistics().finished == 300
