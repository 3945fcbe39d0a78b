"""Leaving the body of a network normally drains it."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from flowstore.blocks import (
    ActionBlock,
    BlockState,
    BufferBlock,
    Network,
    SourceBlock,
    StalledNetworkError,
    TransformBlock,
    TransformManyBlock,
    null_target,
    pipe,
    run,
)


async def test_an_empty_network_is_left_at_once(autojump_clock):
    with trio.fail_after(1):
        async with Network():
            pass


async def test_a_network_of_blocks_without_items_is_left_at_once(autojump_clock):
    blocks = (TransformBlock(str), TransformManyBlock(list), ActionBlock(str))
    with trio.fail_after(1):
        async with Network() as network:
            network.add(*blocks)
    assert [block.state for block in blocks] == [BlockState.COMPLETED] * 3


@pytest.mark.parametrize("parallelism", [1, 4])
async def test_draining_processes_every_accepted_item(parallelism, autojump_clock):
    seen = []

    async def slow(item):
        await trio.sleep(item)
        seen.append(item)

    with trio.fail_after(1000):
        async with Network() as network:
            sink = network.add(ActionBlock(slow, max_degree_of_parallelism=parallelism))
            await sink.send_many(range(20))
    assert sorted(seen) == list(range(20))
    assert sink.state is BlockState.COMPLETED


async def test_draining_completes_only_the_heads_and_lets_completion_travel(autojump_clock):
    seen = []
    first = TransformBlock(lambda item: item + 1, bounded_capacity=1)
    second = TransformBlock(lambda item: item * 10, bounded_capacity=1)
    third = ActionBlock(seen.append, bounded_capacity=1)
    with trio.fail_after(1):
        async with Network() as network:
            network.add(pipe(first, second, third))
            await first.send_many(range(5))
    assert seen == [10, 20, 30, 40, 50]
    assert {first.state, second.state, third.state} == {BlockState.COMPLETED}


async def test_draining_lets_a_source_run_to_the_end_of_its_items(autojump_clock):
    seen = []

    async def ticks():
        for tick in range(50):
            await trio.sleep(1)
            yield tick

    with trio.fail_after(100):
        async with Network() as network:
            network.add(pipe(SourceBlock(ticks), ActionBlock(seen.append)))
    assert seen == list(range(50))


async def test_draining_keeps_a_target_open_while_its_source_still_runs(autojump_clock):
    seen = []

    async def late():
        await trio.sleep(5)
        yield "from the source"

    sink = ActionBlock(seen.append)
    async with trio.open_nursery() as nursery:

        async def post_during_the_drain():
            await trio.sleep(2)
            assert sink.post("from outside")

        nursery.start_soon(post_during_the_drain)
        async with Network() as network:
            network.add(pipe(SourceBlock(late), sink))
    assert seen == ["from outside", "from the source"]


async def test_a_drained_head_accepts_nothing_more(autojump_clock):
    gate = trio.Event()
    posted = []

    async def hold(_item):
        await gate.wait()

    sink = ActionBlock(hold)

    async def post_during_the_drain():
        await trio.sleep(1)
        posted.append(sink.post("late"))
        gate.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(post_during_the_drain)
        async with Network() as network:
            network.add(sink)
            assert sink.post("early")
    assert posted == [False]
    assert sink.statistics().finished == 1


async def test_a_block_that_loses_its_last_link_during_the_drain_becomes_a_head(autojump_clock):
    gate = trio.Event()
    seen = []

    async def hold(item):
        await gate.wait()
        return item

    first, second = TransformBlock(hold), ActionBlock(seen.append)

    with trio.fail_after(100):
        async with trio.open_nursery() as nursery:

            async def unlink_during_the_drain():
                await trio.sleep(1)
                link.close()
                first.link_to(null_target())
                await second.completion
                gate.set()

            async with Network() as network:
                network.add(first)
                link = first.link_to(second)
                assert first.post(1)
                nursery.start_soon(unlink_during_the_drain)
    assert seen == []
    assert second.state is BlockState.COMPLETED


async def test_a_target_linked_without_propagation_is_drained_after_its_source(autojump_clock):
    seen = []
    first = TransformBlock(str)
    second = ActionBlock(seen.append)
    first.link_to(second, propagate_completion=False)
    with trio.fail_after(1):
        async with Network() as network:
            network.add(first)
            await first.send_many(range(3))
    assert seen == ["0", "1", "2"]
    assert second.state is BlockState.COMPLETED


async def test_completing_an_endless_source_ends_the_drain(autojump_clock):
    seen = []
    source = SourceBlock(range(1_000_000))

    def stop_at_500(item):
        seen.append(item)
        if item == 500:
            source.complete()

    with trio.fail_after(1):
        async with Network() as network:
            network.add(pipe(source, ActionBlock(stop_at_500, bounded_capacity=3)))
    assert seen == list(range(len(seen)))
    assert len(seen) > 500
    assert source.statistics().accepted == len(seen)


async def test_cancelling_the_network_ends_a_drain_of_an_endless_source(autojump_clock):
    source = SourceBlock(range(1_000_000))
    with trio.fail_after(1):
        async with Network() as network:

            def stop_at_500(item):
                if item == 500:
                    network.cancel()

            network.add(pipe(source, ActionBlock(stop_at_500)))
    assert source.state is BlockState.CANCELLED


@pytest.mark.parametrize("parallelism", [1, 3])
async def test_a_block_linked_to_itself_is_completed_once_idle(parallelism, autojump_clock):
    seen = []
    count_down = TransformBlock(lambda item: item - 1, max_degree_of_parallelism=parallelism)
    count_down.link_to(count_down, lambda item: item > 0)
    count_down.link_to(ActionBlock(seen.append))
    with trio.fail_after(1):
        async with Network() as network:
            network.add(count_down)
            await count_down.send_many([5, 1, 200])
    assert seen == [0, 0, 0]
    assert count_down.state is BlockState.COMPLETED


async def test_a_cycle_of_two_blocks_fed_by_a_head_is_completed_once_idle(autojump_clock):
    seen = []

    async def halve(item):
        await trio.sleep(1)
        return item // 2

    head = TransformBlock(int)
    left = TransformBlock(halve)
    right = TransformBlock(lambda item: item)
    out = ActionBlock(seen.append)
    head.link_to(left)
    left.link_to(right, lambda item: item > 0)
    left.link_to(out)
    right.link_to(left)
    with trio.fail_after(1000):
        async with Network() as network:
            network.add(head)
            await head.send_many(["64", "3", "1"])
    assert seen == [0, 0, 0]
    assert {block.state for block in (head, left, right, out)} == {BlockState.COMPLETED}


async def test_a_cycle_whose_items_wait_for_a_reader_outside_is_not_completed_yet():
    gate, seen = trio.Event(), []
    count_down = TransformBlock(lambda item: item - 1)
    out = BufferBlock(bounded_capacity=1)
    count_down.link_to(out, lambda item: item == 0)
    count_down.link_to(count_down, lambda item: item > 0)

    async def read():
        async for item in out:
            seen.append(item)
            await gate.wait()

    async with trio.open_nursery() as nursery, Network() as network:
        network.add(count_down)
        nursery.start_soon(read)
        assert [count_down.post(item) for item in (1, 1, 1, 3)] == [True] * 4
        nursery.start_soon(open_once_all_wait, gate)
    assert seen == [0, 0, 0, 0]
    assert count_down.state is BlockState.COMPLETED


async def open_once_all_wait(gate):
    await wait_all_tasks_blocked()
    gate.set()


async def test_unread_output_without_a_link_or_a_receiver_stalls_the_drain(autojump_clock):
    lonely = TransformBlock(str, name="lonely")
    with (
        trio.fail_after(1),
        pytest.RaisesGroup(pytest.RaisesExc(StalledNetworkError, match="lonely")),
    ):
        async with Network() as network:
            network.add(lonely)
            await lonely.send_many(range(3))


async def test_output_read_by_a_task_outside_does_not_stall_the_drain(autojump_clock):
    got = []
    buffer = BufferBlock(bounded_capacity=2)

    async def read():
        async for item in buffer:
            await trio.sleep(1)
            got.append(item)

    with trio.fail_after(100):
        async with trio.open_nursery() as nursery, Network() as network:
            network.add(buffer)
            nursery.start_soon(read)
            await buffer.send_many(range(10))
    assert got == list(range(10))


async def test_run_pipes_its_blocks_and_returns_none_at_their_end(autojump_clock):
    seen = []
    with trio.fail_after(1):
        result = await run(
            SourceBlock(range(300)), TransformBlock(lambda item: -item), ActionBlock(seen.append)
        )
    assert result is None
    assert seen == [-item for item in range(300)]


async def test_run_accepts_a_single_block(autojump_clock):
    sink = ActionBlock(str)
    with trio.fail_after(1):
        await run(sink)
    assert sink.state is BlockState.COMPLETED


async def test_an_empty_source_completes_every_block_behind_it(autojump_clock):
    seen = []
    blocks = SourceBlock([]), TransformBlock(str), ActionBlock(seen.append)
    with trio.fail_after(1):
        await run(*blocks)
    assert seen == []
    assert [block.state for block in blocks] == [BlockState.COMPLETED] * 3


async def test_a_block_linked_by_a_running_function_during_the_drain_is_drained_too(autojump_clock):
    seen = []
    late = ActionBlock(seen.append)
    first = TransformBlock(str)

    def link_late(_item):
        first.link_to(late)

    with trio.fail_after(1):
        async with Network() as network:
            network.add(first)
            helper = network.add(ActionBlock(link_late))
            assert first.post(7)
            await wait_all_tasks_blocked()
            assert helper.post(None)
    assert seen == ["7"]
    assert late.state is BlockState.COMPLETED
