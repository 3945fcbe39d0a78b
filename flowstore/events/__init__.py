"""Events as plain values: what was appended, where it stands, how it travels in pages."""

from flowstore.events._actions import ANY, NO_STREAM, NewEvent, StreamAction, check_readable
from flowstore.events._compacted import Compacted
from flowstore.events._event import (
    Archived,
    Event,
    EventStream,
    RawEvent,
    StreamId,
    StreamState,
    recorded_event,
)
from flowstore.events._grouping import PlainKey, group_by_stream_id, in_sequence, plain_key
from flowstore.events._kinds import LONGEST_NAME, is_builtin
from flowstore.events._pages import DeadLetter, EventBatch, EventFailure, EventPage

__all__ = [
    "ANY",
    "LONGEST_NAME",
    "NO_STREAM",
    "Archived",
    "Compacted",
    "DeadLetter",
    "Event",
    "EventBatch",
    "EventFailure",
    "EventPage",
    "EventStream",
    "NewEvent",
    "PlainKey",
    "RawEvent",
    "StreamAction",
    "StreamId",
    "StreamState",
    "check_readable",
    "group_by_stream_id",
    "in_sequence",
    "is_builtin",
    "plain_key",
    "recorded_event",
]
