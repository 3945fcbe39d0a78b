"""Links between two running networks carry items, completion, fault and cancellation."""

import itertools

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from flowstore.blocks import ActionBlock, BlockState, BufferBlock, Network, TransformBlock


async def test_items_and_completion_cross_between_two_running_networks(autojump_clock):
    seen = []
    with trio.fail_after(10):
        async with Network() as downstream:
            sink = downstream.add(ActionBlock(seen.append))
            async with Network() as upstream:
                first = upstream.add(TransformBlock(str))
                first.link_to(sink)
                await first.send_many(range(3))
            await sink.completion
    assert seen == ["0", "1", "2"]
    assert sink.state is BlockState.COMPLETED


async def test_a_link_between_two_networks_adopts_nothing():
    async with Network() as downstream:
        sink = downstream.add(ActionBlock(str))
        async with Network() as upstream:
            first = upstream.add(TransformBlock(str))
            first.link_to(sink)
            assert list(upstream.statistics()) == [first]
            assert list(downstream.statistics()) == [sink]


async def test_back_pressure_crosses_between_two_running_networks():
    gate = trio.Event()
    seen = []

    async def hold(item):
        await gate.wait()
        seen.append(item)

    async with Network() as downstream:
        sink = downstream.add(ActionBlock(hold, bounded_capacity=1))
        async with Network() as upstream:
            first = upstream.add(BufferBlock(bounded_capacity=2))
            first.link_to(sink)
            await first.send_many(range(3))
            await wait_all_tasks_blocked()
            assert first.post(3) is False
            gate.set()
    assert seen == [0, 1, 2]


async def test_a_fault_crosses_to_the_other_network():
    error = ValueError("upstream")
    upstream_errors = []

    async def run_upstream(sink, started):
        with pytest.RaisesGroup(ValueError) as caught:
            async with Network() as upstream:
                first = upstream.add(BufferBlock())
                first.link_to(sink)
                started.set()
                await wait_all_tasks_blocked()
                first.fault(error)
                await trio.sleep_forever()
        upstream_errors.extend(caught.value.exceptions)

    async with trio.open_nursery() as nursery:
        with pytest.RaisesGroup(ValueError) as caught:
            async with Network() as downstream:
                sink = downstream.add(ActionBlock(str))
                nursery.start_soon(run_upstream, sink, trio.Event())
                await trio.sleep_forever()
    assert upstream_errors == [error]
    assert caught.value.exceptions == (error,)
    assert sink.state is BlockState.FAULTED


async def test_cancellation_arrives_as_cancellation_in_the_other_network(autojump_clock):
    with trio.fail_after(10):
        async with Network() as downstream:
            sink = downstream.add(ActionBlock(str))
            async with Network() as upstream:
                first = upstream.add(BufferBlock())
                first.link_to(sink)
                upstream.cancel()
            await wait_all_tasks_blocked()
    assert first.state is BlockState.CANCELLED
    assert sink.state is BlockState.CANCELLED


async def test_cancelling_the_downstream_network_leaves_the_upstream_one_running(autojump_clock):
    seen = []
    with trio.fail_after(10):
        async with Network() as upstream:
            first = upstream.add(BufferBlock())
            async with Network() as downstream:
                gone = downstream.add(ActionBlock(str))
                first.link_to(gone)
                downstream.cancel()
            assert gone.state is BlockState.CANCELLED
            first.link_to(ActionBlock(seen.append))
            await first.send_many(range(3))
    assert seen == [0, 1, 2]
    assert first.state is BlockState.COMPLETED


async def test_two_networks_beside_each_other_know_nothing_of_each_other():
    counters = [itertools.count(), itertools.count()]
    async with Network() as healthy:
        sink = healthy.add(ActionBlock(lambda _item: next(counters[0])))
        with pytest.RaisesGroup(ValueError):
            async with Network() as failing:
                failing.add(BufferBlock()).fault(ValueError())
                await trio.sleep_forever()
        assert sink.state is BlockState.OPEN
        await sink.send_many(range(3))
    assert next(counters[0]) == 3
