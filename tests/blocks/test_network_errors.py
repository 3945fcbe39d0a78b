"""Errors leave a network as one flat `ExceptionGroup`, each fault once."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from flowstore.blocks import (
    ActionBlock,
    BlockClosedError,
    BlockFaultedError,
    BlockState,
    BufferBlock,
    Network,
    SourceBlock,
    TransformBlock,
    pipe,
    run,
)


def fail(_item):
    raise ValueError("fault")


@pytest.mark.parametrize("parallelism", [1, 4])
async def test_one_fault_leaves_as_a_group_of_one(parallelism):
    error = ValueError("fault")

    async def fail_with(_item):
        raise error

    with pytest.RaisesGroup(ValueError) as caught:
        await run(
            SourceBlock(range(10)),
            ActionBlock(fail_with, max_degree_of_parallelism=parallelism),
        )
    assert caught.value.exceptions == (error,)


async def test_a_fault_is_raised_once_and_unwrapped_however_many_hops_follow():
    last = ActionBlock(str)
    with pytest.RaisesGroup(ValueError):
        await run(
            SourceBlock([1]),
            TransformBlock(fail),
            TransformBlock(str),
            TransformBlock(str),
            last,
        )
    assert last.state in {BlockState.CANCELLED, BlockState.FAULTED}


async def test_the_error_of_the_body_leaves_as_a_group_too():
    error = KeyError("body")
    with pytest.RaisesGroup(KeyError) as caught:
        async with Network() as network:
            network.add(BufferBlock())
            raise error
    assert caught.value.exceptions == (error,)


async def test_a_fault_beside_an_error_of_the_body_are_both_direct_members():
    with pytest.RaisesGroup(ValueError, KeyError):
        async with Network() as network:
            sink = network.add(ActionBlock(fail))
            assert sink.post(1)
            try:
                await trio.sleep_forever()
            finally:
                raise KeyError("body")


async def test_an_error_while_a_function_is_being_cancelled_is_a_direct_member_too():
    async def fail_when_cancelled(_item):
        try:
            await trio.sleep_forever()
        finally:
            raise KeyError("clean-up")

    with pytest.RaisesGroup(ValueError, KeyError):
        async with Network() as network:
            stubborn, failing = network.add(ActionBlock(fail_when_cancelled), ActionBlock(fail))
            assert stubborn.post(1)
            await wait_all_tasks_blocked()
            assert failing.post(1)
            await trio.sleep_forever()


async def test_one_exception_that_several_items_raise_is_a_member_once():
    error, gate = ValueError("shared"), trio.Event()

    async def fail_at_the_gate(_item):
        try:
            await gate.wait()
        finally:
            raise error

    with pytest.RaisesGroup(ValueError) as caught:
        async with Network() as network:
            sink = network.add(ActionBlock(fail_at_the_gate, max_degree_of_parallelism=3))
            await sink.send_many(range(3))
            await wait_all_tasks_blocked()
            gate.set()
            await trio.sleep_forever()
    assert caught.value.exceptions == (error,)


async def test_an_error_of_the_body_beside_a_cancellation_from_outside_is_a_direct_member():
    error = ValueError("cleaning up")

    async def clean_up():
        try:
            await trio.sleep_forever()
        finally:
            raise error

    with pytest.RaisesGroup(pytest.RaisesGroup(ValueError)) as caught, trio.CancelScope() as scope:
        async with Network(), trio.open_nursery() as nursery:
            nursery.start_soon(clean_up)
            await wait_all_tasks_blocked()
            scope.cancel()
            await trio.sleep_forever()
    assert caught.value.exceptions[0].exceptions == (error,)


async def test_siblings_that_fail_together_are_direct_members():
    gate = trio.Event()

    async def fail_at_the_gate(item):
        try:
            await gate.wait()
        finally:
            raise item

    with pytest.RaisesGroup(ValueError, KeyError):
        async with Network() as network:
            sink = network.add(ActionBlock(fail_at_the_gate, max_degree_of_parallelism=2))
            await sink.send_many([ValueError("one"), KeyError("two")])
            await wait_all_tasks_blocked()
            gate.set()
            await trio.sleep_forever()


@pytest.mark.parametrize("verb", ["receive", "completion", "send"])
async def test_the_echo_of_a_fault_in_the_body_is_dropped(verb):
    error = ValueError("fault")
    with pytest.RaisesGroup(ValueError) as caught:
        async with Network() as network:
            block = network.add(BufferBlock(bounded_capacity=1))
            block.fault(error)
            if verb == "receive":
                await block.receive()
            elif verb == "send":
                await block.send(1)
            else:
                await block.completion
    assert caught.value.exceptions == (error,)


async def test_the_echo_of_a_fault_seen_by_a_shielded_body_is_dropped():
    error = ValueError("fault")
    with pytest.RaisesGroup(ValueError) as caught:
        async with Network() as network:
            block = network.add(TransformBlock(str))
            other = network.add(BufferBlock(bounded_capacity=1))
            assert other.post(1)
            block.fault(error)
            with trio.CancelScope(shield=True):
                await other.send(2)
    assert caught.value.exceptions == (error,)


async def test_the_echo_of_a_fault_in_a_nursery_of_the_body_is_dropped():
    error = ValueError("fault")

    async def read(block):
        with trio.CancelScope(shield=True):
            await block.receive()

    with pytest.RaisesGroup(ValueError) as caught:
        async with Network() as network, trio.open_nursery() as nursery:
            block = network.add(BufferBlock())
            nursery.start_soon(read, block)
            nursery.start_soon(read, block)
            await wait_all_tasks_blocked()
            block.fault(error)
    assert caught.value.exceptions == (error,)


async def test_a_closed_error_that_no_fault_caused_leaves_the_body():
    with pytest.RaisesGroup(BlockClosedError):
        async with Network() as network:
            block = network.add(BufferBlock())
            block.complete()
            await block.send(1)


async def test_a_faulted_error_caused_by_another_network_leaves_the_body():
    error = ValueError("elsewhere")
    elsewhere = BufferBlock()
    with pytest.RaisesGroup(ValueError):
        async with Network() as network:
            network.add(elsewhere)
            elsewhere.fault(error)
    with pytest.RaisesGroup(BlockFaultedError) as caught:
        async with Network() as network:
            network.add(BufferBlock())
            await elsewhere.receive()
    assert caught.value.exceptions[0].__cause__ is error


async def test_a_fault_in_a_block_of_a_network_inside_a_network_leaves_both():
    with pytest.RaisesGroup(ValueError, flatten_subgroups=True):
        async with Network() as outer:
            outer.add(BufferBlock())
            async with Network() as inner:
                inner.add(BufferBlock()).fault(ValueError())
                await trio.sleep_forever()


async def test_an_exception_that_is_no_exception_subclass_leaves_in_a_group():
    class Stop(BaseException):
        pass

    def stop(_item):
        raise Stop

    with pytest.raises(BaseExceptionGroup) as caught:
        await run(SourceBlock([1]), ActionBlock(stop))
    assert [type(error) for error in caught.value.exceptions] == [Stop]


async def test_the_raised_fault_keeps_its_own_cause():
    def fail_from(_item):
        raise ValueError from KeyError("root")

    with pytest.RaisesGroup(ValueError) as caught:
        async with Network() as network:
            first, last = TransformBlock(fail_from), ActionBlock(str)
            network.add(pipe(first, last))
            await first.send(1)
    assert isinstance(caught.value.exceptions[0].__cause__, KeyError)
