"""What each field of `BlockStatistics` counts."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from flowstore.blocks import (
    ActionBlock,
    BlockState,
    BlockStatistics,
    BufferBlock,
    Network,
    SourceBlock,
    TransformBlock,
    TransformManyBlock,
)


def counts(block):
    statistics = block.statistics()
    return {
        name: getattr(statistics, name)
        for name in ("accepted", "finished", "failed", "discarded", "inside")
        if getattr(statistics, name)
    }


def places(block):
    statistics = block.statistics()
    return {
        name: getattr(statistics, name)
        for name in ("input", "running", "held_for_order", "output", "waiting_senders")
        if getattr(statistics, name)
    }


def test_statistics_of_a_new_block_are_zero():
    statistics = BufferBlock(name="fresh").statistics()
    assert statistics == BlockStatistics(
        name="fresh",
        state=BlockState.OPEN,
        accepted=0,
        finished=0,
        failed=0,
        discarded=0,
        inside=0,
        input=0,
        running=0,
        held_for_order=0,
        output=0,
        waiting_senders=0,
    )


async def test_statistics_name_the_state():
    async with Network() as network:
        block = network.add(BufferBlock())
        assert block.statistics().state is BlockState.OPEN
        await block.send(1)
        block.complete()
        await wait_all_tasks_blocked()
        assert block.statistics().state is BlockState.DRAINING
        assert await block.receive() == 1
        await block.completion
        assert block.statistics().state is BlockState.COMPLETED


def test_a_refused_post_is_not_counted():
    block = ActionBlock(str, bounded_capacity=1)
    block.post(1)
    block.post(2)
    assert counts(block) == {"accepted": 1, "inside": 1}
    assert places(block) == {"input": 1}


async def test_an_action_finishes_an_item_when_its_function_has_returned():
    gates = [trio.Event(), trio.Event()]

    async def hold(item):
        await gates[item].wait()

    async with Network() as network:
        block = network.add(ActionBlock(hold))
        await block.send_many([0, 1])
        await wait_all_tasks_blocked()
        assert counts(block) == {"accepted": 2, "inside": 2}
        assert places(block) == {"running": 1, "input": 1}
        gates[0].set()
        await wait_all_tasks_blocked()
        assert counts(block) == {"accepted": 2, "finished": 1, "inside": 1}
        assert places(block) == {"running": 1}
        gates[1].set()
        await wait_all_tasks_blocked()
        assert counts(block) == {"accepted": 2, "finished": 2}
        assert places(block) == {}


@pytest.mark.parametrize("parallelism", [1, 3])
async def test_a_transform_finishes_an_item_when_its_output_has_left(parallelism):
    async with Network() as network:
        block = network.add(TransformBlock(str, max_degree_of_parallelism=parallelism))
        await block.send_many([1, 2])
        await wait_all_tasks_blocked()
        assert counts(block) == {"accepted": 2, "inside": 2}
        assert places(block) == {"output": 2}
        await block.receive()
        assert counts(block) == {"accepted": 2, "finished": 1, "inside": 1}
        await block.receive()
        assert counts(block) == {"accepted": 2, "finished": 2}


async def test_output_that_left_over_a_link_is_finished():
    async with Network() as network:
        block = network.add(TransformBlock(str))
        sink = ActionBlock(str)
        block.link_to(sink)
        await block.send_many([1, 2])
        await network.wait_idle()
        assert counts(block) == {"accepted": 2, "finished": 2}
        assert counts(sink) == {"accepted": 2, "finished": 2}


async def test_a_buffer_finishes_an_item_when_it_has_left():
    async with Network() as network:
        block = network.add(BufferBlock())
        await block.send_many([1, 2, 3])
        await wait_all_tasks_blocked()
        assert counts(block) == {"accepted": 3, "inside": 3}
        block.receive_all_nowait()
        assert counts(block) == {"accepted": 3, "finished": 3}


async def test_a_result_that_waits_for_an_older_one_is_held_for_order():
    gate = trio.Event()

    async def hold_the_first(item):
        if item == 0:
            await gate.wait()
        return item

    async with Network() as network:
        block = network.add(TransformBlock(hold_the_first, max_degree_of_parallelism=2))
        await block.send_many([0, 1, 2])
        await wait_all_tasks_blocked()
        assert places(block) == {"running": 1, "held_for_order": 2}
        assert counts(block) == {"accepted": 3, "inside": 3}
        gate.set()
        await wait_all_tasks_blocked()
        assert places(block) == {"output": 3}
        block.receive_all_nowait()


async def test_an_unordered_block_holds_nothing_for_order():
    gate = trio.Event()

    async def hold_the_first(item):
        if item == 0:
            await gate.wait()
        return item

    async with Network() as network:
        block = network.add(
            TransformBlock(hold_the_first, max_degree_of_parallelism=2, ensure_ordered=False)
        )
        await block.send_many([0, 1, 2])
        await wait_all_tasks_blocked()
        assert places(block) == {"running": 1, "output": 2}
        gate.set()
        await wait_all_tasks_blocked()
        assert block.receive_all_nowait() == [1, 2, 0]


async def test_a_transform_many_finishes_an_input_once_its_last_output_has_left():
    async with Network() as network:
        block = network.add(TransformManyBlock(range))
        await block.send_many([2, 1])
        await wait_all_tasks_blocked()
        assert counts(block) == {"accepted": 2, "inside": 2}
        assert await block.receive() == 0
        assert block.statistics().finished == 0
        assert await block.receive() == 1
        await wait_all_tasks_blocked()
        assert counts(block) == {"accepted": 2, "finished": 1, "inside": 1}
        assert await block.receive() == 0
        await wait_all_tasks_blocked()
        assert counts(block) == {"accepted": 2, "finished": 2}


async def test_a_transform_many_finishes_an_input_without_outputs_at_once():
    async with Network() as network:
        block = network.add(TransformManyBlock(lambda _item: ()))
        await block.send_many([1, 2])
        await wait_all_tasks_blocked()
        assert counts(block) == {"accepted": 2, "finished": 2}


async def test_a_source_accepts_an_item_when_it_is_pulled_and_finishes_it_when_it_left():
    async with Network() as network:
        block = network.add(SourceBlock(range(10), bounded_capacity=3))
        await wait_all_tasks_blocked()
        assert counts(block) == {"accepted": 3, "inside": 3}
        assert places(block) == {"output": 3}
        assert await block.receive() == 0
        await wait_all_tasks_blocked()
        assert counts(block) == {"accepted": 4, "finished": 1, "inside": 3}
        assert [item async for item in block] == list(range(1, 10))
    assert counts(block) == {"accepted": 10, "finished": 10}


async def test_waiting_senders_are_counted_while_they_wait():
    async with Network() as network, trio.open_nursery() as nursery:
        block = network.add(BufferBlock(bounded_capacity=1))
        await block.send(1)
        nursery.start_soon(block.send, 2)
        nursery.start_soon(block.send_many, [3, 4])
        await wait_all_tasks_blocked()
        assert block.statistics().waiting_senders == 2
        assert counts(block) == {"accepted": 1, "inside": 1}
        assert len([await block.receive() for _ in range(4)]) == 4
        await wait_all_tasks_blocked()
        assert block.statistics().waiting_senders == 0


@pytest.mark.parametrize("parallelism", [1, 3])
async def test_at_a_fault_the_raising_item_failed_and_the_others_are_discarded(parallelism):
    async def fail_at_2(item):
        if item == 2:
            raise ValueError
        return item

    block = TransformBlock(fail_at_2, max_degree_of_parallelism=parallelism)
    with pytest.RaisesGroup(ValueError):
        async with Network() as network:
            network.add(block)
            await block.send_many(range(5))
            await trio.sleep_forever()
    assert counts(block) == {"accepted": 5, "failed": 1, "discarded": 4}
    assert places(block) == {}


@pytest.mark.parametrize("make", [TransformBlock, TransformManyBlock, ActionBlock])
async def test_the_item_a_plain_function_raised_at_is_failed(make):
    def fail_at_2(item):
        if item == 2:
            raise ValueError
        return [item]

    block = make(fail_at_2)
    assert all(block.post(item) for item in range(5))
    with pytest.RaisesGroup(ValueError):
        async with Network() as network:
            network.add(block)
    assert block.statistics().failed == 1
    assert block.statistics().finished + block.statistics().discarded == 4
    assert places(block) == {}


async def test_items_cancelled_while_they_run_are_discarded():
    async def fail_at_0(item):
        if item:
            await trio.sleep_forever()
        await trio.lowlevel.checkpoint()
        raise ValueError

    block = ActionBlock(fail_at_0, max_degree_of_parallelism=3)
    with pytest.RaisesGroup(ValueError):
        async with Network() as network:
            network.add(block)
            await block.send_many([1, 2, 0])
            await trio.sleep_forever()
    assert counts(block) == {"accepted": 3, "failed": 1, "discarded": 2}


async def test_a_cancelled_block_has_discarded_what_was_inside():
    async with Network() as network:
        buffer, sink = network.add(BufferBlock(), ActionBlock(trio.sleep))
        await buffer.send_many([1, 2])
        await sink.send_many([1_000_000, 2_000_000])
        await wait_all_tasks_blocked()
        network.cancel()
    assert counts(buffer) == {"accepted": 2, "discarded": 2}
    assert counts(sink) == {"accepted": 2, "discarded": 2}


async def test_dropped_unmatched_items_are_discarded():
    async with Network() as network:
        block = network.add(BufferBlock())
        block.link_to(ActionBlock(str), lambda item: item % 2, unmatched="drop")
        await block.send_many(range(5))
        await network.wait_idle()
        assert counts(block) == {"accepted": 5, "finished": 2, "discarded": 3}


async def test_an_item_an_error_handler_took_counts_as_failed():
    def fail_on_odd(item):
        if item % 2:
            raise ValueError
        return item

    async with Network() as network:
        block = network.add(TransformBlock(fail_on_odd, on_error=lambda _item, _error: None))
        await block.send_many(range(5))
        await wait_all_tasks_blocked()
        assert counts(block) == {"accepted": 5, "failed": 2, "inside": 3}
        assert block.receive_all_nowait() == [0, 2, 4]
        assert counts(block) == {"accepted": 5, "failed": 2, "finished": 3}
