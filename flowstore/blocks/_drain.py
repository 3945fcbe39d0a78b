"""How a network finds out that it is at its end, idle, or stalled: plain functions over nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flowstore.blocks._errors import StalledNetworkError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from flowstore.blocks._link import Link
    from flowstore.blocks._node import Node

__all__ = ["close_heads", "close_idle_cycles", "is_idle", "is_settled", "stalled", "waits_outside"]


def close_heads(nodes: Iterable[Node]) -> None:
    """Complete every input that no link leads to: during a drain nobody will use it."""
    for node in tuple(nodes):
        for inlet in node.inlets:
            if not inlet.closed and not inlet.incoming:
                inlet.close()


def is_settled(nodes: Iterable[Node]) -> bool:
    """Tell whether the clock alone changes nothing."""
    return not any(node.timer_pending() for node in nodes if not node.ended)


def is_idle(nodes: Iterable[Node]) -> bool:
    """Tell whether, no task being active, there is nothing left to do."""
    return is_settled(nodes) and not any(node.is_busy() for node in nodes if not node.ended)


def close_idle_cycles(nodes: Iterable[Node]) -> bool:
    """Complete the blocks of cycles that are empty and that nothing outside feeds any more.

    A block in a cycle waits for its own end before it ends; only the network can see that.
    """
    found = False
    for node in nodes:
        if node.ended or node.closed:
            continue
        sources = _sources(node)
        if sources is not None and node in sources and not any(each.inside for each in sources):
            found = True
            for each in sources:
                each.complete()
    return found


def _sources(node: Node) -> set[Node] | None:
    """Find all that leads to a node; None if something of another network does."""
    found: set[Node] = set()
    todo = [node]
    while todo:
        for link in _incoming(todo.pop()):
            source = link.outlet.node
            if source.host is not node.host:
                return None
            if source not in found:
                found.add(source)
                todo.append(source)
    return found


def _incoming(node: Node) -> Iterator[Link]:
    for inlet in node.inlets:
        yield from inlet.incoming


def waits_outside(network: Any, nodes: Iterable[Node]) -> bool:
    """Tell whether a reader, or a block of another network, may still change something.

    A reader that is at work on an item will come back for more. One that is parked won't: where
    nothing moves, nobody will ever hand it anything.
    """
    for node in nodes:
        if node.ended:
            continue
        receivers = node.outlet.receivers if node.outlet is not None else ()
        if node.readers > sum(receiver.counted for receiver in receivers):
            return True
        links = [*_incoming(node), *(node.outlet.links if node.outlet is not None else ())]
        for link in links:
            for other in (link.outlet.node, link.inlet.node):
                if other.host is not None and other.host is not network and not other.ended:
                    return True
    return False


def stalled(network: str, nodes: Iterable[Node]) -> StalledNetworkError:
    """Tell which blocks hold what, and why it can't leave."""
    left = [node for node in nodes if not node.ended]
    holding = [node for node in left if node.inside] or left
    return StalledNetworkError(
        network,
        tuple(node.name for node in holding),
        tuple(_describe(node) for node in holding),
    )


def _describe(node: Node) -> str:
    counts = node.statistics()
    parts = {
        "input": counts.input,
        "running": counts.running,
        "held for order": counts.held_for_order,
        "output": counts.output,
    }
    held = ", ".join(f"{count} {what}" for what, count in parts.items() if count) or "nothing"
    links = node.outlet.links if node.outlet is not None else []
    targets = ", ".join(repr(link.inlet.node.name) for link in links) or "no link, no receiver"
    return f"{node.kind} {node.name!r}, {node.state.value}: holds {held}; gives to {targets}"
