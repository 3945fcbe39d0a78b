"""Pictures of a network with its present counts, as text in Mermaid's and Graphviz' languages."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from flowstore.blocks._link import Link
    from flowstore.blocks._node import Node

__all__ = ["dot", "mermaid"]


def mermaid(nodes: Iterable[Node]) -> str:
    """Draw a flowchart; a block that is full is red, a link on which its source waits is thick."""
    nodes, names = _numbered(nodes)
    lines = ["flowchart LR"]
    for node in nodes:
        label = "<br/>".join(_mermaid_text(line) for line in _label(node))
        lines.append(f'    {names[node]}["{label}"]')
    for link in _links(nodes):
        arrow = "==>" if link.waiting else "-->"
        label = _mermaid_text(_link_label(link))
        lines.append(f'    {names[link.outlet.node]} {arrow}|"{label}"| {names[link.inlet.node]}')
    full = [names[node] for node in nodes if _is_full(node)]
    if full:
        lines.append("    classDef full fill:#fdd,stroke:#c00")
        lines.append(f"    class {','.join(full)} full")
    return "\n".join(lines) + "\n"


def dot(nodes: Iterable[Node]) -> str:
    """Draw a digraph; a block that is full is red, a link on which its source waits is bold."""
    nodes, names = _numbered(nodes)
    lines = ["digraph network {", "    rankdir=LR;", "    node [shape=box];"]
    for node in nodes:
        label = "\\n".join(_dot_text(line) for line in _label(node))
        color = ', color="#cc0000", style=filled, fillcolor="#ffdddd"' if _is_full(node) else ""
        lines.append(f'    {names[node]} [label="{label}"{color}];')
    for link in _links(nodes):
        style = ", style=bold" if link.waiting else ""
        label = _dot_text(_link_label(link))
        source, target = names[link.outlet.node], names[link.inlet.node]
        lines.append(f'    {source} -> {target} [label="{label}"{style}];')
    return "\n".join([*lines, "}"]) + "\n"


def _numbered(nodes: Iterable[Node]) -> tuple[list[Node], dict[Node, str]]:
    """Give every node an identifier, and those at the other end of links to elsewhere, too."""
    found = dict.fromkeys(nodes)
    for node in tuple(found):
        if node.outlet is not None:
            found.update(dict.fromkeys(link.inlet.node for link in node.outlet.links))
    return list(found), {node: f"b{number}" for number, node in enumerate(found)}


def _links(nodes: list[Node]) -> Iterator[Link]:
    for node in nodes:
        if node.outlet is not None:
            yield from (link for link in node.outlet.links if link.inlet.node in nodes)


def _label(node: Node) -> list[str]:
    counts = node.statistics()
    capacity = "unbounded" if node.capacity == math.inf else f"{node.capacity}"
    inside = f"inside {counts.inside} of {capacity}: {counts.input} in, {counts.running} running"
    if counts.held_for_order:
        inside += f", {counts.held_for_order} held"
    lines = [node.name if node.name == node.kind else f"{node.name} ({node.kind})"]
    lines.append(f"{counts.state.value}, {inside}, {counts.output} out")
    done = f"accepted {counts.accepted}, finished {counts.finished}"
    if counts.failed:
        done += f", failed {counts.failed}"
    if counts.discarded:
        done += f", discarded {counts.discarded}"
    lines.append(done)
    if counts.waiting_senders:
        lines.append(f"{counts.waiting_senders} waiting for room")
    return lines


def _link_label(link: Link) -> str:
    return f"{link.delivered}, waits for room" if link.waiting else f"{link.delivered}"


def _is_full(node: Node) -> bool:
    return not node.ended and node.room() <= 0


def _mermaid_text(text: str) -> str:
    return (
        text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;").replace(">", "&gt;")
    )


def _dot_text(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")
