"""Events as JSON lines, and other sources of an import, read in parts."""

import json
import os
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    Awaitable,
    Callable,
    Iterable,
    Sequence,
)
from contextlib import aclosing, asynccontextmanager
from itertools import islice
from typing import Any, Final, Literal, TextIO, TypeAlias, cast

import trio

from flowstore.errors import InvalidEventError
from flowstore.store._engine import Engine
from flowstore.store._import import EVENTS_AT_ONCE, EVENTS_IN_PART
from flowstore.store._incoming import Incoming, Intake, incoming_from_json
from flowstore.store._statements import Row, Statement, fetch_rows

__all__ = [
    "ExportTarget",
    "ImportSource",
    "each_of",
    "export_all",
    "is_at_hand",
    "read_parts",
    "write_lines",
]

ExportTarget: TypeAlias = "str | os.PathLike[str] | TextIO"
ImportSource: TypeAlias = (
    "str | os.PathLike[str] | TextIO | Iterable[tuple[Any, Any]] | AsyncIterable[tuple[Any, Any]]"
)

_CHARACTERS_AT_ONCE: Final = 4_000_000
_LINES: Final = """
select e.sequence, json_build_object(
    'sequence', e.sequence, 'id', e.id, 'stream_id', e.stream_id, 'version', e.version,
    'type', e.type, 'timestamp', e.timestamp, 'headers', e.headers,
    'correlation_id', e.correlation_id, 'causation_id', e.causation_id, 'user_name', e.user_name,
    'tenant_id', nullif(e.tenant_id, '*DEFAULT*'), 'stream_type', s.type,
    'archived', e.archived, 'skipped', e.skipped, 'data', e.data
)::text
from {schema}.events e
join {schema}.streams s on s.tenant_id = e.tenant_id and s.id = e.stream_id
where e.sequence > %s and e.sequence <= %s
order by e.sequence limit %s"""


async def export_all(engine: Engine, target: ExportTarget, mark: int) -> int:
    """Write every event up to a mark, a line each, and give their number."""

    async def read(floor: int) -> Sequence[Row]:
        statement = Statement(engine.sql.statement(_LINES), (floor, mark, EVENTS_AT_ONCE))
        return await fetch_rows(engine.lend, statement)

    return await write_lines(target, read)


async def write_lines(target: ExportTarget, read: Callable[[int], Awaitable[Sequence[Row]]]) -> int:
    """Write lines, and give their number.

    Args:
        target: a path, or an open file.
        read: gives sequence and line of events above a sequence, in order; none ends it.
    """
    floor, count = 0, 0
    async with _opened(target, "w") as file:
        while True:
            rows = await read(floor)
            if not rows:
                return count
            await file.write("".join(f"{line}\n" for _, line in rows))
            floor, count = rows[-1][0], count + len(rows)


async def read_parts(
    engine: Engine, tenant_id: str | None, source: ImportSource
) -> AsyncGenerator[Sequence[Incoming]]:
    """Yield what is to be imported, ready to be stored, in parts.

    Raises:
        InvalidEventError: something can't be stored.
        OSError: the file can't be read.
    """
    if isinstance(source, (str, os.PathLike)) or hasattr(source, "read"):
        file = cast("ExportTarget", source)
        async with aclosing(_from_lines(engine, tenant_id, file)) as chunks:
            async for chunk in chunks:
                yield chunk
        return
    pairs = cast("Iterable[Any] | AsyncIterable[Any]", source)
    take = Intake(engine, tenant_id).take
    if isinstance(pairs, Iterable) and not isinstance(pairs, AsyncIterable):
        waiting = iter(pairs)
        while part := [take(pair) for pair in islice(waiting, EVENTS_IN_PART)]:
            yield part
        return
    gathered: list[Incoming] = []
    async with aclosing(each_of(pairs)) as each:
        async for pair in each:
            gathered.append(take(pair))
            if len(gathered) == EVENTS_IN_PART:
                yield gathered
                gathered = []
    if gathered:
        yield gathered


def is_at_hand(source: ImportSource) -> bool:
    """Tell whether nothing has to be waited for while a source is read."""
    is_file = isinstance(source, (str, os.PathLike)) or hasattr(source, "read")
    return not is_file and not isinstance(source, AsyncIterable)


async def each_of(items: Iterable[Any] | AsyncIterable[Any]) -> AsyncGenerator[Any]:
    """Yield what is given plain or async."""
    if isinstance(items, AsyncGenerator):
        async with aclosing(cast("AsyncGenerator[Any]", items)) as closing:
            async for item in closing:
                yield item
    elif isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item


async def _from_lines(
    engine: Engine, tenant_id: str | None, source: ExportTarget
) -> AsyncGenerator[Sequence[Incoming]]:
    number = 0
    async with _opened(source, "r") as file:
        while lines := await file.readlines(_CHARACTERS_AT_ONCE):
            places = enumerate(lines, number + 1)
            number += len(lines)
            yield [
                incoming_from_json(engine, tenant_id, _parsed(line, place), f"line {place}")
                for place, line in places
                if line.strip()
            ]


def _parsed(line: str, place: int) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as cause:
        raise InvalidEventError(f"line {place} isn't JSON: {cause}") from cause


@asynccontextmanager
async def _opened(target: ExportTarget, mode: Literal["r", "w"]) -> AsyncGenerator[Any]:
    """Open a file by its path, to be closed at the end; leave an open one open."""
    if isinstance(target, (str, os.PathLike)):
        async with await trio.open_file(target, mode, encoding="utf-8") as file:
            yield file
    else:
        yield target if hasattr(target, "wrapped") else trio.wrap_file(target)  # or trio's already
