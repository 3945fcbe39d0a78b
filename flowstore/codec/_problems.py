"""Why a JSON value doesn't fit a class, in words."""

from typing import Any, Final

from cattrs import transform_error
from cattrs.v import format_exception

__all__ = ["MisfitError", "problems"]


_VAGUE: Final = frozenset({"invalid value", "unknown error"})


class MisfitError(ValueError):
    """A value doesn't fit, and the message says where and why; never leaves this room."""


def problems(cause: Exception) -> str:
    """Say what a converter found wrong, and where."""
    return "; ".join(transform_error(cause, format_exception=_format))


def _format(error: BaseException, kind: Any) -> str:
    if isinstance(error, MisfitError):
        return str(error)
    told = format_exception(error, kind)
    # What a class' own validator says is the better half of the story.
    return f"{told} ({error})" if told in _VAGUE and str(error) else told
