"""choose(*sources): receives from whichever source has an item, the first argument first."""

import contextlib

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from flowstore.blocks import (
    BlockFaultedError,
    BufferBlock,
    Network,
    SourceBlock,
    TransformBlock,
    choose,
)


async def test_it_takes_from_the_source_that_has_an_item():
    async with Network() as network:
        first, second = network.add(BufferBlock(), BufferBlock())
        second.post("item")
        assert await choose(first, second) == (1, "item")


async def test_the_first_argument_wins_when_several_have_items():
    async with Network() as network:
        sources = network.add(BufferBlock(), BufferBlock(), BufferBlock())
        for index in (2, 1, 0):
            sources[index].post(index)
        assert await choose(*sources) == (0, 0)
        assert await choose(*sources) == (1, 1)
        assert await choose(*sources) == (2, 2)


async def test_the_sources_it_did_not_choose_keep_their_items():
    async with Network() as network:
        first, second = network.add(BufferBlock(), BufferBlock())
        first.post(1)
        second.post(2)
        await choose(second, first)
        assert first.try_receive() == 1
        assert second.receive_all_nowait() == []


@pytest.mark.parametrize("index", [0, 1, 2])
async def test_it_waits_until_any_source_has_an_item(index):
    chosen = []

    async def chooser(sources):
        chosen.append(await choose(*sources))

    async with Network() as network, trio.open_nursery() as nursery:
        sources = network.add(BufferBlock(), BufferBlock(), BufferBlock())
        nursery.start_soon(chooser, sources)
        await wait_all_tasks_blocked()
        assert chosen == []
        sources[index].post("item")
        await wait_all_tasks_blocked()
        assert chosen == [(index, "item")]


async def test_after_the_choice_it_takes_nothing_more():
    async with Network() as network:
        first, second = network.add(BufferBlock(), BufferBlock())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(choose, first, second)
            await wait_all_tasks_blocked()
            first.post("chosen")
        first.post(1)
        second.post(2)
        await wait_all_tasks_blocked()
        assert (first.try_receive(), second.try_receive()) == (1, 2)


async def test_one_source_makes_it_a_receive():
    async with Network() as network:
        only = network.add(BufferBlock())
        only.post("item")
        assert await choose(only) == (0, "item")


async def test_it_takes_from_any_block_with_an_output():
    async with Network() as network:
        source, transform = network.add(SourceBlock([1]), TransformBlock(str))
        transform.post(2)
        received = {await choose(source, transform), await choose(source, transform)}
        assert received == {(0, 1), (1, "2")}


async def test_an_ended_source_is_passed_over():
    async with Network() as network:
        ended, living = network.add(BufferBlock(), BufferBlock())
        ended.complete()
        await ended.completion
        living.post("item")
        assert await choose(ended, living) == (1, "item")


async def test_it_waits_while_one_source_has_not_ended():
    async with Network() as network, trio.open_nursery() as nursery:
        first, second = network.add(BufferBlock(), BufferBlock())
        chosen = []

        async def chooser():
            chosen.append(await choose(first, second))

        nursery.start_soon(chooser)
        await wait_all_tasks_blocked()
        first.complete()
        await wait_all_tasks_blocked()
        assert chosen == []
        second.post("item")
        await wait_all_tasks_blocked()
        assert chosen == [(1, "item")]


async def test_it_raises_end_of_channel_when_all_have_ended():
    async with Network() as network:
        sources = network.add(BufferBlock(), BufferBlock())
        for source in sources:
            source.complete()
            await source.completion
        with pytest.raises(trio.EndOfChannel):
            await choose(*sources)


async def test_a_waiting_choice_learns_that_all_have_ended():
    async def chooser(sources):
        with pytest.raises(trio.EndOfChannel):
            await choose(*sources)

    async with Network() as network, trio.open_nursery() as nursery:
        sources = network.add(BufferBlock(), BufferBlock())
        nursery.start_soon(chooser, sources)
        await wait_all_tasks_blocked()
        for source in sources:
            source.complete()


async def test_a_faulted_source_raises_its_fault():
    fault = ZeroDivisionError()
    caught = []

    async def chooser(sources):
        with pytest.raises(BlockFaultedError) as error:
            await choose(*sources)
        caught.append(error.value.__cause__)

    async with trio.open_nursery() as nursery:
        with pytest.RaisesGroup(ZeroDivisionError):
            async with Network() as network:
                sources = network.add(BufferBlock(), BufferBlock())
                nursery.start_soon(chooser, sources)
                await wait_all_tasks_blocked()
                sources[1].fault(fault)
    assert caught == [fault]


@pytest.mark.parametrize("index", [0, 1])
async def test_a_faulted_source_raises_its_fault_although_another_is_open(index):
    error, sources = ValueError(), (BufferBlock(), BufferBlock())
    sources[index].fault(error)
    with pytest.raises(BlockFaultedError) as caught:
        await choose(*sources)
    assert caught.value.__cause__ is error


async def test_a_cancelled_choice_takes_nothing():
    async with Network() as network:
        source = network.add(BufferBlock())
        source.post("item")
        with trio.CancelScope() as scope:
            scope.cancel()
            await choose(source)
        assert scope.cancelled_caught
        assert source.try_receive() == "item"


async def test_a_choice_cancelled_while_waiting_leaves_later_items_alone():
    async def chooser(scope, sources):
        with scope:
            await choose(*sources)

    async with Network() as network, trio.open_nursery() as nursery:
        sources = network.add(BufferBlock(), BufferBlock())
        scope = trio.CancelScope()
        nursery.start_soon(chooser, scope, sources)
        await wait_all_tasks_blocked()
        scope.cancel()
        await wait_all_tasks_blocked()
        for source in sources:
            source.post("item")
        assert [source.try_receive() for source in sources] == ["item", "item"]


async def test_an_item_that_meets_the_cancellation_is_either_returned_or_left():
    async def chooser(scope, source, received):
        with scope:
            received.append(await choose(source))

    async with Network() as network, trio.open_nursery() as nursery:
        source = network.add(BufferBlock())
        scope, received = trio.CancelScope(), []
        nursery.start_soon(chooser, scope, source, received)
        await wait_all_tasks_blocked()
        source.post("item")
        scope.cancel()
        await wait_all_tasks_blocked()
        assert [item for _, item in received] + source.receive_all_nowait() == ["item"]


async def pause(turns):
    for _ in range(turns):
        await trio.lowlevel.checkpoint()


async def cancel_after(scope, turns):
    await pause(turns)
    scope.cancel()


async def feed(buffer, count, delays):
    for item in range(count):
        await pause(delays[item % len(delays)])
        await buffer.send(item)
    buffer.complete()


@settings(deadline=None)
@given(
    counts=st.lists(st.integers(0, 10), min_size=1, max_size=4),
    delays=st.lists(st.integers(0, 3), min_size=1, max_size=6),
    choosers=st.integers(1, 4),
    impatience=st.lists(st.integers(0, 4), max_size=8),
    schedule=st.random_module(),
)
async def test_every_item_is_chosen_once_even_when_choices_are_cancelled(
    counts, delays, choosers, impatience, schedule
):
    received = [[] for _ in counts]

    async def chooser(sources, nursery):
        scopes = [(trio.CancelScope(), turns) for turns in impatience]
        with contextlib.suppress(trio.EndOfChannel):
            for scope, turns in scopes:
                nursery.start_soon(cancel_after, scope, turns)
                with scope:
                    index, item = await choose(*sources)
                    received[index].append(item)
            while True:
                index, item = await choose(*sources)
                received[index].append(item)

    async with Network() as network:
        sources = [network.add(BufferBlock(bounded_capacity=2)) for _ in counts]
        async with trio.open_nursery() as nursery:
            for source, count in zip(sources, counts, strict=True):
                nursery.start_soon(feed, source, count, delays)
            for _ in range(choosers):
                nursery.start_soon(chooser, sources, nursery)
    assert [sorted(items) for items in received] == [list(range(count)) for count in counts]
