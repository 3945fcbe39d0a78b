"""How the command line fails: one line on stderr, and an exit status."""

from collections.abc import Iterator
from typing import cast

from flowstore.errors import FlowstoreError

__all__ = ["EXIT_DISAGREES", "EXIT_INPUT", "EXIT_STORE", "InputError", "leaves", "one_line"]

EXIT_DISAGREES = 1
EXIT_INPUT = 2  # as argparse's own status for a wrong command line
EXIT_STORE = 3


class InputError(FlowstoreError):
    """What the command line named can't be read: no repository, no history, no such file."""


def leaves(error: BaseException) -> Iterator[BaseException]:
    """Yield the errors that a group of groups is made of, in order; a plain error is its own."""
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        for member in group.exceptions:
            yield from leaves(member)
    else:
        yield error


def one_line(error: BaseException) -> str:
    """Put an error into one line, without the line breaks of its message."""
    return " ".join(str(error).split()) or type(error).__name__
