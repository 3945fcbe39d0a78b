"""Which classes can't be an event's."""

import builtins
from types import NoneType

__all__ = ["is_builtin"]


def is_builtin(kind: type) -> bool:
    """Tell whether a class is Python's own, such as `dict`, and so says nothing of what happened.

    By the name it has among the builtins, not by its module: a class made by `exec` without a
    module name claims to be of theirs.
    """
    return kind is NoneType or vars(builtins).get(kind.__name__) is kind
