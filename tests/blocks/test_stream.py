"""StreamBlock: an async generator function over the stream of inputs."""

import math

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from flowstore.blocks import (
    ActionBlock,
    BlockClosedError,
    BlockFaultedError,
    BlockState,
    BufferBlock,
    Network,
    SourceBlock,
    StreamBlock,
    run,
)


async def unchanged(items):
    async for item in items:
        yield item


async def run_through(function, items, **options):
    seen = []
    await run(SourceBlock(items), StreamBlock(function, **options), ActionBlock(seen.append))
    return seen


async def test_it_yields_what_its_function_yields():
    async def doubled(items):
        async for item in items:
            yield item * 2

    assert await run_through(doubled, [1, 2, 3]) == [2, 4, 6]


async def test_its_function_keeps_state_from_item_to_item():
    async def running_total(items):
        total = 0
        async for item in items:
            total += item
            yield total

    assert await run_through(running_total, [1, 2, 3, 4]) == [1, 3, 6, 10]


async def test_an_input_may_yield_many_outputs_or_none():
    async def repeated(items):
        async for item in items:
            for _ in range(item):
                yield item

    assert await run_through(repeated, [0, 2, 0, 1, 3, 0]) == [2, 2, 1, 3, 3, 3]


async def test_more_outputs_than_the_capacity_fit_one_after_the_other():
    async def exploded(items):
        async for item in items:
            for copy in range(20):
                yield (item, copy)

    expected = [(item, copy) for item in range(3) for copy in range(20)]
    assert await run_through(exploded, range(3), bounded_capacity=1) == expected


async def test_it_may_yield_after_the_last_input():
    async def in_one_list(items):
        yield [item async for item in items]

    assert await run_through(in_one_list, "abc") == [["a", "b", "c"]]


async def test_it_may_yield_before_the_first_input():
    async def headed(items):
        yield "head"
        async for item in items:
            yield item

    assert await run_through(headed, "ab") == ["head", "a", "b"]


async def test_without_inputs_its_function_still_runs_to_its_end():
    async def counted(items):
        count = 0
        async for _ in items:
            count += 1
        yield count

    assert await run_through(counted, []) == [0]


@pytest.mark.parametrize("capacity", [1, 2, 128, math.inf])
async def test_the_stream_passes_whole_at_any_capacity(capacity):
    assert await run_through(unchanged, range(300), bounded_capacity=capacity) == list(range(300))


@settings(deadline=None)
@given(
    delays=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 3))),
    fan=st.lists(st.integers(0, 3), min_size=1, max_size=4),
    capacity=st.integers(1, 4),
    schedule=st.random_module(),
)
async def test_outputs_keep_the_order_of_the_inputs_whatever_the_delays(
    delays, fan, capacity, schedule
):
    async def pause(turns):
        for _ in range(turns):
            await trio.lowlevel.checkpoint()

    async def items():
        for item, (before, _, _) in enumerate(delays):
            await pause(before)
            yield item

    async def spread(stream):
        async for item in stream:
            await pause(delays[item][1])
            for copy in range(fan[item % len(fan)]):
                yield (item, copy)

    seen = []

    async def note(pair):
        await pause(delays[pair[0]][2])
        seen.append(pair)

    block = StreamBlock(spread, bounded_capacity=capacity)
    await run(SourceBlock(items()), block, ActionBlock(note, bounded_capacity=1))
    assert seen == [
        (item, copy) for item in range(len(delays)) for copy in range(fan[item % len(fan)])
    ]


async def test_at_most_capacity_inputs_plus_outputs_are_inside():
    async def pairs(items):
        async for item in items:
            yield (item, "first")
            yield (item, "second")

    async with Network() as network:
        block = network.add(StreamBlock(pairs, bounded_capacity=3))
        accepted = 0
        for item in range(10):
            accepted += block.post(item)
            await wait_all_tasks_blocked()
        assert accepted <= 3
        block.complete()
        received = [output async for output in block]
        assert received == [
            (item, half) for item in range(accepted) for half in ("first", "second")
        ]


async def test_a_function_that_yields_on_and_on_waits_for_room():
    made = []

    async def count_up(items):
        async for item in items:
            for number in range(item):
                made.append(number)
                yield number

    async with Network() as network:
        block = network.add(StreamBlock(count_up, bounded_capacity=3))
        await block.send(100)
        await wait_all_tasks_blocked()
        assert len(made) <= 4  # three inside, and the one that waits to get in
        block.complete()
        assert [output async for output in block] == list(range(100))


async def test_a_function_that_returns_with_inputs_unread_faults():
    async def only_one(items):
        async for item in items:
            yield item
            return

    block = StreamBlock(only_one, name="picky")
    assert all(block.post(item) for item in range(3))
    block.complete()
    with pytest.RaisesGroup(pytest.RaisesExc(RuntimeError, match="picky.*2 accepted items unread")):
        async with Network() as network:
            network.add(block)
            block.link_to(ActionBlock(str))
    assert block.state is BlockState.FAULTED


async def test_an_input_leaves_when_the_next_one_is_asked_for():
    gate = trio.Event()

    async def hesitating(items):
        async for _ in items:
            await gate.wait()
        yield "end"

    async with Network() as network:
        block = network.add(StreamBlock(hesitating, bounded_capacity=1))
        assert block.post(1)
        await wait_all_tasks_blocked()
        assert block.post(2) is False
        assert block.statistics().inside == 1
        gate.set()
        await wait_all_tasks_blocked()
        assert block.statistics().inside == 0
        assert block.post(2)
        block.complete()
        assert await block.receive() == "end"


async def test_an_input_is_finished_once_its_last_output_has_left():
    async def pairs(items):
        async for item in items:
            yield item
            yield item

    async with Network() as network:
        block = network.add(StreamBlock(pairs))
        block.post("item")
        await wait_all_tasks_blocked()
        counts = block.statistics()
        assert (counts.accepted, counts.finished, counts.inside) == (1, 0, 1)
        await block.receive()
        await wait_all_tasks_blocked()
        assert block.statistics().inside == 1
        await block.receive()
        await wait_all_tasks_blocked()
        counts = block.statistics()
        assert (counts.accepted, counts.finished, counts.inside) == (1, 1, 0)


async def test_completion_waits_for_the_outputs_to_be_read():
    async with Network() as network:
        block = network.add(StreamBlock(unchanged))
        block.post(1)
        block.complete()
        await wait_all_tasks_blocked()
        assert block.state is BlockState.DRAINING
        assert [item async for item in block] == [1]
        await block.completion


async def test_completing_it_empty_ends_it():
    async with Network() as network:
        block = network.add(StreamBlock(unchanged))
        block.complete()
        await block.completion
        assert block.post(1) is False
        with pytest.raises(trio.EndOfChannel):
            await block.receive()


async def test_an_error_of_its_function_faults_the_network_and_names_the_block():
    async def broken(items):
        async for item in items:
            if item == 2:
                raise ZeroDivisionError
            yield item

    block = StreamBlock(broken, name="weak spot")
    with pytest.RaisesGroup(ZeroDivisionError) as caught:
        await run(SourceBlock(range(5)), block, ActionBlock(lambda _: None))
    assert "weak spot" in "\n".join(caught.value.exceptions[0].__notes__)
    assert block.state is BlockState.FAULTED
    counts = block.statistics()
    assert counts.accepted == counts.finished + counts.failed + counts.discarded
    with pytest.raises(BlockFaultedError):
        await block.receive()


async def test_cancellation_lets_its_function_clean_up():
    steps = []

    async def careful(items):
        try:
            async for item in items:
                yield item
        finally:
            steps.append("closed")

    async with Network() as network:
        block = network.add(StreamBlock(careful))
        block.post(1)
        await wait_all_tasks_blocked()
        network.cancel()
    assert steps == ["closed"]
    assert block.state is BlockState.CANCELLED
    with pytest.raises(BlockClosedError):
        await block.completion


async def test_a_fault_elsewhere_cancels_its_waiting_function():
    steps = []

    async def careful(items):
        try:
            async for item in items:
                await trio.sleep_forever()
                yield item
        finally:
            steps.append("closed")

    with pytest.RaisesGroup(ZeroDivisionError):
        async with Network() as network:
            block, bystander = network.add(StreamBlock(careful), BufferBlock())
            block.post(1)
            await wait_all_tasks_blocked()
            bystander.fault(ZeroDivisionError())
    assert steps == ["closed"]
    counts = block.statistics()
    assert (counts.accepted, counts.finished, counts.discarded) == (1, 0, 1)


async def test_a_window_over_time_slides_with_the_items():
    async def sliding(items):
        window = ()
        async for item in items:
            window = (*window, item)[-3:]
            if len(window) == 3:
                yield window

    assert await run_through(sliding, range(5)) == [(0, 1, 2), (1, 2, 3), (2, 3, 4)]
