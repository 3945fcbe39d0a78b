"""Taking errors out of the groups that nurseries put around them."""

from collections.abc import Sequence
from typing import cast

__all__ = ["bare"]


def bare(error: Exception) -> Exception:
    """Take a single error out of the groups around it."""
    members: Sequence[Exception] = (error,)
    while len(members) == 1:
        error = members[0]
        members = _members(error)
    return error


def _members(error: Exception) -> Sequence[Exception]:
    if isinstance(error, ExceptionGroup):
        return cast("ExceptionGroup[Exception]", error).exceptions
    return ()
