"""BatchBlock(max_age=...): a batch leaves that many seconds after its first item, at the latest."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from flowstore.blocks import ActionBlock, BatchBlock, BlockState, BufferBlock, Network


async def test_a_batch_leaves_max_age_seconds_after_its_first_item(autojump_clock):
    async with Network() as network:
        batches = network.add(BatchBlock(10, max_age=5))
        start = trio.current_time()
        batches.post("first")
        await trio.sleep(3)
        batches.post("second")
        assert await batches.receive() == ("first", "second")
        assert trio.current_time() - start == pytest.approx(5)


async def test_later_items_do_not_put_the_leaving_off(autojump_clock):
    async with Network() as network:
        batches = network.add(BatchBlock(10, max_age=5))
        for item in range(8):
            batches.post(item)
            await trio.sleep(1)
        batches.complete()
        assert [len(batch) async for batch in batches] in ([5, 3], [6, 2])


async def test_a_batch_leaves_at_its_size_before_its_age(autojump_clock):
    async with Network() as network:
        batches = network.add(BatchBlock(2, max_age=5))
        start = trio.current_time()
        batches.post(1)
        batches.post(2)
        assert await batches.receive() == (1, 2)
        assert trio.current_time() == start


@pytest.mark.parametrize("departure", ["size", "trigger", "age"])
async def test_the_next_batch_counts_its_age_from_its_own_first_item(autojump_clock, departure):
    async with Network() as network:
        batches = network.add(BatchBlock(2, max_age=5))
        batches.post("old")
        await trio.sleep(3)
        if departure == "size":
            batches.post("filler")
        elif departure == "trigger":
            batches.trigger_batch()
        await batches.receive()
        await trio.sleep(1)
        start = trio.current_time()
        batches.post("new")
        assert await batches.receive() == ("new",)
        assert trio.current_time() - start == pytest.approx(5)


async def test_items_beyond_a_full_batch_start_an_age_of_their_own(autojump_clock):
    async with Network() as network:
        batches = network.add(BatchBlock(2, max_age=5))
        batches.post(1)
        await trio.sleep(3)
        start = trio.current_time()
        for item in (2, 3):
            batches.post(item)
        assert await batches.receive() == (1, 2)
        assert await batches.receive() == (3,)
        assert trio.current_time() - start == pytest.approx(5)


async def test_an_empty_block_never_sends_an_empty_batch(autojump_clock):
    async with Network() as network:
        batches = network.add(BatchBlock(2, max_age=1))
        batches.post(1)
        assert await batches.receive() == (1,)
        with trio.move_on_after(1_000) as scope:
            await batches.receive()
        assert scope.cancelled_caught


async def test_without_max_age_a_batch_waits_for_its_size_however_long(autojump_clock):
    async with Network() as network:
        batches = network.add(BatchBlock(2, max_age=None))
        batches.post(1)
        with trio.move_on_after(1_000_000) as scope:
            await batches.receive()
        assert scope.cancelled_caught
        batches.post(2)
        assert await batches.receive() == (1, 2)


async def test_completion_sends_the_tail_off_before_its_age(autojump_clock):
    seen = []
    start = trio.current_time()
    async with Network() as network:
        batches = network.add(BatchBlock(2, max_age=60))
        batches.link_to(ActionBlock(seen.append))
        batches.post(1)
    assert seen == [(1,)]
    assert trio.current_time() == start


async def test_cancellation_does_not_wait_for_the_age(autojump_clock):
    start = trio.current_time()
    async with Network() as network:
        batches = network.add(BatchBlock(2, max_age=60))
        batches.post(1)
        await wait_all_tasks_blocked()
        network.cancel()
    assert trio.current_time() == start
    assert batches.state is BlockState.CANCELLED


async def test_the_age_counts_for_items_arriving_over_a_link(autojump_clock):
    async with Network() as network:
        items = network.add(BufferBlock())
        batches = BatchBlock(10, max_age=5)
        items.link_to(batches)
        start = trio.current_time()
        items.post(1)
        await trio.sleep(1)
        items.post(2)
        assert await batches.receive() == (1, 2)
        assert trio.current_time() - start == pytest.approx(5)


async def test_an_aged_batch_makes_room_for_no_more_than_was_read(autojump_clock):
    async with Network() as network:
        batches = network.add(BatchBlock(3, max_age=5, bounded_capacity=3))
        assert [batches.post(item) for item in (1, 2)] == [True, True]
        await trio.sleep(6)
        assert [batches.post(item) for item in (3, 4)] == [True, False]
        batches.complete()
        assert [batch async for batch in batches] == [(1, 2), (3,)]


@pytest.mark.parametrize("max_age", [0, 0.0, -1])
def test_a_max_age_of_zero_or_less_is_an_error(max_age):
    with pytest.raises(ValueError):
        BatchBlock(2, max_age=max_age)


def test_a_tiny_max_age_is_allowed():
    BatchBlock(2, max_age=1e-9)
