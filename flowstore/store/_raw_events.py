"""Rows of events as `Connection.fetch_raw` gives them, read as psycopg's cursors read them."""

from collections.abc import Callable
from typing import Any, TypeAlias, cast
from uuid import UUID

from flowstore.postgres import Connection, RawRow
from flowstore.store._wire import number, time

__all__ = ["event_reader", "place_and_size"]

_Read: TypeAlias = Callable[[bytes], Any]


def event_reader(connection: Connection, *, has_text_ids: bool) -> Callable[[RawRow], list[Any]]:
    """Make what reads the columns of an event, in the order that `decode_row` takes them.

    Columns after those are left out.
    """
    encoding = connection.info.encoding

    def text(raw: bytes) -> str:
        return raw.decode(encoding)

    stream_id = text if has_text_ids else _uuid
    readers: tuple[_Read, ...] = (
        *(number, _uuid, stream_id, number, text, text, time),
        *(text, text, text, text, text),
    )

    def read(row: RawRow) -> list[Any]:
        return [
            None if raw is None else reader(raw) for reader, raw in zip(readers, row, strict=False)
        ]

    return read


def place_and_size(row: RawRow) -> tuple[int, int]:
    """Give an event's sequence, and how many bytes of JSON it has."""
    sequence, data, headers = cast("bytes", row[0]), row[5], row[7]
    return number(sequence), len(data or b"") + len(headers or b"")


def _uuid(raw: bytes) -> UUID:
    return UUID(bytes=raw)
