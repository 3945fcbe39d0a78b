"""Linking: the books of both sides, one worklist, one network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

from flowstore.blocks._engine import merge
from flowstore.blocks._link import Link, Unmatched

if TYPE_CHECKING:
    from collections.abc import Callable

    from flowstore.blocks._inlet import Inlet
    from flowstore.blocks._outlet import BaseOutlet

__all__ = ["connect"]


def connect(
    outlet: BaseOutlet,
    inlet: Inlet,
    predicate: Callable[[Any], object] | None,
    *,
    propagate: bool,
    max_messages: int | None,
    append: bool,
    unmatched: Unmatched,
) -> Link:
    """Make a link and let what is there flow; see `link_to` for the arguments."""
    if max_messages is not None and max_messages < 1:
        message = f"max_messages has to be at least 1, or None for no limit: {max_messages!r}"
        raise ValueError(message)
    if unmatched not in get_args(Unmatched):
        message = f"unmatched has to be one of {get_args(Unmatched)}: {unmatched!r}"
        raise ValueError(message)
    link = Link(
        outlet,
        inlet,
        predicate,
        propagate=propagate,
        max_messages=max_messages,
        unmatched=unmatched,
    )
    source, target = outlet.node, inlet.node
    merge(source, target)
    inlet.add_source(link)
    if target.host is None and source.host is not None:
        source.host.adopt(target)
    elif source.host is None and target.host is not None:
        target.host.adopt(source)
    if source.ended:
        outlet.link_after_end(link)
    elif inlet.closed:
        link.close()
    else:
        outlet.add_link(link, append=append)
    return link
