"""A stream that was read in order to be written to."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import attrs

from flowstore.events import StreamAction, StreamId

__all__ = ["StreamHandle"]

_T = TypeVar("_T")


@attrs.define(eq=False)
class StreamHandle(Generic[_T]):
    """Hold an aggregate with the right to append to its stream, if it stays as it is.

    Attributes:
        stream_id: the stream's identity.
        aggregate: as of `starting_version`; None if there is none. Appending doesn't change it.
        starting_version: the stream's version when it was read; 0 if it doesn't exist.
        current_version: what its version will be once what was appended here is committed.
    """

    _append: Callable[..., StreamAction] = attrs.field(repr=False)
    stream_id: StreamId
    aggregate: _T | None
    starting_version: int
    _queued_before: int = attrs.field(default=0, repr=False, kw_only=True, alias="queued_before")
    current_version: int = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.current_version = self.starting_version

    def append(self, *events: Any) -> StreamAction:
        """Queue events; the commit fails if anybody else has appended since the stream was read.

        Raises:
            EmptyStreamError: no event is given.
            InvalidEventError: an event can't be stored.
            RegistrationError: an event type's name is another type's.
        """
        expected = self.current_version + self._queued_before
        action = self._append(self.stream_id, *events, expected_version=expected)
        self.current_version += len(events)
        return action
