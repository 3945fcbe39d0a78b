"""`SourceBlock` feeds a network, and pulls only while its output has room."""

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
    Network,
    SourceBlock,
    null_target,
    pipe,
    run,
)


async def async_items():
    for item in range(5):
        await trio.lowlevel.checkpoint()
        yield item


def generator():
    yield from range(5)


class AsyncIterable:
    def __aiter__(self):
        return async_items()


class CallableList(list):
    def __call__(self):
        raise AssertionError("an iterable is iterated, not called")


class CallableAsyncIterable(AsyncIterable):
    def __call__(self):
        raise AssertionError("an async iterable is iterated, not called")


@pytest.mark.parametrize("capacity", [1, 2, 128])
@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: range(5), id="range"),
        pytest.param(lambda: [0, 1, 2, 3, 4], id="list"),
        pytest.param(generator, id="generator"),
        pytest.param(lambda: generator, id="generator function"),
        pytest.param(lambda: lambda: [0, 1, 2, 3, 4], id="function returning a list"),
        pytest.param(async_items, id="async generator"),
        pytest.param(lambda: async_items, id="async generator function"),
        pytest.param(AsyncIterable, id="async iterable"),
        pytest.param(lambda: AsyncIterable, id="function returning an async iterable"),
        pytest.param(lambda: CallableList(range(5)), id="callable iterable"),
        pytest.param(CallableAsyncIterable, id="callable async iterable"),
    ],
)
async def test_every_kind_of_items_arrives_in_order(make, capacity):
    seen = []
    source = SourceBlock(make(), bounded_capacity=capacity)
    await run(source, ActionBlock(seen.append))
    assert seen == [0, 1, 2, 3, 4]
    assert source.state is BlockState.COMPLETED
    assert source.statistics().finished == 5


@pytest.mark.parametrize("items", [[], lambda: iter(()), lambda: ()])
async def test_a_source_of_nothing_completes(items):
    seen = []
    source = SourceBlock(items)
    await run(source, ActionBlock(seen.append))
    assert seen == []
    assert source.state is BlockState.COMPLETED


@pytest.mark.parametrize("capacity", [1, 3])
@pytest.mark.parametrize("kind", ["plain", "async"])
async def test_a_source_pulls_only_while_its_output_has_room(kind, capacity):
    pulled = []

    def plain():
        for item in range(10):
            pulled.append(item)
            yield item

    async def from_async():
        for item in plain():
            yield item

    async with Network() as network:
        source = network.add(
            SourceBlock(plain if kind == "plain" else from_async, bounded_capacity=capacity)
        )
        await wait_all_tasks_blocked()
        assert len(pulled) == capacity
        assert await source.receive() == 0
        await wait_all_tasks_blocked()
        assert len(pulled) == capacity + 1
        assert [item async for item in source] == list(range(1, 10))


async def test_a_source_pulls_nothing_before_its_network_runs():
    pulled = []

    def items():
        pulled.append("called")
        yield 1

    source = SourceBlock(items)
    await wait_all_tasks_blocked()
    assert pulled == []
    await run(source, null_target())
    assert pulled == ["called"]


async def test_a_slow_sink_holds_an_endless_source_back():
    gate = trio.Event()
    pulled = 0

    def endless():
        nonlocal pulled
        while True:
            pulled += 1
            yield pulled

    async def hold(_item):
        await gate.wait()

    async with Network() as network:
        network.add(
            pipe(
                SourceBlock(endless, bounded_capacity=4),
                ActionBlock(hold, bounded_capacity=3),
            )
        )
        await wait_all_tasks_blocked()
        assert pulled == 4 + 3
        network.cancel()


@pytest.mark.parametrize("kind", ["plain", "async"])
async def test_an_error_of_the_iterator_faults_the_source(kind):
    error = ValueError("iterator")

    def plain():
        yield 1
        raise error

    async def from_async():
        yield 1
        raise error

    source = SourceBlock(plain if kind == "plain" else from_async)
    with pytest.RaisesGroup(ValueError) as caught:
        await run(source, ActionBlock(str))
    assert caught.value.exceptions == (error,)
    assert source.state is BlockState.FAULTED


async def test_an_error_of_the_function_faults_the_source():
    def no_items():
        raise ValueError("function")

    source = SourceBlock(no_items)
    with pytest.RaisesGroup(ValueError):
        await run(source, ActionBlock(str))
    assert source.state is BlockState.FAULTED


async def test_complete_ends_an_endless_source_and_delivers_what_was_pulled():
    async with Network() as network:
        source = network.add(SourceBlock(itertools.count, bounded_capacity=3))
        await wait_all_tasks_blocked()
        source.complete()
        assert [item async for item in source] == [0, 1, 2]
        await source.completion
        assert source.state is BlockState.COMPLETED


async def test_complete_ends_a_source_that_waits_for_its_iterator(autojump_clock):
    seen = []

    async def one_then_never():
        yield 1
        await trio.sleep_forever()

    with trio.fail_after(100):
        async with Network() as network:
            source, sink = SourceBlock(one_then_never), ActionBlock(seen.append)
            network.add(pipe(source, sink))
            await wait_all_tasks_blocked()
            source.complete()
            await sink.completion
    assert seen == [1]
    assert source.state is BlockState.COMPLETED


@pytest.mark.parametrize("ending", ["complete", "cancel"])
async def test_an_async_generator_is_closed_when_its_source_ends_early(ending):
    closed = []
    started = trio.Event()

    async def nearly_endless():
        try:
            for item in range(100_000):
                started.set()
                yield item
            raise AssertionError("the source did not end early")
        finally:
            closed.append(True)

    async with Network() as network:
        source = network.add(SourceBlock(nearly_endless, bounded_capacity=2))
        source.link_to(null_target())
        await started.wait()
        if ending == "complete":
            source.complete()
        else:
            network.cancel()
    assert closed == [True]


async def test_a_source_completed_before_its_network_began_pulls_nothing():
    pulled = []

    def items():
        pulled.append(True)
        yield 1

    source = SourceBlock(items)
    source.complete()
    await run(source, null_target())
    assert pulled == []
    assert source.state is BlockState.COMPLETED


async def test_a_trio_channel_is_a_source():
    seen = []
    send, receive = trio.open_memory_channel(0)

    async def feed():
        async with send:
            for item in range(5):
                await send.send(item)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(feed)
        await run(SourceBlock(receive), ActionBlock(seen.append))
    assert seen == [0, 1, 2, 3, 4]


async def test_a_source_can_be_iterated_directly():
    async with Network() as network:
        source = network.add(SourceBlock(range(10), bounded_capacity=1))
        assert [item async for item in source] == list(range(10))
        with pytest.raises(trio.EndOfChannel):
            await source.receive()


async def test_a_cancelled_source_is_no_success():
    source = SourceBlock(itertools.count)
    async with Network() as network:
        network.add(source)
        network.cancel()
    assert source.state is BlockState.CANCELLED
    with pytest.raises(BlockClosedError):
        await source.completion


@settings(deadline=None)
@given(
    delays=st.lists(st.lists(st.integers(0, 3), max_size=6), min_size=1, max_size=3),
    capacities=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    seed=st.random_module(),
)
async def test_several_sources_feed_one_target_completely_and_each_in_order(
    delays, capacities, seed
):
    seen = []

    async def items(who, pauses):
        for index, pause in enumerate(pauses):
            for _ in range(pause):
                await trio.lowlevel.checkpoint()
            yield who, index

    sink = ActionBlock(seen.append, bounded_capacity=capacities[1])
    with trio.fail_after(60):
        async with Network() as network:
            for who, pauses in enumerate(delays):
                source = SourceBlock(items(who, pauses), bounded_capacity=capacities[0])
                source.link_to(sink)
            network.add(sink)
    for who, pauses in enumerate(delays):
        assert [index for name, index in seen if name == who] == list(range(len(pauses)))
    assert len(seen) == sum(map(len, delays))
    assert sink.state is BlockState.COMPLETED
