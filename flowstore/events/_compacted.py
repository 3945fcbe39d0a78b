"""One event in the place of many."""

from collections.abc import Callable  # noqa: TC003 - cattrs resolves the annotations at run time
from typing import Any, TypeVar

import attrs

from flowstore.errors import InvalidEventError

__all__ = ["Compacted"]

_T = TypeVar("_T")


@attrs.frozen
class Compacted:
    """Stand in a stream for its events up to this one, by what had come of them.

    It has the version, sequence and time of the last event that it replaces: its version tells how
    many they were. Folding begins with it, for the class that the stream was compacted to.

    Attributes:
        aggregate: the name of that class, in snake case.
        state: the aggregate after the last event that was replaced, as a JSON value.
    """

    aggregate: str
    state: Any = attrs.field(hash=False)
    _restore: "Callable[[Compacted, type[Any]], Any] | None" = attrs.field(
        default=None, eq=False, repr=False, kw_only=True, alias="restore"
    )

    def restored(self, aggregate: type[_T]) -> _T:
        """Make the aggregate, anew with each call.

        Raises:
            InvalidEventError: the stream was compacted to another class, or the state doesn't fit
                the class any more; or this wasn't read from a store.
        """
        if self._restore is None:
            raise InvalidEventError(
                f"this {self.aggregate!r} wasn't read from a store, and only a store's codec knows"
                " what its JSON means"
            )
        return self._restore(self, aggregate)
