"""No scheduling step handles more than 64 items of one block; others get their turn."""

from collections import Counter

import pytest
import trio
from trio.abc import Instrument

from flowstore.blocks import (
    ActionBlock,
    BroadcastBlock,
    BufferBlock,
    FanOutBlock,
    Network,
    SourceBlock,
    StreamBlock,
    TransformBlock,
    TransformManyBlock,
    null_target,
    pipe,
)

COUNT = 3000
LIMIT = 64


class Steps(Instrument):
    """Numbers the scheduling steps of the run."""

    def __init__(self):
        self.number = 0

    def before_task_step(self, task):
        self.number += 1


class Watch:
    """Counts the items a block handled in each scheduling step."""

    def __init__(self):
        self.steps = Steps()
        self.handled = Counter()

    def note(self, item):
        self.handled[self.steps.number] += 1
        return item

    async def note_async(self, item):
        return self.note(item)

    def __enter__(self):
        trio.lowlevel.add_instrument(self.steps)
        return self

    def __exit__(self, *_error):
        trio.lowlevel.remove_instrument(self.steps)


async def count_turns(turns):
    while True:
        await trio.lowlevel.checkpoint()
        turns.append(True)


async def watch_beside(network_body):
    """Run a network beside an unrelated task; return the turns that task got."""
    turns = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(count_turns, turns)
        async with Network() as network:
            await network_body(network)
        nursery.cancel_scope.cancel()
    return len(turns)


def assert_fair(watch, turns, items=COUNT):
    assert sum(watch.handled.values()) >= items
    assert max(watch.handled.values()) <= LIMIT
    assert turns >= items // LIMIT - 1


KINDS = pytest.mark.parametrize("kind", ["plain", "async without a checkpoint"])
CAPACITIES = pytest.mark.parametrize("capacity", [1, 2, 100, COUNT])
PARALLELISM = pytest.mark.parametrize("parallelism", [1, 4])


def function_of(watch, kind):
    return watch.note if kind == "plain" else watch.note_async


@KINDS
@PARALLELISM
async def test_an_action_with_a_long_queue_yields(kind, parallelism):
    with Watch() as watch:

        async def body(network):
            sink = ActionBlock(
                function_of(watch, kind),
                bounded_capacity=COUNT,
                max_degree_of_parallelism=parallelism,
            )
            assert all(sink.post(item) for item in range(COUNT))
            network.add(sink)

        turns = await watch_beside(body)
    assert sum(watch.handled.values()) == COUNT
    assert max(watch.handled.values()) <= LIMIT
    assert turns >= COUNT // LIMIT // parallelism - 1


@KINDS
@PARALLELISM
@CAPACITIES
@pytest.mark.parametrize("ordered", [True, False])
async def test_a_hot_chain_of_transforms_yields(kind, parallelism, ordered, capacity):
    with Watch() as first, Watch() as second:

        async def body(network):
            options = {
                "max_degree_of_parallelism": parallelism,
                "ensure_ordered": ordered,
                "bounded_capacity": capacity,
            }
            network.add(
                pipe(
                    SourceBlock(range(COUNT), bounded_capacity=capacity),
                    TransformBlock(function_of(first, kind), **options),
                    TransformBlock(function_of(second, kind), **options),
                    null_target(),
                )
            )

        turns = await watch_beside(body)
    for watch in (first, second):
        assert sum(watch.handled.values()) == COUNT
        assert max(watch.handled.values()) <= LIMIT
    assert turns >= COUNT // LIMIT // parallelism - 1


@CAPACITIES
async def test_a_source_of_an_endless_supply_yields(capacity):
    with Watch() as watch:

        async def body(network):
            source = SourceBlock(map(watch.note, range(COUNT)), bounded_capacity=capacity)
            source.link_to(null_target())
            network.add(source)

        assert_fair(watch, await watch_beside(body))


async def test_a_source_that_fills_its_own_output_yields():
    with Watch() as watch:

        async def body(network):
            source = SourceBlock(map(watch.note, range(COUNT)), bounded_capacity=COUNT)
            network.add(source)
            await network.wait_idle()
            source.link_to(null_target())

        assert_fair(watch, await watch_beside(body))


@CAPACITIES
async def test_an_async_source_without_a_checkpoint_yields(capacity):
    with Watch() as watch:

        async def items():
            for item in range(COUNT):
                yield watch.note(item)

        async def body(network):
            source = SourceBlock(items, bounded_capacity=capacity)
            source.link_to(null_target())
            network.add(source)

        assert_fair(watch, await watch_beside(body))


@KINDS
@CAPACITIES
async def test_a_transform_linked_to_itself_yields(kind, capacity):
    with Watch() as watch:
        remaining = iter(range(COUNT - 1, -1, -1))

        async def body(network):
            loop = network.add(
                TransformBlock(function_of(watch, kind), bounded_capacity=capacity + 1)
            )
            loop.link_to(loop, lambda _item: next(remaining) > 0)
            loop.link_to(null_target())
            await loop.send("round and round")

        assert_fair(watch, await watch_beside(body))


@KINDS
@CAPACITIES
async def test_two_transforms_that_feed_each_other_yield(kind, capacity):
    with Watch() as watch:
        remaining = iter(range(COUNT - 1, -1, -1))

        async def body(network):
            left = TransformBlock(function_of(watch, kind), bounded_capacity=capacity)
            right = TransformBlock(lambda item: item, bounded_capacity=capacity)
            left.link_to(right, lambda _item: next(remaining) > 0)
            left.link_to(null_target())
            right.link_to(left)
            network.add(left)
            await left.send("to and fro")

        assert_fair(watch, await watch_beside(body))


@KINDS
@PARALLELISM
@CAPACITIES
async def test_a_long_iteration_of_a_transform_many_yields(kind, parallelism, capacity):
    with Watch() as watch:

        def outputs(_item):
            return map(watch.note, range(COUNT))

        async def outputs_async(_item):
            for item in range(COUNT):
                yield watch.note(item)

        async def body(network):
            many = TransformManyBlock(
                outputs if kind == "plain" else outputs_async,
                bounded_capacity=capacity,
                max_degree_of_parallelism=parallelism,
            )
            many.link_to(null_target())
            network.add(many)
            await many.send("go")

        assert_fair(watch, await watch_beside(body))


@PARALLELISM
async def test_items_without_outputs_yield_too(parallelism):
    with Watch() as watch:

        def nothing(item):
            watch.note(item)
            return ()

        async def body(network):
            many = TransformManyBlock(
                nothing, bounded_capacity=COUNT, max_degree_of_parallelism=parallelism
            )
            many.link_to(null_target())
            assert all(many.post(item) for item in range(COUNT))
            network.add(many)

        turns = await watch_beside(body)
    assert max(watch.handled.values()) <= LIMIT
    assert turns >= COUNT // LIMIT // parallelism - 1


@KINDS
@PARALLELISM
async def test_handled_errors_yield_too(kind, parallelism):
    with Watch() as watch:

        def fail(item):
            watch.note(item)
            raise ValueError

        async def fail_async(item):
            fail(item)

        async def body(network):
            sink = ActionBlock(
                fail if kind == "plain" else fail_async,
                on_error=lambda _item, _error: None,
                bounded_capacity=COUNT,
                max_degree_of_parallelism=parallelism,
            )
            assert all(sink.post(item) for item in range(COUNT))
            network.add(sink)

        turns = await watch_beside(body)
    assert max(watch.handled.values()) <= LIMIT
    assert turns >= COUNT // LIMIT // parallelism - 1


@PARALLELISM
@pytest.mark.parametrize("keys", [1, 7])
async def test_a_partitioned_action_yields(keys, parallelism):
    with Watch() as watch:

        async def body(network):
            sink = ActionBlock(
                watch.note,
                partition_by=lambda item: item % keys,
                bounded_capacity=COUNT,
                max_degree_of_parallelism=parallelism,
            )
            assert all(sink.post(item) for item in range(COUNT))
            network.add(sink)

        turns = await watch_beside(body)
    assert max(watch.handled.values()) <= LIMIT
    assert turns >= COUNT // LIMIT // parallelism - 1


@KINDS
@CAPACITIES
async def test_a_short_buffer_between_hot_blocks_yields(kind, capacity):
    with Watch() as watch:

        async def body(network):
            network.add(
                pipe(
                    SourceBlock(range(COUNT), bounded_capacity=capacity),
                    BufferBlock(bounded_capacity=capacity),
                    ActionBlock(function_of(watch, kind), bounded_capacity=capacity),
                )
            )

        assert_fair(watch, await watch_beside(body))


@KINDS
@PARALLELISM
@CAPACITIES
async def test_a_partitioned_action_behind_a_source_yields(kind, parallelism, capacity):
    with Watch() as watch:

        async def body(network):
            sink = ActionBlock(
                function_of(watch, kind),
                partition_by=lambda item: item % 3,
                bounded_capacity=capacity,
                max_degree_of_parallelism=parallelism,
            )
            SourceBlock(range(COUNT), bounded_capacity=capacity).link_to(sink)
            network.add(sink)

        turns = await watch_beside(body)
    assert max(watch.handled.values()) <= LIMIT
    assert turns >= COUNT // LIMIT // parallelism - 1


async def test_a_full_buffer_that_is_linked_late_yields():
    with Watch() as watch:

        async def body(network):
            buffer = network.add(BufferBlock(bounded_capacity=COUNT))
            assert all(buffer.post(item) for item in range(COUNT))
            await network.wait_idle()
            buffer.link_to(null_target(), lambda item: watch.note(item) >= 0)

        assert_fair(watch, await watch_beside(body))


async def test_dropping_unmatched_items_yields():
    with Watch() as watch:

        async def body(network):
            buffer = network.add(BufferBlock(bounded_capacity=COUNT))
            buffer.link_to(null_target(), lambda item: watch.note(item) < 0, unmatched="drop")
            await buffer.send_many(range(COUNT))

        assert_fair(watch, await watch_beside(body))


async def test_send_many_of_a_long_list_lets_others_run():
    block = BufferBlock(bounded_capacity=COUNT)
    with Watch() as watch:

        async def body(network):
            network.add(block)
            block.link_to(null_target())
            await block.send_many(map(watch.note, range(COUNT)))

        turns = await watch_beside(body)
    assert sum(watch.handled.values()) == COUNT
    assert turns >= 1


async def test_a_stream_with_a_long_queue_yields():
    with Watch() as watch:

        async def note_each(items):
            async for item in items:
                yield watch.note(item)

        async def body(network):
            stream = StreamBlock(note_each, bounded_capacity=COUNT)
            assert all(stream.post(item) for item in range(COUNT))
            network.add(pipe(stream, null_target()))

        assert_fair(watch, await watch_beside(body))


async def test_a_stream_that_makes_many_outputs_of_one_input_yields():
    with Watch() as watch:

        async def count_up(items):
            async for item in items:
                for number in range(item):
                    yield watch.note(number)

        async def body(network):
            stream = StreamBlock(count_up, bounded_capacity=COUNT)
            assert stream.post(COUNT)
            network.add(pipe(stream, null_target()))

        assert_fair(watch, await watch_beside(body))


async def test_a_full_fan_out_that_is_linked_late_hands_over_by_and_by():
    with Watch() as watch:

        async def body(network):
            fan_out = network.add(FanOutBlock(watch.note, bounded_capacity=COUNT))
            assert all(fan_out.post(item) for item in range(COUNT))
            await network.wait_idle()
            fan_out.link_to(null_target())

        assert_fair(watch, await watch_beside(body))


async def test_a_full_fan_out_that_is_linked_late_asks_its_predicates_by_and_by():
    with Watch() as watch:

        async def body(network):
            fan_out = network.add(FanOutBlock(bounded_capacity=COUNT))
            assert all(fan_out.post(item) for item in range(COUNT))
            await network.wait_idle()
            fan_out.link_to(null_target(), lambda item: watch.note(item) >= 0)

        assert_fair(watch, await watch_beside(body))


async def test_a_broadcast_of_many_values_yields():
    with Watch() as watch:

        async def body(network):
            broadcast = BroadcastBlock(watch.note, bounded_capacity=COUNT)
            broadcast.link_to(null_target())
            assert all(broadcast.post(item) for item in range(COUNT))
            network.add(broadcast)
            await network.wait_idle()

        assert_fair(watch, await watch_beside(body))
