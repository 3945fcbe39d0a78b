"""JoinBlock(greedy=False): takes from all sides in one step, or from none."""

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from flowstore.blocks import ActionBlock, BlockClosedError, BufferBlock, JoinBlock, Network


async def test_post_is_refused_while_it_completes_no_tuple():
    async with Network() as network:
        join = network.add(JoinBlock(greedy=False))
        assert [side.post(1) for side in join.targets] == [False, False]
        assert join.statistics().accepted == 0


async def test_post_is_accepted_when_senders_wait_on_all_other_sides():
    async with Network() as network, trio.open_nursery() as nursery:
        join = network.add(JoinBlock(3, greedy=False))
        nursery.start_soon(join.targets[0].send, "a")
        await wait_all_tasks_blocked()
        assert join.targets[1].post("b") is False
        nursery.start_soon(join.targets[2].send, "c")
        await wait_all_tasks_blocked()
        assert join.targets[1].post("b") is True
        assert await join.receive() == ("a", "b", "c")


async def test_a_sender_waits_until_every_side_offers_an_item():
    async with Network() as network, trio.open_nursery() as nursery:
        join = network.add(JoinBlock(greedy=False))
        nursery.start_soon(join.targets[0].send, "left")
        await wait_all_tasks_blocked()
        counts = join.statistics()
        assert (counts.accepted, counts.waiting_senders) == (0, 1)
        nursery.start_soon(join.targets[1].send, "right")
        assert await join.receive() == ("left", "right")


async def test_a_cancelled_sender_withdraws_its_item():
    async with Network() as network, trio.open_nursery() as nursery:
        join = network.add(JoinBlock(greedy=False))
        with trio.CancelScope() as scope:
            nursery.start_soon(cancel_when_all_wait, scope)
            await join.targets[0].send("withdrawn")
        nursery.start_soon(join.targets[1].send, "right")
        await wait_all_tasks_blocked()
        assert join.statistics().accepted == 0
        nursery.start_soon(join.targets[0].send, "left")
        assert await join.receive() == ("left", "right")


async def cancel_when_all_wait(scope):
    await wait_all_tasks_blocked()
    scope.cancel()


async def test_a_waiting_sender_learns_that_the_join_has_closed():
    async with Network() as network:
        join = network.add(JoinBlock(greedy=False))

        async def sender():
            with pytest.raises(BlockClosedError):
                await join.targets[0].send(1)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(sender)
            await wait_all_tasks_blocked()
            join.complete()


async def test_an_item_stays_with_its_source_until_every_side_has_one():
    async with Network() as network:
        left, right = network.add(BufferBlock(), BufferBlock())
        join = JoinBlock(greedy=False)
        left.link_to(join.targets[0])
        right.link_to(join.targets[1])
        left.post("left")
        await wait_all_tasks_blocked()
        assert left.statistics().inside == 1
        assert join.statistics().accepted == 0
        right.post("right")
        assert await join.receive() == ("left", "right")
        assert [left.statistics().inside, right.statistics().inside] == [0, 0]


async def test_an_item_the_join_cannot_use_yet_goes_to_another_target():
    taken = []
    async with Network() as network:
        items = network.add(BufferBlock())
        join = JoinBlock(greedy=False)
        items.link_to(join.targets[0])
        items.link_to(ActionBlock(taken.append))
        items.post("item")
        await wait_all_tasks_blocked()
        assert taken == ["item"]
        assert join.statistics().accepted == 0


async def test_a_full_join_takes_nothing_from_its_sources():
    async with Network() as network:
        left, right = network.add(BufferBlock(), BufferBlock())
        join = JoinBlock(greedy=False, bounded_capacity=1)
        left.link_to(join.targets[0])
        right.link_to(join.targets[1])
        for item in range(3):
            left.post(item)
            right.post(item)
        await wait_all_tasks_blocked()
        assert [left.statistics().inside, right.statistics().inside] == [2, 2]
        assert [await join.receive() for _ in range(3)] == [(0, 0), (1, 1), (2, 2)]


async def test_the_remaining_pairs_leave_after_the_sources_have_ended():
    seen = []
    async with Network() as network:
        left, right = network.add(BufferBlock(), BufferBlock())
        join = JoinBlock(greedy=False, bounded_capacity=1)
        left.link_to(join.targets[0])
        right.link_to(join.targets[1])
        join.link_to(ActionBlock(seen.append, bounded_capacity=1))
        for item in range(4):
            left.post(item)
            right.post(item)
    assert seen == [(0, 0), (1, 1), (2, 2), (3, 3)]


@settings(deadline=None)
@given(
    count=st.integers(0, 12),
    delays=st.lists(st.integers(0, 3), min_size=1, max_size=8),
    joins=st.integers(1, 3),
    capacity=st.integers(1, 3),
    crossed=st.booleans(),
    schedule=st.random_module(),
)
async def test_joins_that_share_their_sources_starve_nobody_and_split_no_pair(
    count, delays, joins, capacity, crossed, schedule
):
    """The dining philosophers: each join needs both buffers, and none may hold just one item."""
    seen = []

    async def feed(buffer, offset):
        for item in range(count):
            for _ in range(delays[(item + offset) % len(delays)]):
                await trio.lowlevel.checkpoint()
            await buffer.send(item)

    async def note(pair):
        for _ in range(delays[pair[0] % len(delays)]):
            await trio.lowlevel.checkpoint()
        seen.append(pair)

    async with Network() as network:
        left, right = network.add(BufferBlock(), BufferBlock())
        for index in range(joins):
            join = JoinBlock(greedy=False, bounded_capacity=capacity)
            sides = join.targets[::-1] if crossed and index % 2 else join.targets
            left.link_to(sides[0])
            right.link_to(sides[1])
            join.link_to(ActionBlock(note, bounded_capacity=1))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(feed, left, 0)
            nursery.start_soon(feed, right, 3)
    assert sorted(seen) == [(item, item) for item in range(count)]


async def test_the_one_item_of_a_source_never_serves_two_sides():
    async with Network() as network:
        source, join = network.add(BufferBlock(), JoinBlock(greedy=False))
        source.link_to(join.targets[0])
        source.link_to(join.targets[1])
        await source.send("once")
        await network.wait_idle()
        assert join.statistics().accepted == 0
        assert source.try_receive() == "once"
