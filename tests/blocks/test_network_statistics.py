"""`Network.statistics` maps blocks to what they counted, in the order they were added."""

from collections.abc import Mapping

from flowstore.blocks import (
    ActionBlock,
    BlockStatistics,
    BufferBlock,
    Network,
    TransformBlock,
    pipe,
)


async def test_the_statistics_of_an_empty_network_are_an_empty_mapping():
    async with Network() as network:
        statistics = network.statistics()
        assert isinstance(statistics, Mapping)
        assert dict(statistics) == {}


async def test_statistics_list_the_blocks_in_the_order_they_were_added():
    blocks = [ActionBlock(str), BufferBlock(), TransformBlock(str), BufferBlock(), ActionBlock(str)]
    async with Network() as network:
        for block in blocks[:3]:
            network.add(block)
        network.add(*blocks[3:])
        assert list(network.statistics()) == blocks


async def test_statistics_of_a_network_equal_those_of_its_blocks():
    async with Network() as network:
        first, second = TransformBlock(str, name="first"), ActionBlock(str, name="second")
        network.add(pipe(first, second))
        await first.send_many(range(7))
        await network.wait_idle()
        statistics = network.statistics()
        assert statistics[first] == first.statistics()
        assert statistics[second] == second.statistics()
        assert isinstance(statistics[first], BlockStatistics)
        assert statistics[second].finished == 7
        assert [entry.name for entry in statistics.values()] == ["first", "second"]


async def test_statistics_are_a_snapshot():
    async with Network() as network:
        sink = network.add(ActionBlock(str))
        before = network.statistics()
        await sink.send(1)
        await network.wait_idle()
        assert before[sink].accepted == 0
        assert network.statistics()[sink].accepted == 1
