"""Notes on a fault name the block and the item."""

import pytest
import trio

from flowstore.blocks import (
    ActionBlock,
    BlockState,
    BroadcastBlock,
    FanOutBlock,
    Network,
    SourceBlock,
    TransformBlock,
    TransformManyBlock,
    null_target,
    run,
)


def fail(_item):
    raise ValueError("fault")


async def fail_async(_item):
    await trio.lowlevel.checkpoint()
    raise ValueError("fault")


def fail_later(_item):
    yield 1
    raise ValueError("fault")


async def fail_later_async(_item):
    yield 1
    raise ValueError("fault")


async def notes_of(block, item):
    with pytest.RaisesGroup(ValueError) as caught:
        async with Network() as network:
            network.add(block)
            assert block.post(item)
            await trio.sleep_forever()
    assert block.state is BlockState.FAULTED
    return "\n".join(caught.value.exceptions[0].__notes__)


CASES = pytest.mark.parametrize(
    ("make", "function"),
    [
        (ActionBlock, fail),
        (ActionBlock, fail_async),
        (TransformBlock, fail),
        (TransformBlock, fail_async),
        (TransformManyBlock, fail),
        (TransformManyBlock, fail_async),
        (TransformManyBlock, fail_later),
        (TransformManyBlock, fail_later_async),
    ],
)
PARALLELISM = pytest.mark.parametrize("parallelism", [1, 3])


@CASES
@PARALLELISM
async def test_a_fault_names_the_block_and_the_item(make, function, parallelism):
    block = make(function, name="the culprit", max_degree_of_parallelism=parallelism)
    notes = await notes_of(block, {"item": 42})
    assert "the culprit" in notes
    assert "{'item': 42}" in notes


@CASES
@PARALLELISM
async def test_the_repr_of_a_long_item_is_cut(make, function, parallelism):
    block = make(function, name="the culprit", max_degree_of_parallelism=parallelism)
    notes = await notes_of(block, "x" * 1000)
    assert "the culprit" in notes
    assert "x" * 150 in notes
    assert "x" * 201 not in notes


@pytest.mark.parametrize("error", [ValueError("repr"), RecursionError("repr")])
@CASES
@PARALLELISM
async def test_an_item_whose_repr_raises_hides_nothing(make, function, parallelism, error):
    class Unprintable:
        def __repr__(self):
            raise error

    block = make(function, name="the culprit", max_degree_of_parallelism=parallelism)
    notes = await notes_of(block, Unprintable())
    assert "the culprit" in notes


@pytest.mark.parametrize("make", [BroadcastBlock, FanOutBlock])
async def test_a_clone_function_that_raises_is_noted_too(make):
    block = make(clone=fail, name="the culprit")
    block.link_to(null_target())
    notes = await notes_of(block, "the item")
    assert "the culprit" in notes
    assert "'the item'" in notes


async def test_the_notes_of_a_fault_are_added_once_however_many_hops_follow():
    with pytest.RaisesGroup(ValueError) as caught:
        await run(
            SourceBlock(["the item"]),
            TransformBlock(fail, name="the culprit"),
            TransformBlock(str, name="second"),
            ActionBlock(str, name="third"),
        )
    notes = "\n".join(caught.value.exceptions[0].__notes__)
    assert notes.count("'the item'") == 1
    assert "second" not in notes
    assert "third" not in notes


@PARALLELISM
async def test_a_handler_that_raises_is_noted_too(parallelism):
    def broken(_item, _error):
        raise ValueError("handler")

    block = ActionBlock(
        fail, on_error=broken, name="the culprit", max_degree_of_parallelism=parallelism
    )
    notes = await notes_of(block, "the item")
    assert "the culprit" in notes
    assert "'the item'" in notes


async def test_a_handled_error_harms_an_unprintable_item_no_more_than_another():
    handled = []

    class Unprintable:
        def __repr__(self):
            raise KeyError("repr")

    item = Unprintable()
    sink = ActionBlock(fail, on_error=lambda item, _error: handled.append(item))
    await run(SourceBlock([item]), sink)
    assert len(handled) == 1
    assert handled[0] is item
