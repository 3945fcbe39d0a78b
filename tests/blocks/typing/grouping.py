"""What grouping and broadcasting blocks take and give."""
# pyright: standard

from typing import assert_type

from flowstore.blocks import (
    ActionBlock,
    BatchBlock,
    BatchedJoinBlock,
    BroadcastBlock,
    BufferBlock,
    FanOutBlock,
    JoinBlock,
    TransformBlock,
    WriteOnceBlock,
    encapsulate,
    null_target,
    pipe,
)


def length(text: str) -> int:
    return len(text)


def sort_up(batch: tuple[int, ...]) -> list[int]:
    return sorted(batch)


async def a_batch_is_a_tuple_of_the_items() -> None:
    batches = BatchBlock[int](2, max_age=1.5, greedy=True, max_number_of_groups=3)
    batches.post(1)
    assert_type(await batches.receive(), tuple[int, ...])
    assert_type(batches.trigger_batch(), None)
    batches.link_to(TransformBlock(sort_up))
    batches.post("text")  # pyright expects an error
    batches.link_to(ActionBlock(length))  # pyright expects an error
    BatchBlock[int]("two")  # pyright expects an error


async def a_join_has_targets_and_gives_tuples() -> None:
    join = JoinBlock(3, greedy=False)
    join.targets[0].post(1)
    join.targets[1].complete()
    BufferBlock[int]().link_to(join.targets[2])
    assert isinstance(await join.receive(), tuple)
    JoinBlock("two")  # pyright expects an error


async def a_batched_join_has_targets_and_gives_tuples() -> None:
    join = BatchedJoinBlock(10, 3)
    join.targets[0].post(1)
    BufferBlock[int]().link_to(join.targets[2])
    assert isinstance(await join.receive(), tuple)
    BatchedJoinBlock()  # pyright expects an error


async def a_broadcast_gives_what_it_takes() -> None:
    assert_type(await BroadcastBlock[int]().receive(), int)
    BroadcastBlock[str]().link_to(TransformBlock(length))
    BroadcastBlock[int]().post("text")  # pyright expects an error
    BroadcastBlock[int]().link_to(TransformBlock(length))  # pyright expects an error


async def a_value_written_once_is_read_as_written() -> None:
    assert_type(await WriteOnceBlock[int]().receive(), int)
    WriteOnceBlock[int]().post("text")  # pyright expects an error


def a_fan_out_gives_what_it_takes() -> None:
    FanOutBlock[str]().link_to(TransformBlock(length))
    FanOutBlock[int]().post("text")  # pyright expects an error
    FanOutBlock[int]().link_to(TransformBlock(length))  # pyright expects an error


async def an_encapsulation_takes_like_its_target_and_gives_like_its_source() -> None:
    both = encapsulate(TransformBlock(length), BufferBlock[bytes]())
    both.post("text")
    assert_type(await both.receive(), bytes)
    both.link_to(null_target())
    both.post(1)  # pyright expects an error
    both.link_to(TransformBlock(length))  # pyright expects an error


def a_pipe_stands_where_a_block_stands() -> None:
    chain = pipe(BufferBlock[str](), TransformBlock(length))
    chain.complete()
    chain.link_to(null_target())
    pipe(1, 2)  # pyright expects an error
