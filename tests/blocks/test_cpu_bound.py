"""Processor-bound functions in worker processes, through trio-parallel."""

import functools
import math
import operator
import os
import pathlib
import select

import pytest
import trio

from flowstore.blocks import (
    ActionBlock,
    BlockState,
    Network,
    SourceBlock,
    TransformBlock,
    run,
)

trio_parallel = pytest.importorskip("trio_parallel", reason="trio-parallel is not installed")


def in_worker(function):
    """Run a plain function in a worker process that a cancellation kills."""
    return functools.partial(trio_parallel.run_sync, function, cancellable=True)


@pytest.mark.parametrize("parallelism", [1, 2])
async def test_a_transform_runs_its_function_in_worker_processes_and_keeps_the_order(parallelism):
    seen = []
    transform = TransformBlock(
        in_worker(math.factorial), max_degree_of_parallelism=parallelism, bounded_capacity=4
    )
    await run(SourceBlock(range(20)), transform, ActionBlock(seen.append))
    assert seen == [math.factorial(number) for number in range(20)]


async def test_the_function_runs_in_another_process():
    seen = []

    async def worker_pid(_):
        return await trio_parallel.run_sync(os.getpid, cancellable=True)

    await run(SourceBlock([1]), TransformBlock(worker_pid), ActionBlock(seen.append))
    [pid] = seen
    assert pid != os.getpid()


@pytest.mark.parametrize("parallelism", [1, 2])
async def test_an_error_in_the_worker_process_faults_the_network(parallelism):
    reciprocal = in_worker(functools.partial(operator.truediv, 1))
    transform = TransformBlock(reciprocal, name="reciprocal", max_degree_of_parallelism=parallelism)
    with pytest.RaisesGroup(ZeroDivisionError) as caught:
        await run(SourceBlock([1, 2, 0, 4]), transform, ActionBlock(lambda _: None))
    assert "reciprocal" in "\n".join(caught.value.exceptions[0].__notes__)
    assert transform.state is BlockState.FAULTED


async def test_an_error_in_the_worker_process_is_counted_when_there_is_a_handler():
    seen = []
    transform = TransformBlock(
        in_worker(functools.partial(operator.truediv, 1)), on_error=lambda item, error: None
    )
    await run(SourceBlock([1, 0, 2]), transform, ActionBlock(seen.append))
    assert seen == [1, 0.5]
    assert transform.statistics().failed == 1


@pytest.fixture
def pipe_path(tmp_path):
    """Make a named pipe: whoever reads it blocks until it is written or closed."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    return path


async def reading_end_closed(descriptor):
    """Wait until no process holds the reading end of the pipe."""
    poll = select.poll()
    poll.register(descriptor, select.POLLERR)
    await trio.to_thread.run_sync(poll.poll)


async def start_reading(network, path):
    """Let a worker process read the pipe, return our end of it once the worker has its own."""
    transform = TransformBlock(in_worker(pathlib.Path.read_bytes), name="reader")
    transform.link_to(ActionBlock(lambda _: None))
    network.add(transform)
    await transform.send(path)
    return transform, await trio.to_thread.run_sync(os.open, path, os.O_WRONLY)


async def test_cancelling_the_network_ends_the_worker_process(pipe_path):
    async with Network() as network:
        transform, descriptor = await start_reading(network, pipe_path)
        network.cancel()
    await reading_end_closed(descriptor)
    os.close(descriptor)
    assert transform.state is BlockState.CANCELLED
    counts = transform.statistics()
    assert (counts.accepted, counts.discarded, counts.inside) == (1, 1, 0)


async def test_a_fault_elsewhere_ends_the_worker_process(pipe_path):
    descriptors = []
    with pytest.RaisesGroup(ZeroDivisionError):
        async with Network() as network:
            _, descriptor = await start_reading(network, pipe_path)
            descriptors.append(descriptor)
            network.add(ActionBlock(lambda number: 1 / number)).post(0)
            await trio.sleep_forever()
    await reading_end_closed(descriptors[0])
    os.close(descriptors[0])


async def test_an_outer_cancellation_ends_the_worker_process(pipe_path):
    descriptors = []
    with trio.CancelScope() as scope:
        async with Network() as network:
            _, descriptor = await start_reading(network, pipe_path)
            descriptors.append(descriptor)
            scope.cancel()
    assert scope.cancelled_caught
    await reading_end_closed(descriptors[0])
    os.close(descriptors[0])


async def test_draining_waits_for_the_worker_process(pipe_path):
    seen = []
    async with Network() as network:
        transform = TransformBlock(in_worker(pathlib.Path.read_bytes))
        transform.link_to(ActionBlock(seen.append))
        network.add(transform)
        await transform.send(pipe_path)
        descriptor = await trio.to_thread.run_sync(os.open, pipe_path, os.O_WRONLY)
        os.write(descriptor, b"news")
        os.close(descriptor)
    assert seen == [b"news"]
