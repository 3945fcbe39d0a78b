"""Every kind of block between a source and a sink: how fast it is, and whether memory stays flat."""

import sys
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Any, TypeAlias

import attrs
import trio
from _peers import PARALLEL, Peer, add_one, add_one_later
from _peers_trio import wait_and_add

from flowstore.blocks import (
    ActionBlock,
    BatchBlock,
    BatchedJoinBlock,
    BroadcastBlock,
    BufferBlock,
    FanOutBlock,
    JoinBlock,
    Network,
    SourceBlock,
    StreamBlock,
    TransformBlock,
    TransformManyBlock,
    WriteOnceBlock,
    null_target,
)

ONE_IN = 10
"""Memory is looked at whenever this share of the items has passed; the first share warms up."""

PAIRS = "items are pairs, from two sources"
STEP = 64
"""Posted at once by the case that posts: no program of trio's should do more in one go."""


Wire: TypeAlias = Callable[[Iterable[int], int], Any]


@attrs.frozen
class Kind:
    """A kind of block, at one setting.

    Attributes:
        name: what the table calls it.
        wire: links it between a source of the given items, and their count, and a sink; returns any of
            the blocks.
        count: items a timed run.
        remark: what a reader must know to compare it.
    """

    name: str
    wire: Wire
    count: int
    remark: str = ""


@attrs.frozen
class Memory:
    """What a long run of one kind of block held in memory.

    Attributes:
        name: the kind's name.
        items: how many items passed.
        resident_growth: the most that resident memory grew over the first look, in bytes; None
            where the system doesn't tell.
        objects_growth: the same of the memory blocks that the interpreter holds.
    """

    name: str
    items: int
    resident_growth: int | None
    objects_growth: int


class Watch:
    """Passes items on, and looks at memory meanwhile."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._looks: list[tuple[int | None, int]] = []

    def items(self) -> Iterator[int]:
        share = self._count // ONE_IN
        for item in range(self._count):
            if item and item % share == 0:
                self._looks.append((_resident(), sys.getallocatedblocks()))
            yield item

    def memory(self, name: str) -> Memory:
        """Sum up, once all items have passed."""
        resident, objects = self._looks[0]
        growth = None
        if resident is not None:
            growth = max(each[0] or 0 for each in self._looks) - resident
        held = max(each[1] for each in self._looks) - objects
        return Memory(name, self._count, growth, held)


def sink(_item: object) -> None:
    """Do nothing."""


def between(make: Callable[[], Any], items: Iterable[int], _count: int) -> Any:
    """Link a new block between a source and a sink."""
    block = make()
    SourceBlock(items).link_to(block)
    block.link_to(ActionBlock(sink))
    return block


def joined(make: Callable[[], Any], items: Iterable[int], count: int) -> Any:
    """Feed the two sides of a join from a source each: the rate is that of pairs."""
    block = make()
    SourceBlock(items).link_to(block.targets[0])
    SourceBlock(repeat(0, count)).link_to(block.targets[1])
    block.link_to(ActionBlock(sink))
    return block


def gathered(make: Callable[[], Any], items: Iterable[int], count: int) -> Any:
    """Feed a block from two sources: the rate is that of pairs."""
    block = between(make, items, count)
    SourceBlock(repeat(0, count)).link_to(block)
    return block


def spread(make: Callable[[], Any], items: Iterable[int], count: int) -> Any:
    """Link a new block to two sinks."""
    block = between(make, items, count)
    block.link_to(ActionBlock(sink))
    return block


def routed(items: Iterable[int], _count: int) -> Any:
    """Choose between two sinks by a predicate."""
    source = SourceBlock(items)
    source.link_to(ActionBlock(sink), lambda item: item % 2 == 0)
    source.link_to(ActionBlock(sink))
    return source


def only_source(items: Iterable[int], _count: int) -> Any:
    source = SourceBlock(items)
    source.link_to(null_target())
    return source


def async_source(items: Iterable[int], _count: int) -> Any:
    async def one_by_one() -> AsyncIterator[int]:
        for item in items:
            yield item

    source = SourceBlock(one_by_one)
    source.link_to(ActionBlock(sink))
    return source


def only_action(function: Callable[[int], object], items: Iterable[int], _count: int) -> Any:
    source = SourceBlock(items)
    source.link_to(ActionBlock(function))
    return source


def twice(item: int) -> tuple[int, int]:
    return item, item


async def twice_later(item: int) -> AsyncIterator[int]:
    yield item
    yield item


async def sums(items: AsyncIterator[int]) -> AsyncIterator[int]:
    total = 0
    async for item in items:
        total = (total + item) % 1_000_003
        yield total


def ensure_all_passed(network: Network, count: int) -> None:
    """Make sure that every block has finished what it accepted, and one has accepted all.

    Raises:
        RuntimeError: items were lost.
    """
    counts = network.statistics().values()
    lost = [each for each in counts if each.finished != each.accepted]
    if lost or max(each.accepted for each in counts) < count:
        raise RuntimeError(f"of {count} items some were lost: {lost or counts}")


async def through(wire: Wire, items: Iterable[int], count: int) -> None:
    async with Network() as network:
        network.add(wire(items, count))
    ensure_all_passed(network, count)


async def declined(items: Iterable[int], _count: int) -> None:
    """Post all items to a block that takes the first one only."""
    block = WriteOnceBlock[int]()
    async with Network() as network:
        network.add(block)
        for item in items:
            block.post(item)
            if item % STEP == 0:
                await trio.lowlevel.checkpoint()


def _parallel(**options: Any) -> Callable[[], Any]:
    return partial(TransformBlock, wait_and_add, max_degree_of_parallelism=PARALLEL, **options)


def _not_greedy(make: Callable[..., Any], *sizes: int) -> Callable[[], Any]:
    return partial(make, *sizes, greedy=False)


KINDS = (
    Kind("SourceBlock", only_source, 500_000),
    Kind("SourceBlock of an async iterable", async_source, 100_000),
    Kind("ActionBlock", partial(only_action, sink), 300_000),
    Kind("ActionBlock, async", partial(only_action, add_one_later), 100_000),
    Kind("BufferBlock", partial(between, BufferBlock), 300_000),
    Kind("two links, by predicate", routed, 100_000),
    Kind("TransformBlock", partial(between, partial(TransformBlock, add_one)), 200_000),
    Kind(
        "TransformBlock, async", partial(between, partial(TransformBlock, add_one_later)), 100_000
    ),
    Kind("TransformBlock, 8 at once", partial(between, _parallel()), 30_000),
    Kind(
        "TransformBlock, 8 at once, unordered",
        partial(between, _parallel(ensure_ordered=False)),
        30_000,
    ),
    Kind(
        "TransformBlock, 8 at once, 100 keys",
        partial(between, _parallel(partition_by=lambda item: item % 100)),
        30_000,
    ),
    Kind(
        "TransformManyBlock, 2 each", partial(between, partial(TransformManyBlock, twice)), 50_000
    ),
    Kind(
        "TransformManyBlock, async, 2 each",
        partial(between, partial(TransformManyBlock, twice_later)),
        30_000,
    ),
    Kind("StreamBlock", partial(between, partial(StreamBlock, sums)), 50_000),
    Kind("BatchBlock of 64", partial(between, partial(BatchBlock, 64)), 200_000),
    Kind(
        "BatchBlock of 64, max_age",
        partial(between, partial(BatchBlock, 64, max_age=60.0)),
        200_000,
    ),
    Kind(
        "BatchBlock of 2, non-greedy", partial(gathered, _not_greedy(BatchBlock, 2)), 30_000, PAIRS
    ),
    Kind("JoinBlock", partial(joined, JoinBlock), 50_000, PAIRS),
    Kind("JoinBlock, non-greedy", partial(joined, _not_greedy(JoinBlock)), 30_000, PAIRS),
    Kind("BatchedJoinBlock of 64", partial(joined, partial(BatchedJoinBlock, 64)), 50_000, PAIRS),
    Kind("BroadcastBlock to 2", partial(spread, BroadcastBlock), 50_000),
    Kind("FanOutBlock to 2", partial(spread, FanOutBlock), 50_000),
)
DECLINED = "WriteOnceBlock, posts it declines"


def _timed(kind: Kind) -> Callable[[int], Any]:
    return lambda count: through(kind.wire, range(count), count)


PEERS = (
    *(Peer("kinds", kind.name, _timed(kind), kind.count, kind.remark) for kind in KINDS),
    Peer("kinds", DECLINED, lambda count: declined(range(count), count), 300_000),
)


async def measure_memory(count: int) -> list[Memory]:
    """Send so many items through every kind of block, and tell how memory grew meanwhile."""
    found: list[Memory] = []
    for kind in KINDS:
        watch = Watch(count)
        await through(kind.wire, watch.items(), count)
        found.append(watch.memory(kind.name))
    watch = Watch(count)
    await declined(watch.items(), count)
    return [*found, watch.memory(DECLINED)]


def _resident() -> int | None:
    """Read how much memory the process has in use; None where there is no /proc."""
    try:
        text = Path("/proc/self/statm").read_text(encoding="ascii")
    except OSError:
        return None
    return int(text.split()[1]) * 4096
