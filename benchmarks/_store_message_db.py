"""Appending as message-db does it: a function in the server, written here after what it documents.

Its `write_message` takes a transaction's advisory lock on the stream's category, looks the stream's
version up, compares the expected one, and inserts one message at the next position. All streams here
are of one category, as all projects of an application are: its writers take turns.
"""

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any
from uuid import uuid4

import attrs
import psycopg
from _store_cases import Bench, Drawn, Entry, Job
from _store_raw import in_threads
from _store_work import APPENDS, Batch

CREATE = """
create schema if not exists message_db;
create table if not exists message_db.messages (
    global_position bigserial primary key,
    position bigint not null,
    time timestamp not null default (now() at time zone 'utc'),
    stream_name text not null,
    type text not null,
    data jsonb,
    metadata jsonb,
    id uuid not null default gen_random_uuid()
);
create or replace function message_db.category(stream_name text) returns text
language sql immutable as $$ select split_part(stream_name, '-', 1) $$;
create unique index if not exists messages_id on message_db.messages (id);
create unique index if not exists messages_stream on message_db.messages (stream_name, position);
create index if not exists messages_category on message_db.messages (
    message_db.category(stream_name), global_position,
    message_db.category(metadata ->> 'correlationStreamName')
);
create or replace function message_db.get_stream_version(p_stream text) returns bigint
language sql stable as $$
    select max(position) from message_db.messages where stream_name = p_stream
$$;
create or replace function message_db.write_message(
    p_id uuid, p_stream text, p_type text, p_data jsonb, p_metadata jsonb, p_expected bigint
) returns bigint language plpgsql volatile as $$
declare
    v_found bigint;
begin
    perform pg_advisory_xact_lock(
        left('x' || md5(message_db.category(p_stream)), 17)::bit(64)::bigint
    );
    v_found := coalesce(message_db.get_stream_version(p_stream), -1);
    if p_expected is not null and p_expected <> v_found then
        raise exception 'Wrong expected version: % (Stream: %, Stream Version: %)',
            p_expected, p_stream, v_found;
    end if;
    insert into message_db.messages (id, stream_name, position, type, data, metadata)
    values (p_id, p_stream, v_found + 1, p_type, p_data, p_metadata);
    return v_found + 1;
end
$$;
"""
WRITE = "select message_db.write_message(%s, %s, %s, %s, null, %s)"


def appending(key: str) -> Callable[[Bench], AbstractAsyncContextManager[Job]]:
    @asynccontextmanager
    async def opened(bench: Bench) -> AsyncIterator[Job]:
        drawn, work = Drawn(bench, key), list[Callable[[], None]]()
        connections = [bench.connect() for _ in range(APPENDS[key].writers)]
        connections[0].execute(CREATE)

        def prepare() -> None:
            drawn.draw()
            work[:] = [
                partial(_append, connection, [_rows(batch) for batch in share])
                for connection, share in zip(connections, drawn.shares, strict=True)
            ]

        async def run() -> None:
            await in_threads(work)

        yield Job(run, drawn.count, prepare, table="message_db.messages")
        for connection in connections:
            connection.close()

    return opened


def _rows(batch: Batch) -> list[tuple[Any, ...]]:
    stream = f"project-{batch.stream_id}"
    return [
        (uuid4(), stream, type(event).__name__, json.dumps(attrs.asdict(event)), version)
        for version, event in enumerate(batch.events, start=batch.version - 1)
    ]


def _append(connection: psycopg.Connection, batches: Sequence[Sequence[tuple[Any, ...]]]) -> None:
    for rows in batches:
        if len(rows) == 1:
            connection.execute(WRITE, rows[0])
        else:
            with connection.transaction(), connection.cursor() as cursor:
                cursor.executemany(WRITE, rows)


_REMARK = "a call an event, pipelined; parameters laid out beforehand"

ENTRIES = [Entry(key, "message-db's function, psycopg", appending(key), _REMARK) for key in APPENDS]
