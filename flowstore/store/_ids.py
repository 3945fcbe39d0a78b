"""Event identities."""

import os
import time
from uuid import UUID

__all__ = ["event_id_at", "new_event_id"]


def new_event_id() -> UUID:
    """Draw an identity that sorts by the millisecond it was drawn in: a version 7 UUID.

    Neighbours in time are neighbours in the index, which random ones would scatter.
    """
    return event_id_at(time.time_ns() // 1_000_000, int.from_bytes(os.urandom(10), "big"))


def event_id_at(milliseconds: int, bits: int) -> UUID:
    """Make an identity of the milliseconds since 1970 and 80 bits, of which six are overwritten."""
    value = (milliseconds << 80) | bits
    value = (value & ~(0xF << 76)) | (0x7 << 76)
    value = (value & ~(0x3 << 62)) | (0x2 << 62)
    return UUID(int=value)
