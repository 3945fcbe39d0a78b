"""StalledNetworkError: output that can go nowhere after the body has returned."""

import math

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from flowstore.blocks import (
    ActionBlock,
    BatchBlock,
    BlockClosedError,
    BlockState,
    BufferBlock,
    FanOutBlock,
    JoinBlock,
    Network,
    SourceBlock,
    StalledNetworkError,
    StreamBlock,
    TransformBlock,
    TransformManyBlock,
    WriteOnceBlock,
    choose,
    null_target,
)

# A hang is the failure here: every test that expects or excludes a stall has a (virtual) deadline.
DEADLINE = 1_000


async def unchanged(items):
    async for item in items:
        yield item


@pytest.mark.parametrize(
    "make",
    [
        BufferBlock,
        FanOutBlock,
        lambda: TransformBlock(str),
        lambda: TransformManyBlock(lambda item: [item]),
        lambda: StreamBlock(unchanged),
        lambda: BatchBlock(2),
    ],
    ids=["buffer", "fan-out", "transform", "transform-many", "stream", "batch"],
)
async def test_output_with_no_link_and_no_receiver_is_a_stall(autojump_clock, make):
    with trio.fail_after(DEADLINE), pytest.RaisesGroup(StalledNetworkError):
        async with Network() as network:
            block = network.add(make())
            block.post(1)
    assert block.state is BlockState.CANCELLED


async def test_the_error_names_the_block_its_counts_and_its_state(autojump_clock):
    with trio.fail_after(DEADLINE), pytest.RaisesGroup(StalledNetworkError) as caught:
        async with Network() as network:
            block = network.add(BufferBlock(name="forgotten shelf"))
            for item in range(37):
                block.post(item)
    message = str(caught.value.exceptions[0])
    assert "forgotten shelf" in message
    assert "37" in message
    assert "draining" in message.lower()


async def test_a_source_nobody_is_linked_to_is_a_stall(autojump_clock):
    with trio.fail_after(DEADLINE), pytest.RaisesGroup(StalledNetworkError):
        async with Network() as network:
            network.add(SourceBlock([1]))


async def test_unread_tuples_of_a_join_are_a_stall(autojump_clock):
    with trio.fail_after(DEADLINE), pytest.RaisesGroup(StalledNetworkError):
        async with Network() as network:
            join = network.add(JoinBlock())
            for side in join.targets:
                side.post(1)


async def test_a_stall_behind_a_chain_stops_the_chain(autojump_clock):
    with trio.fail_after(DEADLINE), pytest.RaisesGroup(StalledNetworkError):
        async with Network() as network:
            source = network.add(SourceBlock(iter(int, 1)))
            source.link_to(BufferBlock(bounded_capacity=3, name="end"))
    assert source.state is BlockState.CANCELLED


async def test_it_raises_only_after_the_body_has_returned(autojump_clock):
    with trio.fail_after(DEADLINE):
        async with Network() as network:
            block = network.add(BufferBlock())
            block.post("item")
            await trio.sleep(100)
            assert block.state is BlockState.OPEN
            assert block.try_receive() == "item"


async def test_an_empty_unlinked_block_is_no_stall(autojump_clock):
    with trio.fail_after(DEADLINE):
        async with Network() as network:
            block = network.add(BufferBlock())
    assert block.state is BlockState.COMPLETED


async def test_a_block_the_body_has_emptied_is_no_stall(autojump_clock):
    with trio.fail_after(DEADLINE):
        async with Network() as network:
            block = network.add(BufferBlock())
            block.post("item")
            await block.receive()
    assert block.state is BlockState.COMPLETED


async def test_a_link_to_the_null_target_is_no_stall(autojump_clock):
    with trio.fail_after(DEADLINE):
        async with Network() as network:
            block = network.add(BufferBlock())
            block.link_to(null_target())
            block.post("item")
    assert block.state is BlockState.COMPLETED


async def test_cancellation_is_no_stall(autojump_clock):
    with trio.fail_after(DEADLINE):
        async with Network() as network:
            block = network.add(BufferBlock())
            block.post("item")
            network.cancel()
    assert block.state is BlockState.CANCELLED


async def test_a_body_that_raises_reports_its_error_and_no_stall(autojump_clock):
    with trio.fail_after(DEADLINE), pytest.RaisesGroup(ZeroDivisionError):
        async with Network() as network:
            network.add(BufferBlock()).post("item")
            raise ZeroDivisionError


async def test_a_value_of_a_write_once_block_is_no_stall(autojump_clock):
    with trio.fail_after(DEADLINE):
        async with Network() as network:
            network.add(WriteOnceBlock()).post("value")


async def test_leftovers_of_a_join_are_no_stall(autojump_clock):
    with trio.fail_after(DEADLINE):
        async with Network() as network:
            join = network.add(JoinBlock())
            join.targets[0].post(1)
    assert join.statistics().discarded == 1


async def test_a_full_target_that_is_still_working_is_no_stall(autojump_clock):
    seen = []

    async def crawl(item):
        await trio.sleep(10)
        seen.append(item)

    with trio.fail_after(DEADLINE):
        async with Network() as network:
            block = network.add(BufferBlock())
            block.link_to(ActionBlock(crawl, bounded_capacity=1))
            for item in range(5):
                block.post(item)
    assert seen == [0, 1, 2, 3, 4]


async def test_a_worker_that_will_link_the_block_is_no_stall(autojump_clock):
    async with Network() as network:
        block = network.add(BufferBlock())

        async def link_later(item):
            await trio.sleep(10)
            block.link_to(null_target())

        worker = network.add(ActionBlock(link_later))
        block.post("item")
        worker.post("go")
    assert block.state is BlockState.COMPLETED


async def test_a_worker_that_will_receive_is_no_stall(autojump_clock):
    received = []
    async with Network() as network:
        block = network.add(BufferBlock())

        async def receive_later(item):
            await trio.sleep(10)
            received.append(await block.receive())

        worker = network.add(ActionBlock(receive_later))
        block.post("item")
        worker.post("go")
    assert received == ["item"]


async def test_a_source_that_will_link_the_block_is_no_stall(autojump_clock):
    async with Network() as network:
        block = network.add(BufferBlock())

        async def items():
            await trio.sleep(10)
            block.link_to(null_target())
            yield "item"

        source = network.add(SourceBlock(items))
        source.link_to(null_target())
        block.post("item")
    assert block.state is BlockState.COMPLETED


async def test_a_timer_that_will_move_things_on_is_no_stall(autojump_clock):
    seen = []

    async def items():
        yield 1
        await trio.sleep(100)

    with trio.fail_after(DEADLINE):
        async with Network() as network:
            source = network.add(SourceBlock(items()))
            batches = BatchBlock(10, max_age=5)
            source.link_to(batches)
            batches.link_to(ActionBlock(seen.append))
    assert seen == [(1,)]


async def test_a_batch_in_a_cycle_that_will_leave_by_its_age_is_no_stall(autojump_clock):
    seen = []
    with trio.fail_after(DEADLINE):
        async with Network() as network:
            batches = network.add(BatchBlock(10, max_age=5))
            again = TransformManyBlock(lambda batch: [item - 1 for item in batch])
            batches.link_to(again)
            again.link_to(batches, lambda item: item > 0)
            again.link_to(ActionBlock(seen.append))
            await batches.send(3)
    assert seen == [0]


@pytest.mark.parametrize("verb", ["receive", "output_available", "choose", "async for"])
async def test_a_task_that_waits_to_receive_is_no_stall(autojump_clock, verb):
    """The reader is there before the output, and the output comes after the body has returned."""
    received = []

    async def reader(block):
        if verb == "receive":
            received.append(await block.receive())
        elif verb == "choose":
            received.append((await choose(block))[1])
        elif verb == "output_available":
            assert await block.output_available()
            received.append(block.try_receive())
        else:
            received.extend([item async for item in block])

    async def late():
        await trio.sleep(10)
        yield "item"

    with trio.fail_after(DEADLINE):
        async with trio.open_nursery() as nursery, Network() as network:
            source = network.add(SourceBlock(late()))
            buffer = BufferBlock()
            source.link_to(buffer)
            nursery.start_soon(reader, buffer)
            await wait_all_tasks_blocked()
    assert received == ["item"]


async def test_a_loop_over_the_block_counts_as_receiver_between_its_items(autojump_clock):
    received = []

    async def reader(block):
        async for item in block:
            await trio.sleep(10)
            received.append(item)

    with trio.fail_after(DEADLINE):
        async with trio.open_nursery() as nursery, Network() as network:
            block = network.add(BufferBlock())
            for item in range(3):
                block.post(item)
            nursery.start_soon(reader, block)
            await wait_all_tasks_blocked()
    assert received == [0, 1, 2]


async def test_a_loop_that_was_left_and_closed_is_no_receiver_any_more(autojump_clock):
    async def reader(block):
        loop = aiter(block)
        assert await anext(loop) == 0
        if hasattr(loop, "aclose"):
            await loop.aclose()
        await trio.sleep(DEADLINE)

    with trio.fail_after(DEADLINE - 1):
        async with trio.open_nursery() as nursery:
            with pytest.RaisesGroup(StalledNetworkError):
                async with Network() as network:
                    block = network.add(BufferBlock())
                    for item in range(2):
                        block.post(item)
                    nursery.start_soon(reader, block)
                    await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()


async def test_a_receiver_that_took_one_item_and_left_does_not_prevent_the_stall(autojump_clock):
    received = []

    async def reader(block):
        received.append(await block.receive())

    with trio.fail_after(DEADLINE):
        async with trio.open_nursery() as nursery:
            with pytest.RaisesGroup(StalledNetworkError):
                async with Network() as network:
                    block = network.add(BufferBlock())
                    nursery.start_soon(reader, block)
                    await wait_all_tasks_blocked()
                    for item in range(2):
                        block.post(item)
    assert received == [0]


async def test_a_receiver_that_gives_up_leaves_a_stall_behind(autojump_clock):
    async def reader(block, first):
        assert await first.receive() == "item"
        with trio.move_on_after(10):
            await choose(first, block)

    async def late():
        await trio.sleep(20)
        yield "late"

    with trio.fail_after(DEADLINE):
        async with trio.open_nursery() as nursery:
            with pytest.RaisesGroup(StalledNetworkError):
                async with Network() as network:
                    source, first = network.add(SourceBlock(late()), BufferBlock())
                    block = BufferBlock()
                    source.link_to(block)
                    first.post("item")
                    nursery.start_soon(reader, block, first)
                    await wait_all_tasks_blocked()


async def test_a_receiver_of_another_block_does_not_prevent_the_stall(autojump_clock):
    async def reader(block):
        assert [item async for item in block] == []

    with trio.fail_after(DEADLINE):
        async with trio.open_nursery() as nursery:
            with pytest.RaisesGroup(StalledNetworkError):
                async with Network() as network:
                    read, unread = network.add(BufferBlock(), BufferBlock())
                    unread.post("item")
                    nursery.start_soon(reader, read)
                    await wait_all_tasks_blocked()


async def test_a_held_item_that_no_predicate_takes_is_a_stall(autojump_clock):
    with trio.fail_after(DEADLINE), pytest.RaisesGroup(StalledNetworkError):
        async with Network() as network:
            block = network.add(BufferBlock())
            block.link_to(ActionBlock(lambda _: None), lambda _: False, unmatched="hold")
            block.post("item")


@pytest.mark.parametrize(
    "make",
    [WriteOnceBlock, lambda: BatchBlock(1, max_number_of_groups=1)],
    ids=["write-once", "one batch"],
)
async def test_a_source_whose_only_target_ended_early_is_a_stall(autojump_clock, make):
    with trio.fail_after(DEADLINE), pytest.RaisesGroup(StalledNetworkError):
        async with Network() as network:
            source = network.add(SourceBlock(range(10)))
            target = make()
            source.link_to(target)
            network.add(target)
            assert await target.receive() in (0, (0,))


async def test_a_source_whose_partner_in_a_join_ended_first_is_a_stall(autojump_clock):
    pairs = []
    with trio.fail_after(DEADLINE), pytest.RaisesGroup(StalledNetworkError):
        async with Network() as network:
            long, short = network.add(SourceBlock(range(10)), SourceBlock(range(2)))
            join = JoinBlock(bounded_capacity=1)
            long.link_to(join.targets[0])
            short.link_to(join.targets[1])
            join.link_to(ActionBlock(pairs.append))
    assert pairs == [(0, 0), (1, 1)]


@pytest.mark.parametrize("count", [10, math.inf], ids=["finite", "endless"])
async def test_a_source_whose_only_target_was_completed_is_a_stall(autojump_clock, count):
    items = range(count) if count is not math.inf else iter(int, 1)
    with trio.fail_after(DEADLINE), pytest.RaisesGroup(StalledNetworkError):
        async with Network() as network:
            source = SourceBlock(items)
            sink = ActionBlock(lambda _: sink.complete(), bounded_capacity=1)
            source.link_to(sink)
            network.add(source)


async def test_a_source_that_may_also_flow_elsewhere_is_no_stall(autojump_clock):
    with trio.fail_after(DEADLINE):
        async with Network() as network:
            source = network.add(SourceBlock(range(10)))
            once = WriteOnceBlock()
            source.link_to(once)
            source.link_to(null_target())
    assert source.state is BlockState.COMPLETED


async def test_a_receiver_outside_keeps_every_item_of_a_long_drain(autojump_clock):
    received = []

    async def reader(block):
        received.extend([item async for item in block])

    with trio.fail_after(DEADLINE):
        async with trio.open_nursery() as nursery, Network() as network:
            source = network.add(SourceBlock(range(1_000)))
            buffer = BufferBlock(bounded_capacity=2)
            source.link_to(buffer)
            nursery.start_soon(reader, buffer)
            await wait_all_tasks_blocked()
    assert received == list(range(1_000))


async def forget(*names):
    async with Network() as network:
        for name in names:
            network.add(BufferBlock(name=name)).post("item")


async def test_several_stalled_blocks_leave_nothing_but_stalls(autojump_clock):
    with trio.fail_after(DEADLINE), pytest.raises(ExceptionGroup) as caught:
        await forget("left behind", "also forgotten")
    errors = caught.value.exceptions
    assert all(isinstance(error, StalledNetworkError) for error in errors)
    message = "\n".join(map(str, errors))
    assert "left behind" in message or "also forgotten" in message


async def test_a_waiting_sender_does_not_prevent_the_stall_and_is_told(autojump_clock):
    told = []

    async def sender(block):
        try:
            await block.send("too much")
        except BlockClosedError:
            told.append("closed")

    with trio.fail_after(DEADLINE):
        async with trio.open_nursery() as nursery:
            with pytest.RaisesGroup(StalledNetworkError):
                async with Network() as network:
                    block = network.add(BufferBlock(bounded_capacity=1))
                    block.post("item")
                    nursery.start_soon(sender, block)
                    await wait_all_tasks_blocked()
    assert told == ["closed"]


async def test_a_target_at_work_in_another_network_is_no_stall(autojump_clock):
    seen = []

    async def crawl(item):
        await trio.sleep(10)
        seen.append(item)

    with trio.fail_after(DEADLINE):
        async with Network() as outer:
            sink = outer.add(ActionBlock(crawl, bounded_capacity=1))
            async with Network() as inner:
                block = inner.add(BufferBlock())
                block.link_to(sink)
                for item in range(3):
                    block.post(item)
    assert seen == [0, 1, 2]
