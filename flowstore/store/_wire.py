"""Values in PostgreSQL's binary format, as `Connection.fetch_row` gives them."""

from datetime import UTC, datetime, timedelta
from struct import unpack_from
from typing import Final

__all__ = ["number", "numbers", "time"]

_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
_FIRST: Final = 24
"""Where an array's first number stands: dimensions, whether there are nulls, the elements' type, how
many, the lower bound and the number's size before it, four bytes each."""


def number(raw: bytes) -> int:
    """Read a bigint."""
    return int.from_bytes(raw, "big", signed=True)


def numbers(raw: bytes) -> list[int]:
    """Read an array of bigint in one dimension and without nulls."""
    count = (len(raw) - _FIRST + 4) // 12
    return list(unpack_from("!" + "q4x" * (count - 1) + "q", raw, _FIRST)) if count > 0 else []


def time(raw: bytes) -> datetime:
    """Read a timestamptz, in UTC."""
    return _EPOCH + timedelta(microseconds=number(raw))
