"""Drawing graphs of blocks, each of which keeps the order of its keys."""

import zlib
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import attrs
from hypothesis import strategies as st

from flowstore.blocks import (
    BatchBlock,
    BufferBlock,
    Source,
    StreamBlock,
    TransformBlock,
    TransformManyBlock,
    pipe,
)
from flowstore.testing._arrivals import naming_of
from flowstore.testing._pipeline_law import Probe

__all__ = ["Pipeline", "Stage", "pipelines"]


@attrs.frozen
class Stage:
    """Say what one part of a drawn graph does.

    Attributes:
        kind: which part: "buffer", "transform", "keyed", "batch", "stream", or "split", two ways
            that each key takes one of.
        capacity: of its blocks.
        parallelism: of its functions; the size of its batches.
    """

    kind: str
    capacity: int
    parallelism: int

    def __str__(self) -> str:
        return f"{self.kind}({self.capacity}, {self.parallelism})"


@attrs.frozen
class Pipeline:
    """A drawn graph; it is called as `check_pipeline_order` calls what builds one.

    Attributes:
        stages: from the source to the end.
    """

    stages: tuple[Stage, ...]

    def __call__(self, source: Source[Any], probe: Probe) -> Source[Any]:
        """Link the graph behind a source."""
        for stage in self.stages:
            source = _PARTS[stage.kind](source, probe, stage)
        return source

    def __str__(self) -> str:
        return " -> ".join(map(str, self.stages)) or "nothing"


def pipelines(*, most: int = 4) -> st.SearchStrategy[Pipeline]:
    """Draw graphs of blocks that keep the order of each key, if blocks do; shrinks to none.

    `check_pipeline_order` takes them in place of one graph.

    Args:
        most: most stages.
    """
    stages = st.builds(
        Stage,
        kind=st.sampled_from(list(_PARTS)),
        capacity=st.integers(1, 4),
        parallelism=st.integers(1, 4),
    )
    return st.lists(stages, max_size=most).map(tuple).map(Pipeline)


def _look_up(probe: Probe) -> Callable[[Any], Any]:
    async def look_up(item: Any) -> Any:
        await probe.delay()
        return item

    return look_up


def _key_of(item: Any) -> Any:
    return naming_of().key(item)


def _is_even(item: Any) -> bool:
    # Python's own hash of text differs from process to process.
    return zlib.crc32(repr(_key_of(item)).encode()) % 2 == 0


def _buffer(source: Source[Any], _probe: Probe, stage: Stage) -> Source[Any]:
    return pipe(source, BufferBlock[Any](bounded_capacity=stage.capacity))


def _transform(source: Source[Any], probe: Probe, stage: Stage) -> Source[Any]:
    return pipe(source, _slow(probe, stage))


def _keyed(source: Source[Any], probe: Probe, stage: Stage) -> Source[Any]:
    return pipe(source, _slow(probe, stage, partition_by=_key_of))


def _slow(probe: Probe, stage: Stage, **more: Any) -> TransformBlock[Any, Any]:
    return TransformBlock(
        _look_up(probe),
        bounded_capacity=stage.capacity,
        max_degree_of_parallelism=stage.parallelism,
        **more,
    )


def _batch(source: Source[Any], _probe: Probe, stage: Stage) -> Source[Any]:
    batches = BatchBlock[Any](stage.parallelism, bounded_capacity=stage.parallelism)
    return pipe(source, batches, TransformManyBlock[Any, Any](list))


def _stream(source: Source[Any], probe: Probe, stage: Stage) -> Source[Any]:
    async def through(items: AsyncIterator[Any]) -> AsyncIterator[Any]:
        async for item in items:
            await probe.delay()
            yield item

    return pipe(source, StreamBlock[Any, Any](through, bounded_capacity=stage.capacity))


def _split(source: Source[Any], probe: Probe, stage: Stage) -> Source[Any]:
    end = BufferBlock[Any](bounded_capacity=stage.capacity)
    even, odd = _slow(probe, stage), _slow(probe, stage)
    source.link_to(even, _is_even)
    # Without a predicate of its own it would take what the other way is too full for.
    source.link_to(odd, lambda item: not _is_even(item))
    even.link_to(end)
    odd.link_to(end)
    return end


_PARTS: Final[dict[str, Callable[[Source[Any], Probe, Stage], Source[Any]]]] = {
    "buffer": _buffer,
    "transform": _transform,
    "keyed": _keyed,
    "batch": _batch,
    "stream": _stream,
    "split": _split,
}
