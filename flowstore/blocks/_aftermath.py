"""What leaves a network at its end: faults and errors in one flat group, echoes left out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import trio

from flowstore.blocks._errors import BlockClosedError, BlockFaultedError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["gather", "has_cancellation", "is_echo", "only_cancellation"]


def has_cancellation(error: BaseException) -> bool:
    """Tell whether a scope around the network has a part in the error."""
    return _part(error, _is_cancelled) is not None


def only_cancellation(error: BaseException) -> BaseException | None:
    """Give the part of an error that has to reach a scope around the network."""
    return _part(error, _is_cancelled)


def is_echo(error: BaseException, faults: Sequence[BaseException], *, cancelled: bool) -> bool:
    """Tell whether an error only tells the body of what the network raises, or was told to do."""
    if not isinstance(error, BlockClosedError | BlockFaultedError):
        return False
    cause = error.__cause__
    return any(cause is fault for fault in faults) or (cancelled and cause is None)


def gather(
    faults: Sequence[BaseException],
    body: BaseException | None,
    nursery: BaseException | None,
    echo: Callable[[BaseException], bool],
) -> list[BaseException]:
    """List what is to be raised, each error once and in the order it happened.

    Args:
        faults: of the blocks.
        body: what the body raised, unless it went through the nursery.
        nursery: what the nursery raised; its own group is unwrapped.
        echo: tells which errors to leave out, beside cancellation.
    """
    raised: list[BaseException] = [] if body is None else [body]
    if isinstance(nursery, BaseExceptionGroup):
        raised += _members(nursery)
    elif nursery is not None:
        raised.append(nursery)
    errors = list(faults)
    for each in raised:
        kept = _part(each, lambda error: not _is_cancelled(error) and not echo(error))
        if kept is not None and all(kept is not known for known in errors):
            errors.append(kept)
    return errors


def _part(error: BaseException, wanted: Callable[[BaseException], bool]) -> BaseException | None:
    """Give an error, or the part of a group, that consists of wanted leaves; None for nothing."""
    if not isinstance(error, BaseExceptionGroup):
        return error if wanted(error) else None
    members = _members(error)
    kept = [part for part in (_part(member, wanted) for member in members) if part is not None]
    if len(kept) == len(members) and all(map(_same, kept, members)):
        return cast("BaseException", error)
    return cast("Any", error).derive(kept) if kept else None


def _members(group: Any) -> list[BaseException]:
    return list(group.exceptions)


def _same(one: BaseException, other: BaseException) -> bool:
    return one is other


def _is_cancelled(error: BaseException) -> bool:
    return isinstance(error, trio.Cancelled)
