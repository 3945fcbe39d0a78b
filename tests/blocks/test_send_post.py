"""`post` never waits: it says whether the item was taken."""

import math

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from flowstore.blocks import (
    ActionBlock,
    BatchedJoinBlock,
    BufferBlock,
    FanOutBlock,
    JoinBlock,
    Network,
    StreamBlock,
    TransformBlock,
    TransformManyBlock,
)


@pytest.mark.parametrize("capacity", [1, 2, 7])
@pytest.mark.parametrize(
    "make",
    [
        lambda capacity: BufferBlock(bounded_capacity=capacity),
        lambda capacity: ActionBlock(str, bounded_capacity=capacity),
        lambda capacity: TransformBlock(str, bounded_capacity=capacity),
        lambda capacity: TransformManyBlock(list, bounded_capacity=capacity),
    ],
)
def test_post_takes_as_many_items_as_the_capacity(make, capacity):
    block = make(capacity)
    assert [block.post(item) for item in range(capacity + 2)] == [True] * capacity + [False] * 2
    assert block.statistics().accepted == capacity


def test_the_default_capacity_is_128():
    block = ActionBlock(str)
    assert [block.post(item) for item in range(129)] == [True] * 128 + [False]


BOUNDED = {
    "action": lambda: ActionBlock(str),
    "transform": lambda: TransformBlock(str),
    "transform many": lambda: TransformManyBlock(str),
    "stream": lambda: StreamBlock(unchanged),
    "buffer": BufferBlock,
    "fan-out": FanOutBlock,
    "side of a join": lambda: JoinBlock().targets[0],
    "side of a batched join": lambda: BatchedJoinBlock(10).targets[0],
}


async def unchanged(items):
    async for item in items:
        yield item


@pytest.mark.parametrize("kind", BOUNDED)
def test_every_kind_of_block_is_bounded_by_default(kind):
    block = BOUNDED[kind]()
    assert [block.post(item) for item in range(129)] == [True] * 128 + [False]


def test_an_infinite_capacity_takes_everything():
    block = BufferBlock(bounded_capacity=math.inf)
    assert all(block.post(item) for item in range(10_000))


@pytest.mark.parametrize("capacity", [0, -1])
@pytest.mark.parametrize("make", [BufferBlock, lambda **options: ActionBlock(str, **options)])
def test_a_capacity_below_one_is_a_value_error(make, capacity):
    with pytest.raises(ValueError):
        make(bounded_capacity=capacity)


def test_post_is_false_once_completed():
    block = BufferBlock()
    block.complete()
    assert block.post(1) is False


async def test_post_is_false_once_faulted():
    block = BufferBlock()
    with pytest.RaisesGroup(ValueError):
        async with Network() as network:
            network.add(block)
            block.fault(ValueError())
            assert block.post(1) is False
    assert block.post(1) is False


async def test_post_is_false_once_cancelled():
    async with Network() as network:
        block = network.add(BufferBlock())
        network.cancel()
    assert block.post(1) is False


async def test_post_is_true_again_after_room_was_made():
    async with Network() as network:
        block = network.add(BufferBlock(bounded_capacity=1))
        assert block.post(1) is True
        assert block.post(2) is False
        assert await block.receive() == 1
        assert block.post(3) is True
        assert await block.receive() == 3


async def test_an_item_counts_against_the_capacity_while_it_runs():
    gate = trio.Event()

    async def hold(_item):
        await gate.wait()

    async with Network() as network:
        sink = network.add(ActionBlock(hold, bounded_capacity=1))
        assert sink.post(1)
        await wait_all_tasks_blocked()
        assert sink.post(2) is False
        gate.set()
        await wait_all_tasks_blocked()
        assert sink.post(3) is True


@pytest.mark.parametrize("parallelism", [1, 4])
async def test_an_item_counts_against_the_capacity_until_it_has_left_the_output(parallelism):
    async with Network() as network:
        block = network.add(
            TransformBlock(str, bounded_capacity=3, max_degree_of_parallelism=parallelism)
        )
        assert [block.post(item) for item in range(4)] == [True, True, True, False]
        await wait_all_tasks_blocked()
        assert block.post(4) is False
        assert block.try_receive() == "0"
        assert [block.post(5), block.post(6)] == [True, False]
        await wait_all_tasks_blocked()
        assert block.receive_all_nowait() == ["1", "2", "5"]


async def test_an_item_held_for_order_counts_against_the_capacity():
    gate = trio.Event()

    async def hold_the_first(item):
        if item == 0:
            await gate.wait()
        return item

    async with Network() as network:
        block = network.add(
            TransformBlock(hold_the_first, bounded_capacity=3, max_degree_of_parallelism=3)
        )
        assert [block.post(item) for item in range(3)] == [True] * 3
        await wait_all_tasks_blocked()
        assert block.post(3) is False
        gate.set()
        await wait_all_tasks_blocked()
        assert block.receive_all_nowait() == [0, 1, 2]


async def test_post_waits_behind_older_senders():
    async with Network() as network, trio.open_nursery() as nursery:
        block = network.add(BufferBlock(bounded_capacity=1))
        assert block.post(1)
        nursery.start_soon(block.send, 2)
        await wait_all_tasks_blocked()
        assert block.try_receive() == 1
        assert block.post(3) is False
        assert await block.receive() == 2


async def test_a_function_may_post_to_its_own_block():
    seen = []

    def count_down(item):
        seen.append(item)
        if item:
            assert sink.post(item - 1)

    async with Network() as network:
        sink = network.add(ActionBlock(count_down, bounded_capacity=2))
        assert sink.post(3)
        await network.wait_idle()
    assert seen == [3, 2, 1, 0]


@pytest.mark.parametrize("item", [None, False, 0, (), NotImplemented, Ellipsis, ValueError])
async def test_any_object_is_an_item(item):
    async with Network() as network:
        first, last = network.add(TransformBlock(lambda item: item), BufferBlock())
        first.link_to(last)
        assert first.post(item) is True
        assert await last.receive() is item
