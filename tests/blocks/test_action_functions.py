"""Which functions are awaited, and what becomes of their results."""

import functools

import pytest
import trio

from flowstore.blocks import (
    ActionBlock,
    BlockState,
    Network,
    SourceBlock,
    TransformBlock,
    TransformManyBlock,
    run,
)


async def double(item):
    await trio.lowlevel.checkpoint()
    return item * 2


async def multiply(factor, item):
    await trio.lowlevel.checkpoint()
    return factor * item


class Doubler:
    async def method(self, item):
        await trio.lowlevel.checkpoint()
        return item * 2

    async def multiply(self, factor, item):
        await trio.lowlevel.checkpoint()
        return factor * item

    @staticmethod
    async def static(item):
        await trio.lowlevel.checkpoint()
        return item * 2

    @classmethod
    async def of_class(cls, item):
        await trio.lowlevel.checkpoint()
        return item * 2


class AsyncCallable:
    async def __call__(self, item):
        await trio.lowlevel.checkpoint()
        return item * 2


class PlainCallable:
    def __call__(self, item):
        return item * 2


class Number(int):
    def doubled(self):
        return Number(self * 2)


FUNCTIONS = [
    pytest.param(lambda item: item * 2, id="lambda"),
    pytest.param(functools.partial(lambda factor, item: factor * item, 2), id="partial"),
    pytest.param((2).__mul__, id="builtin method"),
    pytest.param(PlainCallable(), id="callable object"),
    pytest.param(PlainCallable().__call__, id="bound method"),
    pytest.param(Number.doubled, id="unbound method"),
    pytest.param(double, id="async function"),
    pytest.param(functools.partial(multiply, 2), id="partial of async function"),
    pytest.param(
        functools.partial(functools.partial(multiply), 2), id="partial of partial of async"
    ),
    pytest.param(Doubler().method, id="async bound method"),
    pytest.param(functools.partial(Doubler().multiply, 2), id="partial of async bound method"),
    pytest.param(Doubler.static, id="async static method"),
    pytest.param(Doubler.of_class, id="async class method"),
    pytest.param(AsyncCallable(), id="object with async __call__"),
    pytest.param(functools.partial(AsyncCallable()), id="partial of object with async __call__"),
]


@pytest.mark.parametrize("parallelism", [1, 3])
@pytest.mark.parametrize("function", FUNCTIONS)
async def test_a_transform_calls_plain_and_awaits_async_functions(function, parallelism):
    seen = []
    await run(
        SourceBlock(map(Number, range(5))),
        TransformBlock(function, max_degree_of_parallelism=parallelism),
        ActionBlock(seen.append),
    )
    assert seen == [0, 2, 4, 6, 8]


@pytest.mark.parametrize("parallelism", [1, 3])
@pytest.mark.parametrize("function", FUNCTIONS)
async def test_an_action_calls_plain_and_awaits_async_functions(function, parallelism):
    sink = ActionBlock(function, max_degree_of_parallelism=parallelism)
    await run(SourceBlock(map(Number, range(5))), sink)
    assert sink.statistics().finished == 5


@pytest.mark.parametrize("parallelism", [1, 3])
async def test_the_result_of_an_action_is_ignored(parallelism):
    sink = ActionBlock(str, max_degree_of_parallelism=parallelism)
    await run(SourceBlock(range(3)), sink)
    assert sink.statistics().finished == 3


@pytest.mark.parametrize("make", [ActionBlock, TransformBlock, TransformManyBlock])
@pytest.mark.parametrize("parallelism", [1, 3])
async def test_a_plain_function_that_returns_a_coroutine_faults_with_type_error(make, parallelism):
    made = []

    def forgot_to_await(item):
        made.append(double(item))
        return made[-1]

    block = make(forgot_to_await, max_degree_of_parallelism=parallelism)
    try:
        with pytest.RaisesGroup(TypeError):
            async with Network() as network:
                network.add(block)
                assert block.post(1)
                await trio.sleep_forever()
    finally:
        for coroutine in made:
            coroutine.close()
    assert block.state is BlockState.FAULTED
    assert block.statistics().failed == 1


class AwaitableValue:
    def __await__(self):
        raise AssertionError("the value was awaited")
        yield


@pytest.mark.parametrize("parallelism", [1, 3])
async def test_an_awaitable_value_of_an_async_function_is_passed_on(parallelism):
    value = AwaitableValue()

    async def give(_item):
        return value

    async with Network() as network:
        block = network.add(TransformBlock(give, max_degree_of_parallelism=parallelism))
        await block.send(1)
        assert await block.receive() is value


async def test_a_coroutine_value_of_an_async_function_is_passed_on():
    async def give(item):
        return double(item)

    async with Network() as network:
        block = network.add(TransformBlock(give))
        await block.send(21)
        assert await (await block.receive()) == 42


async def test_an_action_runs_items_one_by_one_in_order_by_default():
    log = []

    async def note(item):
        log.append(("start", item))
        await trio.lowlevel.checkpoint()
        log.append(("end", item))

    await run(SourceBlock(range(3)), ActionBlock(note))
    assert log == [(what, item) for item in range(3) for what in ("start", "end")]


async def test_a_function_runs_in_a_task_that_may_open_nurseries(autojump_clock):
    seen = []

    async def spread(item):
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(trio.sleep, item)
        seen.append(item)

    await run(SourceBlock([1, 2, 3]), ActionBlock(spread, max_degree_of_parallelism=2))
    assert sorted(seen) == [1, 2, 3]


async def test_a_timeout_inside_a_function_stays_inside(autojump_clock):
    seen = []

    async def give_up(item):
        with trio.move_on_after(1):
            await trio.sleep_forever()
        seen.append(item)

    await run(SourceBlock([1, 2]), ActionBlock(give_up))
    assert seen == [1, 2]


async def test_a_sink_may_send_into_a_trio_channel():
    send, receive = trio.open_memory_channel(10)
    await run(SourceBlock(range(5)), ActionBlock(send.send))
    await send.aclose()
    assert [item async for item in receive] == list(range(5))
