"""Completion travels over links: counted, never too early, never lost."""

import itertools

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from flowstore.blocks import (
    ActionBlock,
    BlockClosedError,
    BlockState,
    BufferBlock,
    Network,
    SourceBlock,
    StalledNetworkError,
    TransformBlock,
    null_target,
)


async def test_a_completed_source_completes_its_target():
    async with Network() as network:
        first, sink = network.add(BufferBlock(), ActionBlock(str))
        first.link_to(sink)
        first.complete()
        await sink.completion
        assert sink.state is BlockState.COMPLETED


async def test_completion_reaches_the_end_of_a_chain_of_empty_blocks():
    async with Network() as network:
        chain = [network.add(TransformBlock(str)) for _ in range(10)]
        for left, right in itertools.pairwise(chain):
            left.link_to(right)
        chain[0].complete()
        await chain[-1].completion
        assert {block.state for block in chain} == {BlockState.COMPLETED}


async def test_every_target_of_a_completed_source_completes():
    async with Network() as network:
        buffer = network.add(BufferBlock())
        targets = [ActionBlock(str) for _ in range(3)]
        for target in targets:
            buffer.link_to(target)
        buffer.complete()
        for target in targets:
            await target.completion


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
async def test_a_target_completes_when_its_last_source_has(order):
    seen = []
    async with Network() as network:
        sink = network.add(ActionBlock(seen.append))
        sources = [network.add(BufferBlock()) for _ in range(3)]
        for source in sources:
            source.link_to(sink)
        for number, index in enumerate(order):
            assert sink.state is BlockState.OPEN
            await sources[index].send(number)
            sources[index].complete()
            await sources[index].completion
            await network.wait_idle()
        await sink.completion
    assert seen == [0, 1, 2]


async def test_without_propagation_a_target_stays_open():
    async with Network() as network:
        first, sink = network.add(BufferBlock(), ActionBlock(str))
        first.link_to(sink, propagate_completion=False)
        first.complete()
        await first.completion
        await wait_all_tasks_blocked()
        assert sink.state is BlockState.OPEN
        assert sink.post(1) is True


async def test_a_link_without_propagation_does_not_hold_the_completion_back():
    async with Network() as network:
        one, other, sink = network.add(BufferBlock(), BufferBlock(), ActionBlock(str))
        one.link_to(sink)
        other.link_to(sink, propagate_completion=False)
        one.complete()
        await sink.completion
        assert other.state is BlockState.OPEN


async def test_closing_the_only_link_never_completes_its_target():
    async with Network() as network:
        first, sink = network.add(BufferBlock(), ActionBlock(str))
        first.link_to(sink).close()
        first.complete()
        await first.completion
        await wait_all_tasks_blocked()
        assert sink.state is BlockState.OPEN


async def test_closing_the_last_open_link_completes_a_target_another_source_had_completed():
    async with Network() as network:
        one, other, sink = network.add(BufferBlock(), BufferBlock(), ActionBlock(str))
        one.link_to(sink)
        link = other.link_to(sink)
        one.complete()
        await one.completion
        await wait_all_tasks_blocked()
        assert sink.state is BlockState.OPEN
        link.close()
        await sink.completion


async def test_a_closed_link_is_no_longer_waited_for():
    async with Network() as network:
        one, other, sink = network.add(BufferBlock(), BufferBlock(), ActionBlock(str))
        link = other.link_to(sink)
        one.link_to(sink)
        link.close()
        one.complete()
        await sink.completion


async def test_an_explicit_complete_closes_a_linked_target_at_once():
    async with Network() as network:
        first, sink = network.add(BufferBlock(), ActionBlock(str))
        first.link_to(sink)
        sink.complete()
        assert sink.post(1) is False
        await sink.completion
        assert first.state is BlockState.OPEN


async def test_posting_from_outside_stays_possible_while_sources_are_open():
    seen = []
    async with Network() as network:
        one, other = network.add(BufferBlock(), BufferBlock())
        sink = ActionBlock(seen.append)
        one.link_to(sink)
        other.link_to(sink)
        one.complete()
        await one.completion
        await wait_all_tasks_blocked()
        assert sink.post("outside") is True
        await other.send("linked")
    assert sorted(seen) == ["linked", "outside"]


async def test_a_sender_from_outside_that_still_waits_is_settled_when_the_last_source_completes():
    gate = trio.Event()
    seen, refused = [], []

    async def hold(item):
        await gate.wait()
        seen.append(item)

    async def send(sink):
        try:
            await sink.send("outside")
        except BlockClosedError:
            refused.append("outside")

    async with Network() as network, trio.open_nursery() as nursery:
        first, sink = network.add(BufferBlock(), ActionBlock(hold, bounded_capacity=1))
        first.link_to(sink)
        await first.send("linked")
        await wait_all_tasks_blocked()
        nursery.start_soon(send, sink)
        await wait_all_tasks_blocked()
        first.complete()
        await wait_all_tasks_blocked()
        gate.set()
    assert seen + refused == ["linked", "outside"]


async def test_the_same_target_linked_twice_completes_once_the_source_has():
    async with Network() as network:
        first, sink = network.add(BufferBlock(), ActionBlock(str))
        first.link_to(sink, lambda item: item > 0)
        first.link_to(sink)
        first.complete()
        await sink.completion


async def test_completion_waits_for_items_a_full_target_has_not_taken():
    gate = trio.Event()
    seen = []

    async def hold(item):
        await gate.wait()
        seen.append(item)

    async with Network() as network:
        first, sink = network.add(BufferBlock(), ActionBlock(hold, bounded_capacity=1))
        first.link_to(sink)
        await first.send_many([1, 2, 3])
        first.complete()
        await wait_all_tasks_blocked()
        assert first.state is BlockState.DRAINING
        assert sink.state is BlockState.OPEN
        gate.set()
    assert seen == [1, 2, 3]


async def test_linking_from_a_completed_source_completes_the_target():
    async with Network() as network:
        ended, sink = network.add(BufferBlock(), ActionBlock(str))
        ended.complete()
        await ended.completion
        ended.link_to(sink)
        await sink.completion
        assert sink.state is BlockState.COMPLETED


async def test_linking_from_a_completed_source_waits_for_the_targets_other_sources():
    async with Network() as network:
        ended, other, sink = network.add(BufferBlock(), BufferBlock(), ActionBlock(str))
        ended.complete()
        await ended.completion
        other.link_to(sink)
        ended.link_to(sink)
        await wait_all_tasks_blocked()
        assert sink.state is BlockState.OPEN
        other.complete()
        await sink.completion


async def test_linking_from_a_completed_source_without_propagation_passes_nothing_on():
    async with Network() as network:
        ended, sink = network.add(BufferBlock(), ActionBlock(str))
        ended.complete()
        await ended.completion
        ended.link_to(sink, propagate_completion=False)
        await wait_all_tasks_blocked()
        assert sink.state is BlockState.OPEN


async def test_linking_from_a_faulted_source_passes_on_the_same_fault():
    error = ValueError("earlier")
    ended, sink = BufferBlock(), ActionBlock(str)
    with pytest.RaisesGroup(ValueError):
        async with Network() as network:
            network.add(ended)
            ended.fault(error)
    with pytest.RaisesGroup(ValueError) as caught:
        async with Network() as network:
            network.add(sink)
            ended.link_to(sink)
            await trio.sleep_forever()
    assert caught.value.exceptions == (error,)
    assert sink.state is BlockState.FAULTED


async def test_linking_from_a_cancelled_source_cancels_the_target():
    ended, sink = BufferBlock(), ActionBlock(str)
    async with Network() as network:
        network.add(ended)
        network.cancel()
    async with Network() as network:
        network.add(sink)
        ended.link_to(sink)
        await wait_all_tasks_blocked()
    assert sink.state is BlockState.CANCELLED


async def test_linking_late_from_a_draining_source_gets_the_rest_and_the_completion():
    seen = []
    async with Network() as network:
        block = network.add(TransformBlock(str))
        await block.send_many([1, 2])
        block.complete()
        await wait_all_tasks_blocked()
        sink = ActionBlock(seen.append)
        block.link_to(sink)
        await sink.completion
    assert seen == ["1", "2"]


async def test_completion_never_ends_a_null_target():
    target = null_target()
    async with Network() as network:
        for _ in range(2):
            source = network.add(SourceBlock(range(3)))
            source.link_to(target)
            await source.completion
    assert target.post(1) is True


async def test_a_source_whose_only_target_ended_early_stalls_the_drain(autojump_clock):
    source = SourceBlock(range(10), name="left over")
    sink = ActionBlock(lambda _item: sink.complete(), bounded_capacity=1)
    source.link_to(sink)
    with (
        trio.fail_after(1),
        pytest.RaisesGroup(pytest.RaisesExc(StalledNetworkError, match="left over")),
    ):
        async with Network() as network:
            network.add(source)


async def test_a_source_whose_target_ended_early_may_end_in_a_null_target(autojump_clock):
    source = SourceBlock(range(10))
    sink = ActionBlock(lambda _item: sink.complete(), bounded_capacity=1)
    source.link_to(sink)
    with trio.fail_after(1):
        async with Network() as network:
            network.add(source)
            await sink.completion
            source.link_to(null_target())
    assert sink.statistics().finished == 1
    assert source.statistics().finished == 10


@settings(deadline=None)
@given(
    plan=st.lists(
        st.tuples(st.integers(0, 5), st.booleans(), st.integers(0, 8)), min_size=1, max_size=5
    ),
    capacity=st.integers(1, 3),
    seed=st.random_module(),
)
async def test_a_shared_target_completes_after_all_sources_with_every_item(plan, capacity, seed):
    seen = []

    async def feed(buffer, items, by_send_many, delay):
        for _ in range(delay):
            await trio.lowlevel.checkpoint()
        if by_send_many:
            await buffer.send_many(range(items))
        else:
            for item in range(items):
                await buffer.send(item)
        buffer.complete()

    async def note(item):
        await trio.lowlevel.checkpoint()
        seen.append(item)

    with trio.fail_after(60):
        async with Network() as network:
            sink = network.add(ActionBlock(note, bounded_capacity=capacity))
            buffers = [network.add(BufferBlock(bounded_capacity=capacity)) for _ in plan]
            for buffer in buffers:
                buffer.link_to(sink)
            async with trio.open_nursery() as nursery:
                for buffer, entry in zip(buffers, plan, strict=True):
                    nursery.start_soon(feed, buffer, *entry)
            await sink.completion
    assert len(seen) == sum(items for items, _, _ in plan)
