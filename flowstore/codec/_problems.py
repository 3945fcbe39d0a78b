"""Why a JSON value doesn't fit a class, in words."""

from typing import Any

from cattrs import transform_error
from cattrs.v import format_exception

__all__ = ["MisfitError", "problems"]


class MisfitError(ValueError):
    """A value doesn't fit, and the message says where and why; never leaves this room."""


def problems(cause: Exception) -> str:
    """Say what a converter found wrong, and where."""
    return "; ".join(transform_error(cause, format_exception=_format))


def _format(error: BaseException, kind: Any) -> str:
    return str(error) if isinstance(error, MisfitError) else format_exception(error, kind)
