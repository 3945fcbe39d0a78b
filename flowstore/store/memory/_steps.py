"""The places in a commit where it may be held, or fail."""

from collections.abc import Awaitable, Callable
from typing import Literal, TypeAlias

import trio

__all__ = ["CommitStep", "Pause", "give_way"]

CommitStep: TypeAlias = Literal["before numbers", "numbers drawn", "before commit", "committed"]
"""A place in a transaction: its streams are locked and at the expected versions; its events have
sequences, which nobody sees; everything is written, which nobody sees; everybody sees it."""

Pause: TypeAlias = Callable[[CommitStep], Awaitable[None]]


async def give_way(_step: CommitStep) -> None:
    """Let other tasks run."""
    await trio.lowlevel.checkpoint()
