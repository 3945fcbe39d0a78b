"""Which of an event's particulars a store keeps."""

import attrs

__all__ = ["EventMetadata"]


@attrs.frozen
class EventMetadata:
    """Choose what a store records about its events beside their data.

    Everything is kept unless it is switched off: what was said of an event can't be brought back.
    What is switched off reads as None, or as no headers.

    Attributes:
        headers: keep the headers of sessions and events.
        correlation_id: keep what an event belongs to.
        causation_id: keep what caused an event.
        user_name: keep who caused an event.
    """

    headers: bool = True
    correlation_id: bool = True
    causation_id: bool = True
    user_name: bool = True
