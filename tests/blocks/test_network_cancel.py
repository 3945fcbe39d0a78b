"""`Network.cancel` ends the body and every block, without an error."""

import inspect
import itertools

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from flowstore.blocks import (
    ActionBlock,
    BlockClosedError,
    BlockState,
    BufferBlock,
    Network,
    SourceBlock,
    TransformBlock,
    TransformManyBlock,
    null_target,
    pipe,
    run,
)

GUARD = 200_000  # a hot loop that isn't stopped gives up by itself here


async def test_cancel_is_synchronous():
    async with Network() as network:
        assert not inspect.isawaitable(network.cancel())


async def test_cancel_ends_the_body_without_an_error():
    reached = []
    async with Network() as network:
        network.cancel()
        await trio.sleep_forever()
        reached.append(True)
    assert reached == []


async def test_cancel_is_idempotent():
    async with Network() as network:
        block = network.add(BufferBlock())
        network.cancel()
        network.cancel()
    network.cancel()
    assert block.state is BlockState.CANCELLED


async def test_cancel_after_the_end_changes_nothing():
    async with Network() as network:
        block = network.add(ActionBlock(str))
    network.cancel()
    assert block.state is BlockState.COMPLETED


async def test_blocks_end_cancelled_even_if_the_body_returns_at_once():
    seen = []
    blocks = ActionBlock(seen.append), TransformBlock(str), BufferBlock(), SourceBlock([1, 2])
    blocks[0].post(1)
    async with Network() as network:
        network.add(*blocks)
        network.cancel()
    assert [block.state for block in blocks] == [BlockState.CANCELLED] * 4


async def test_cancel_from_inside_a_function_ends_the_network():
    seen = []
    async with Network() as network:

        def stop(item):
            seen.append(item)
            network.cancel()

        sink = network.add(ActionBlock(stop))
        await sink.send_many(range(10))
        await trio.sleep_forever()
    assert seen[0] == 0
    assert sink.state is BlockState.CANCELLED


async def test_a_cancelled_block_refuses_items_and_says_so_without_a_cause():
    async with Network() as network:
        block = network.add(BufferBlock())
        network.cancel()
    assert block.post(1) is False
    for wait in (lambda: block.send(1), lambda: block.send_many([1]), block.receive):
        with pytest.raises(BlockClosedError) as caught:
            await wait()
        assert caught.value.__cause__ is None


async def test_waiters_outside_are_settled_by_cancel():
    settled = []
    full, empty = BufferBlock(bounded_capacity=1), BufferBlock()

    async def settle(name, wait, *args):
        with pytest.raises(BlockClosedError) as caught:
            await wait(*args)
        settled.append((name, caught.value.__cause__))

    async def completion(block):
        await block.completion

    async with trio.open_nursery() as nursery, Network() as network:
        network.add(full, empty)
        assert full.post(1)
        nursery.start_soon(settle, "send", full.send, 2)
        nursery.start_soon(settle, "send_many", full.send_many, [3, 4])
        nursery.start_soon(settle, "receive", empty.receive)
        nursery.start_soon(settle, "output_available", empty.output_available)
        nursery.start_soon(settle, "completion", completion, full)
        await wait_all_tasks_blocked()
        network.cancel()
    assert sorted(settled) == [
        ("completion", None),
        ("output_available", None),
        ("receive", None),
        ("send", None),
        ("send_many", None),
    ]


@pytest.mark.parametrize("kind", ["plain", "async without a checkpoint"])
@pytest.mark.parametrize("capacity", [2, 128])
async def test_cancel_stops_a_transform_linked_to_itself(kind, capacity):
    calls = itertools.count()
    stopped_at = []

    def spin(item):
        if next(calls) > GUARD:
            raise AssertionError("the loop was not stopped")
        return item

    async def spin_async(item):
        return spin(item)

    async with Network() as network:
        loop = network.add(
            TransformBlock(spin if kind == "plain" else spin_async, bounded_capacity=capacity)
        )
        loop.link_to(loop)
        assert loop.post("a")
        for _ in range(20):
            await trio.lowlevel.checkpoint()
        network.cancel()
        stopped_at.append(next(calls))
    assert next(calls) - stopped_at[0] <= 64 + 1
    assert loop.state is BlockState.CANCELLED


@pytest.mark.parametrize("kind", ["plain", "async without a checkpoint"])
@pytest.mark.parametrize("parallelism", [1, 4])
async def test_cancel_is_seen_within_64_items_of_a_hot_loop(kind, parallelism):
    calls = 0
    called_when_cancelled = 0

    def work(_item):
        nonlocal calls, called_when_cancelled
        calls += 1
        if calls == 1000:
            called_when_cancelled = calls
            network.cancel()

    async def work_async(item):
        work(item)

    async with Network() as network:
        sink = ActionBlock(
            work if kind == "plain" else work_async,
            bounded_capacity=GUARD,
            max_degree_of_parallelism=parallelism,
        )
        for item in range(5000):
            assert sink.post(item)
        network.add(sink)
        await trio.sleep_forever()
    assert called_when_cancelled == 1000
    assert calls - called_when_cancelled <= 64 * parallelism
    assert sink.state is BlockState.CANCELLED


@pytest.mark.parametrize("kind", ["plain", "async without a checkpoint"])
@pytest.mark.parametrize("capacity", [1, 2, 128])
async def test_cancel_stops_an_endless_source_into_a_null_target(kind, capacity):
    pulled = 0

    def endless():
        nonlocal pulled
        while pulled < GUARD:
            pulled += 1
            yield pulled
        raise AssertionError("the source was not stopped")

    async def endless_async():
        for item in endless():
            yield item

    async with Network() as network:
        source = network.add(
            SourceBlock(endless if kind == "plain" else endless_async, bounded_capacity=capacity)
        )
        source.link_to(null_target())
        await trio.lowlevel.checkpoint()
        network.cancel()
    assert source.state is BlockState.CANCELLED


@pytest.mark.parametrize("kind", ["plain", "async without a checkpoint"])
@pytest.mark.parametrize("capacity", [1, 2, 128])
async def test_cancel_stops_an_endless_iteration_of_a_transform_many(kind, capacity):
    pulled = 0

    def endless(_item):
        nonlocal pulled
        while pulled < GUARD:
            pulled += 1
            yield pulled
        raise AssertionError("the iteration was not stopped")

    async def endless_async(_item):
        for output in endless(None):
            yield output

    async with Network() as network:
        many = network.add(
            TransformManyBlock(
                endless if kind == "plain" else endless_async, bounded_capacity=capacity
            )
        )
        many.link_to(null_target())
        assert many.post(1)
        for _ in range(5):
            await trio.lowlevel.checkpoint()
        network.cancel()
    assert many.state is BlockState.CANCELLED


async def test_cancelling_the_scope_around_run_stops_a_hot_pipeline():
    pulled = 0
    scope = trio.CancelScope()

    def endless():
        nonlocal pulled
        while pulled < GUARD:
            pulled += 1
            if pulled == 10_000:
                scope.cancel()
            yield pulled
        raise AssertionError("the pipeline was not stopped")

    with scope:
        await run(SourceBlock(endless), TransformBlock(str), ActionBlock(len))
    assert scope.cancelled_caught
    assert pulled < GUARD


async def test_cancel_never_counts_as_success_for_the_targets_of_a_cancelled_source():
    source, sink = SourceBlock(range(GUARD)), ActionBlock(str)
    async with Network() as network:
        network.add(pipe(source, sink))
        await trio.lowlevel.checkpoint()
        network.cancel()
    assert source.state is BlockState.CANCELLED
    assert sink.state is BlockState.CANCELLED


@pytest.mark.parametrize("verb", ["send", "send_many", "receive", "output_available", "completion"])
async def test_a_body_that_waits_for_a_block_when_it_is_cancelled_leaves_without_an_error(verb):
    async with Network() as network:
        empty, full = network.add(BufferBlock(), BufferBlock(bounded_capacity=1))
        assert full.post(1)
        waits = {
            "send": lambda: full.send(2),
            "send_many": lambda: full.send_many([2, 3]),
            "receive": empty.receive,
            "output_available": empty.output_available,
            "completion": lambda: empty.completion,
        }
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(cancel_once_all_wait, network)
                await waits[verb]()


async def cancel_once_all_wait(network):
    await wait_all_tasks_blocked()
    network.cancel()
