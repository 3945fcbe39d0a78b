"""Verbs over several blocks: `pipe`, `run`, `encapsulate`, `choose`, `null_target`."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, overload

from flowstore.blocks._faces import (
    BlockFace,
    LinkFace,
    SourceFace,
    TargetFace,
    TargetVerbs,
    inlet_of,
    node_of,
    outlet_of,
)
from flowstore.blocks._inlet import Inlet
from flowstore.blocks._network import Network
from flowstore.blocks._node import Node
from flowstore.blocks._reading import Reading

if TYPE_CHECKING:
    from collections import deque

    from flowstore.blocks._link import Link
    from flowstore.blocks._protocols import Source, Target

__all__ = ["Encapsulation", "choose", "encapsulate", "null_target", "pipe", "run"]

A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
E = TypeVar("E")
F = TypeVar("F")
In_contra = TypeVar("In_contra", contravariant=True)
Out_co = TypeVar("Out_co", covariant=True)


class _Stage(Protocol[In_contra, Out_co]):
    """A block in the middle of a pipe, as far as typing goes: takes the one, gives the other."""

    async def send(self, item: In_contra) -> None: ...
    async def receive(self) -> Out_co: ...


class _Head(Protocol[Out_co]):
    async def receive(self) -> Out_co: ...


class _Sink(Protocol[In_contra]):
    async def send(self, item: In_contra) -> None: ...


class Encapsulation(TargetFace[In_contra], SourceFace[Out_co]):
    """Two ends of a part of a network, used as one block; made by `encapsulate` and `pipe`.

    Putting, completing and faulting go to the first, everything else is of the last.
    """

    def __init__(self, target: Any, source: Any) -> None:
        # Not a block of its own: it has no machine, only the two ends of others'.
        self._node = node_of(source)
        self._first = target
        self.ends = (*_ends_of(target), *_ends_of(source))

    @property
    def _inlet(self) -> Inlet:  # pyright: ignore[reportIncompatibleVariableOverride]  found when asked for: a pipe may begin with a source
        return inlet_of(self._first)

    def complete(self) -> None:
        """Complete the first block; what is inside runs to its end."""
        self._first.complete()

    def fault(self, error: BaseException) -> None:
        """Fault the first block.

        Raises:
            TypeError: `error` is no exception.
        """
        self._first.fault(error)


def _ends_of(block: Any) -> tuple[BlockFace, ...]:
    if isinstance(block, Encapsulation):
        return block.ends  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]  of any types
    return (block,) if isinstance(block, BlockFace) else ()


def encapsulate(target: Target[A], source: Source[B]) -> Encapsulation[A, B]:
    """Make one block of two ends: items go into `target` and come out of `source`.

    Raises:
        TypeError: one of them is no block.
    """
    return Encapsulation(target, source)


@overload
def pipe(a: _Stage[A, B], /) -> Encapsulation[A, B]: ...
@overload
def pipe(a: _Stage[A, B], b: _Stage[B, C], /) -> Encapsulation[A, C]: ...
@overload
def pipe(a: _Stage[A, B], b: _Stage[B, C], c: _Stage[C, D], /) -> Encapsulation[A, D]: ...
@overload
def pipe(
    a: _Stage[A, B], b: _Stage[B, C], c: _Stage[C, D], d: _Stage[D, E], /
) -> Encapsulation[A, E]: ...
@overload
def pipe(
    a: _Stage[A, B], b: _Stage[B, C], c: _Stage[C, D], d: _Stage[D, E], e: _Stage[E, F], /
) -> Encapsulation[A, F]: ...
@overload
def pipe(a: _Head[A], b: _Sink[A], /) -> Encapsulation[Any, Any]: ...
@overload
def pipe(a: _Head[A], b: _Stage[A, B], c: _Sink[B], /) -> Encapsulation[Any, Any]: ...
@overload
def pipe(
    a: _Head[A], b: _Stage[A, B], c: _Stage[B, C], d: _Sink[C], /
) -> Encapsulation[Any, Any]: ...
@overload
def pipe(
    a: _Head[A], b: _Stage[A, B], c: _Stage[B, C], d: _Stage[C, D], e: _Sink[D], /
) -> Encapsulation[Any, Any]: ...
@overload
def pipe(*blocks: _Head[Any] | _Sink[Any]) -> Encapsulation[Any, Any]: ...
def pipe(*blocks: Any) -> Encapsulation[Any, Any]:
    """Link blocks in order, each propagating its end to the next; returns their encapsulation.

    Raises:
        TypeError: no block was given, or one that gives nothing stands before another.
    """
    if not blocks:
        message = "pipe takes at least one block"
        raise TypeError(message)
    for source, target in itertools.pairwise(blocks):
        link_any(source, target)
    last = next((block for block in reversed(blocks) if isinstance(block, BlockFace)), blocks[-1])
    return Encapsulation(blocks[0], last)


def link_any(source: Any, target: Any) -> Link:
    """Link two blocks whose types aren't known.

    Raises:
        TypeError: `source` gives nothing.
    """
    if not isinstance(source, LinkFace):
        outlet_of(source)  # says what is wrong with it
    link: Link = source.link_to(target)  # pyright: ignore[reportUnknownMemberType]  of any types
    return link


async def run(*blocks: Any) -> None:
    """Pipe the blocks and run them in a network to the end.

    Raises:
        ExceptionGroup: of what went wrong, each fault once.
        TypeError: as for `pipe`.
    """
    line = pipe(*blocks)
    async with Network(name="run") as network:
        network.add(line)


async def choose(*sources: Source[A]) -> tuple[int, A]:
    """Take one item from whichever source has one first; argument order decides among several.

    Always a checkpoint. Cancelled, nothing was taken.

    Returns:
        The index of the source among the arguments, and the item.

    Raises:
        trio.EndOfChannel: all sources have completed.
        BlockFaultedError: one has faulted.
        BlockClosedError: one was cancelled and the others are at their end.
        TypeError: no source was given, or something gives nothing.
    """
    if not sources:
        message = "choose takes at least one source"
        raise TypeError(message)
    return await Reading(tuple(map(outlet_of, sources))).receive()


class _NullInlet(Inlet):
    """Takes everything and keeps nothing."""

    __slots__ = ()

    def room(self) -> float:
        return math.inf

    def admit(self, item: Any) -> None:  # noqa: ARG002  dropped, that is its purpose
        self.node.accepted += 1
        self.node.finished += 1

    def admit_from(self, items: deque[Any], count: int) -> None:
        self.node.accepted += count
        self.node.finished += count
        if count == len(items):
            items.clear()
        else:
            for _ in range(count):
                items.popleft()

    def close(self) -> None:
        """Go on taking: there is nothing that could end."""


class _NullNode(Node):
    """The machine behind `null_target`: it never ends, and no network waits for it."""

    def __init__(self) -> None:
        super().__init__("null_target", math.inf)
        self.inlets = (_NullInlet(self),)
        self.kind = "null_target"
        self.adoptable = False

    def room(self) -> float:
        return math.inf

    def counts(self) -> tuple[int, int, int]:
        return 0, 0, 0

    def clear(self) -> None:
        """Do nothing: nothing is held."""

    def arrived(self) -> None:
        """Do nothing: the item is gone."""

    def fault(self, error: BaseException) -> None:
        """Do nothing: whoever faulted has told its own network."""

    def end(self, state: Any, cause: BaseException | None = None) -> None:
        """Do nothing: it takes items for ever."""


class NullTarget(TargetVerbs[In_contra]):
    """Takes every item and drops it."""

    def __init__(self) -> None:
        self._inlet = _NullNode().inlets[0]

    def complete(self) -> None:
        """Do nothing: it takes items for ever."""

    def fault(self, error: BaseException) -> None:
        """Do nothing: it takes items for ever."""


def null_target() -> NullTarget[Any]:
    """Make a target that takes every item and drops it, before and after completion.

    It needs no network, and no network waits for it.
    """
    return NullTarget()
