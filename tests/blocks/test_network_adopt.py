"""A network adopts what is added, and everything reachable over links."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from flowstore.blocks import (
    ActionBlock,
    BlockState,
    BufferBlock,
    Network,
    SourceBlock,
    TransformBlock,
    encapsulate,
    null_target,
    pipe,
)


async def test_add_returns_its_one_block():
    block = ActionBlock(str)
    async with Network() as network:
        assert network.add(block) is block


async def test_add_returns_several_blocks_as_a_tuple():
    first, second = ActionBlock(str), ActionBlock(str)
    async with Network() as network:
        assert network.add(first, second) == (first, second)


async def test_add_adopts_everything_reachable_downstream():
    blocks = [TransformBlock(str), TransformBlock(str), ActionBlock(str)]
    blocks[0].link_to(blocks[1])
    blocks[1].link_to(blocks[2])
    async with Network() as network:
        network.add(blocks[0])
        assert set(network.statistics()) == set(blocks)


async def test_add_adopts_everything_reachable_upstream():
    seen = []
    source, sink = SourceBlock([1, 2]), ActionBlock(seen.append)
    source.link_to(sink)
    async with Network() as network:
        network.add(sink)
        assert set(network.statistics()) == {source, sink}
    assert seen == [1, 2]


async def test_add_adopts_over_links_in_both_directions_alternately():
    left, right = SourceBlock([1]), SourceBlock([2])
    shared, other = ActionBlock(str), ActionBlock(str)
    left.link_to(shared)
    right.link_to(other, max_messages=1)
    right.link_to(shared)
    async with Network() as network:
        network.add(other)
        assert set(network.statistics()) == {left, right, shared, other}


async def test_linking_from_a_block_of_a_running_network_adopts_the_target():
    seen = []
    async with Network() as network:
        first = network.add(TransformBlock(str))
        sink = ActionBlock(seen.append)
        first.link_to(sink)
        assert sink in network.statistics()
        await first.send(1)
    assert seen == ["1"]
    assert sink.state is BlockState.COMPLETED


async def test_linking_to_a_block_of_a_running_network_adopts_the_source():
    seen = []
    async with Network() as network:
        sink = network.add(ActionBlock(seen.append))
        source = SourceBlock([1, 2, 3])
        source.link_to(sink)
        assert source in network.statistics()
    assert seen == [1, 2, 3]


async def test_linking_adopts_the_whole_network_of_the_new_block():
    seen = []
    middle, last = TransformBlock(str), ActionBlock(seen.append)
    beside = SourceBlock([10])
    middle.link_to(last)
    beside.link_to(last)
    async with Network() as network:
        first = network.add(TransformBlock(int))
        first.link_to(middle)
        assert set(network.statistics()) == {first, middle, last, beside}
        await first.send("1")
    assert sorted(seen, key=str) == ["1", 10]


async def test_add_of_an_encapsulation_adds_both_ends():
    seen = []
    outlet = BufferBlock()
    inlet = ActionBlock(outlet.post)
    async with Network() as network:
        both = network.add(encapsulate(inlet, outlet))
        assert {inlet, outlet} <= set(network.statistics())
        both.link_to(ActionBlock(seen.append))
        await both.send(1)
        await network.wait_idle()
    assert seen == [1]


async def test_add_of_a_pipe_adds_its_inner_blocks():
    blocks = TransformBlock(str), TransformBlock(str), ActionBlock(str)
    async with Network() as network:
        network.add(pipe(*blocks))
        assert set(blocks) <= set(network.statistics())


async def test_adding_twice_to_one_network_does_nothing():
    seen = []
    async with Network() as network:
        sink = network.add(ActionBlock(seen.append))
        assert network.add(sink) is sink
        assert list(network.statistics()) == [sink]
        await sink.send_many(range(5))
    assert seen == list(range(5))


async def test_adding_to_a_second_network_is_a_value_error():
    async with Network() as first:
        block = first.add(BufferBlock())
        async with Network() as second:
            with pytest.raises(ValueError):
                second.add(block)
            assert block not in second.statistics()


async def test_work_starts_with_the_network_not_before():
    seen = []
    sink = ActionBlock(seen.append)
    assert sink.post(1)
    await wait_all_tasks_blocked()
    assert seen == []
    async with Network() as network:
        network.add(sink)
        await wait_all_tasks_blocked()
        assert seen == [1]


async def test_items_go_over_links_only_once_the_network_runs():
    source, target = BufferBlock(), BufferBlock()
    source.link_to(target)
    assert source.post(1)
    assert source.statistics().output == 1
    assert target.statistics().accepted == 0
    async with Network() as network:
        network.add(source)
        assert await target.receive() == 1


async def test_a_block_accepts_up_to_capacity_from_construction():
    seen = []
    sink = ActionBlock(seen.append, bounded_capacity=2)
    assert [sink.post(item) for item in range(3)] == [True, True, False]
    async with Network() as network:
        network.add(sink)
    assert seen == [0, 1]


async def test_a_sender_that_waited_before_the_network_began_is_served_by_it():
    seen = []
    sink = ActionBlock(seen.append, bounded_capacity=1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sink.send, 1)
        nursery.start_soon(sink.send, 2)
        await wait_all_tasks_blocked()
        assert sink.statistics().waiting_senders == 1
        async with Network() as network:
            network.add(sink)
            await network.wait_idle()
            assert sorted(seen) == [1, 2]


async def test_a_block_completed_before_its_network_began_ends_with_it():
    seen = []
    sink = ActionBlock(seen.append)
    assert sink.post(1)
    sink.complete()
    assert sink.post(2) is False
    async with Network() as network:
        network.add(sink)
        await sink.completion
    assert seen == [1]


async def test_a_null_target_needs_no_network_and_is_no_block_to_drain(autojump_clock):
    with trio.fail_after(1):
        async with Network() as network:
            buffer = network.add(BufferBlock(bounded_capacity=1))
            buffer.link_to(null_target())
            await buffer.send_many(range(100))
    assert buffer.statistics().finished == 100
