"""Waiting to put items into a block, one or many, without being passed."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

import trio

from flowstore.blocks._engine import kick
from flowstore.blocks._inlet import STEP, Inlet, Sender
from flowstore.blocks._node import NO_ITEM

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["send_many", "send_slowly"]


async def send_slowly(inlet: Inlet, item: Any) -> None:
    """Wait for room, the item in hand; the caller has made the first checkpoint."""
    if inlet.closed:
        await trio.lowlevel.cancel_shielded_checkpoint()
        raise inlet.closed_error()
    _refuse_own_task(inlet)
    sender = Sender((item,))
    inlet.waiters.append(sender)
    await _wait_for_room(inlet, sender)
    if sender.error is not None:
        raise sender.error


async def send_many(inlet: Inlet, items: Iterable[Any]) -> None:
    """Put items in, keeping one place in the queue from the first to the last."""
    await trio.lowlevel.checkpoint_if_cancelled()
    source = iter(items)
    following = next(source, NO_ITEM)
    sender = Sender(())
    inlet.waiters.append(sender)
    try:
        while following is not NO_ITEM and not inlet.closed:
            sender.items.append(following)
            sender.items.extend(islice(source, STEP - 1))
            following = next(source, NO_ITEM)
            sender.more = following is not NO_ITEM
            kick(inlet.node)
            if sender.items and not inlet.closed:
                _refuse_own_task(inlet)
                await _wait_for_room(inlet, sender)
            elif sender.more:
                await trio.lowlevel.checkpoint()
    finally:
        if sender in inlet.waiters:
            inlet.waiters.remove(sender)
            kick(inlet.node)
    await trio.lowlevel.cancel_shielded_checkpoint()
    if sender.items or following is not NO_ITEM:
        raise inlet.closed_error(sender.accepted)


async def _wait_for_room(inlet: Inlet, sender: Sender) -> None:
    """Park until the items in the sender's hand have been taken, or never will be."""
    sender.task = trio.lowlevel.current_task()

    def abort(_raise: object) -> trio.lowlevel.Abort:
        sender.task = None
        inlet.waiters.remove(sender)
        kick(inlet.node)
        return trio.lowlevel.Abort.SUCCEEDED

    await trio.lowlevel.wait_task_rescheduled(abort)


def _refuse_own_task(inlet: Inlet) -> None:
    node = inlet.node
    if trio.lowlevel.current_task() in node.tasks:
        message = (
            f"the function of block {node.name!r} sends to its own block, which is full, and would"
            " wait for itself for ever: use post(), or a larger bounded_capacity"
        )
        raise RuntimeError(message)
