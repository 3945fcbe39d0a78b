"""What the verbs of blocks take and give."""
# pyright: standard

from collections.abc import AsyncIterable, AsyncIterator, Iterator
from typing import assert_type

import trio

from flowstore.blocks import (
    ActionBlock,
    BlockState,
    BlockStatistics,
    BufferBlock,
    Link,
    Network,
    Source,
    SourceBlock,
    StreamBlock,
    Target,
    TransformBlock,
    TransformManyBlock,
    as_receive_channel,
    as_send_channel,
    choose,
    null_target,
    run,
)


def length(text: str) -> int:
    return len(text)


async def length_later(text: str) -> int:
    return len(text)


def words(text: str) -> list[str]:
    return text.split()


def words_one_by_one(text: str) -> Iterator[str]:
    yield from text.split()


async def words_later(text: str) -> list[str]:
    return text.split()


async def words_one_by_one_later(text: str) -> AsyncIterator[str]:
    for word in text.split():
        yield word


async def lengths(texts: AsyncIterable[str]) -> AsyncIterator[int]:
    async for text in texts:
        yield len(text)


def shout(text: str) -> None:
    text.upper()


async def shout_later(text: str) -> None:
    text.upper()


async def items_come_out_as_they_went_in() -> None:
    buffer = BufferBlock[int]()
    assert_type(buffer.post(1), bool)
    await buffer.send(1)
    await buffer.send_many([1, 2])
    assert_type(await buffer.receive(), int)
    assert_type(buffer.try_receive(), int)
    assert_type(buffer.receive_all_nowait(), list[int])
    assert_type(await buffer.output_available(), bool)
    async for item in buffer:
        assert_type(item, int)
    buffer.post("text")  # pyright expects an error
    await buffer.send(None)  # pyright expects an error
    await buffer.send_many(["text"])  # pyright expects an error


async def a_plain_function_gives_the_types_of_a_transform() -> None:
    transform = TransformBlock(length)
    transform.post("text")
    assert_type(await transform.receive(), int)
    transform.post(1)  # pyright expects an error


async def an_async_function_gives_the_types_of_a_transform() -> None:
    transform = TransformBlock(length_later)
    await transform.send("text")
    assert_type(await transform.receive(), int)
    await transform.send(1)  # pyright expects an error


async def options_do_not_change_the_types() -> None:
    transform = TransformBlock(
        length, bounded_capacity=5, max_degree_of_parallelism=2, ensure_ordered=False, name="length"
    )
    assert_type(await transform.receive(), int)
    keyed = TransformBlock(length_later, partition_by=len, max_degree_of_parallelism=2)
    assert_type(await keyed.receive(), int)


async def transform_many_gives_the_members() -> None:
    assert_type(await TransformManyBlock(words).receive(), str)
    assert_type(await TransformManyBlock(words_one_by_one).receive(), str)
    assert_type(await TransformManyBlock(words_later).receive(), str)
    assert_type(await TransformManyBlock(words_one_by_one_later).receive(), str)
    TransformManyBlock(words).post(1)  # pyright expects an error
    TransformManyBlock(length)  # pyright expects an error


async def a_stream_gives_what_its_function_yields() -> None:
    stream = StreamBlock(lengths)
    stream.post("text")
    assert_type(await stream.receive(), int)
    stream.post(1)  # pyright expects an error


def an_action_takes_what_its_function_takes() -> None:
    ActionBlock(shout).post("text")
    ActionBlock(shout_later).post("text")
    ActionBlock(shout).post(1)  # pyright expects an error
    ActionBlock(shout_later).post(1)  # pyright expects an error


async def a_source_gives_the_items_of_its_iterable() -> None:
    assert_type(await SourceBlock([1, 2]).receive(), int)
    assert_type(await SourceBlock(words_one_by_one_later("text")).receive(), str)
    assert_type(await SourceBlock(lambda: [1, 2]).receive(), int)
    SourceBlock(1)  # pyright expects an error


def a_link_joins_equal_types_only() -> None:
    numbers, texts = BufferBlock[int](), BufferBlock[str]()
    _link: Link = texts.link_to(ActionBlock(shout))
    texts.link_to(TransformBlock(length)).close()
    texts.link_to(texts, lambda text: text.isdigit(), unmatched="drop", max_messages=1)
    texts.link_to(texts, propagate_completion=False, append=False)
    with texts.link_to(null_target()):
        numbers.link_to(null_target())
    numbers.link_to(texts)  # pyright expects an error
    numbers.link_to(ActionBlock(shout))  # pyright expects an error
    texts.link_to(texts, unmatched="ignore")  # pyright expects an error


def blocks_are_sources_and_targets() -> None:
    _target: Target[str] = TransformBlock(length)
    _source: Source[int] = TransformBlock(length)
    _sink: Target[str] = ActionBlock(shout)
    _wrong: Source[str] = TransformBlock(length)  # pyright expects an error
    _none: Source[str] = ActionBlock(shout)  # pyright expects an error


async def a_block_tells_its_state() -> None:
    buffer = BufferBlock[int]()
    assert_type(buffer.state, BlockState)
    assert_type(buffer.statistics(), BlockStatistics)
    assert_type(buffer.statistics().accepted, int)
    assert_type(await buffer.completion, None)
    assert_type(buffer.complete(), None)
    assert_type(buffer.fault(ValueError()), None)
    buffer.fault("reason")  # pyright expects an error


async def a_network_gives_back_what_it_adopts() -> None:
    async with Network() as network:
        assert_type(network, Network)
        assert_type(network.add(BufferBlock[int]()), BufferBlock[int])
        numbers, texts = network.add(BufferBlock[int](), BufferBlock[str]())
        assert_type(numbers, BufferBlock[int])
        assert_type(texts, BufferBlock[str])
        assert_type(network.cancel(), None)
        assert_type(network.to_mermaid(), str)
        assert_type(network.to_dot(), str)
        assert_type(await network.wait_idle(), None)
        for statistics in network.statistics().values():
            assert_type(statistics, BlockStatistics)
        network.add(1)  # pyright expects an error


async def a_choice_gives_an_index_and_an_item() -> None:
    index, item = await choose(BufferBlock[int](), BufferBlock[int]())
    assert_type(index, int)
    assert_type(item, int)


async def a_run_gives_nothing() -> None:
    assert_type(await run(SourceBlock(["text"]), ActionBlock(shout)), None)


async def blocks_serve_as_channels() -> None:
    receive: trio.abc.ReceiveChannel[int] = as_receive_channel(BufferBlock[int]())
    send: trio.abc.SendChannel[int] = as_send_channel(BufferBlock[int]())
    assert_type(await receive.receive(), int)
    await send.send(1)
    await as_send_channel(BufferBlock[int]()).send("text")  # pyright expects an error


def channels_serve_as_functions_and_items(
    send: trio.MemorySendChannel[int], receive: trio.MemoryReceiveChannel[int]
) -> None:
    ActionBlock(send.send).post(1)
    SourceBlock(receive).link_to(ActionBlock(send.send))
    SourceBlock(receive).link_to(ActionBlock(shout))  # pyright expects an error
