"""The worklist on which linked blocks settle what a change at one of them means for the others."""

from __future__ import annotations

import contextlib
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator

    from flowstore.blocks._node import Node

__all__ = ["Engine", "engine_of", "held", "kick", "merge"]


class Engine:
    """A worklist of nodes to visit, shared by all nodes that are linked with each other.

    Moving an item frees a place, a free place lets an upstream block move one, a block whose last
    item has left completes and completes its targets: done by calls, a chain of a few hundred
    blocks would overflow the stack, and a predicate that posts would meet a half-moved item. So a
    change only puts its node on the list, and whoever came first works the list off.
    """

    __slots__ = ("into", "running", "todo")

    def __init__(self) -> None:
        self.todo: deque[Node] = deque()
        self.running = False
        self.into: Engine | None = None

    def work_off(self) -> None:
        """Visit what is listed, and what that lists, until nothing is."""
        if self.running:
            return
        self.running = True
        todo = self.todo
        try:
            while todo:
                node = todo.popleft()
                node.listed = False
                node.visit()
        finally:
            self.running = False


def engine_of(node: Node) -> Engine:
    """Find the node's engine, through those that were merged into others."""
    engine = node.engine
    if engine.into is not None:
        while engine.into is not None:
            engine = engine.into
        node.engine = engine
    return engine


def kick(node: Node) -> None:
    """Have the node visited: now, or after what is being worked off already."""
    engine = engine_of(node)
    if not node.listed:
        node.listed = True
        engine.todo.append(node)
    if not engine.running:
        engine.work_off()


def merge(one: Node, other: Node) -> None:
    """Give two linked nodes one worklist."""
    left, right = engine_of(one), engine_of(other)
    if left is right:
        return
    if right.running:
        left, right = right, left
    right.into = left
    left.todo.extend(right.todo)
    right.todo.clear()
    if right.running:
        # Both are being worked off, one inside the other's visit: what the inner one has left is
        # on the outer one's list now, and its own loop ends with an empty list.
        left.running = True


@contextlib.contextmanager
def held(node: Node) -> Generator[None]:
    """Put off all visits until the body is through, so that a group is taken in one step."""
    engine = engine_of(node)
    if engine.running:
        yield
        return
    engine.running = True
    try:
        yield
    finally:
        engine.running = False
        engine.work_off()
