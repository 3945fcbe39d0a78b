"""What names may be like, and which classes can't be an event's."""

import builtins
from types import NoneType
from typing import Final

__all__ = ["LONGEST_NAME", "is_builtin"]

LONGEST_NAME: Final = 63
"""Bytes that PostgreSQL keeps of a name (NAMEDATALEN - 1), and so the most that any name here has."""


def is_builtin(kind: type) -> bool:
    """Tell whether a class is Python's own, such as `dict`, and so says nothing of what happened.

    By the name it has among the builtins, not by its module: a class made by `exec` without a
    module name claims to be of theirs.
    """
    return kind is NoneType or vars(builtins).get(kind.__name__) is kind
