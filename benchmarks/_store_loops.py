"""Projections by hand: what somebody writes who has psycopg, one view, and an afternoon.

Synchronous, in a thread. Documents are held in memory, so only one process may ever run, and none
of these looks whether an append under way will still show below what was read.
"""

import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any
from uuid import UUID

import psycopg
import trio
from _store_cases import Bench, Documents, Entry, Job
from _store_raw import READ, TYPES, Row, fill_history
from _store_work import PAGE_SIZE, plain
from psycopg import sql

from flowstore.cli._projects import ActiveProject, fold

CREATE = """
    create schema if not exists {schema};
    set search_path to {schema};
    create table if not exists projects (id uuid primary key, data jsonb not null);
    create table if not exists progress (name text primary key, at bigint not null);
    insert into progress values ('projects', 0) on conflict do nothing;
"""
WIPE = "truncate projects; update progress set at = 0"
WRITE = """
    insert into projects
    select * from unnest(%s::uuid[], %s::jsonb[])
    on conflict (id) do update set data = excluded.data
"""
MOVE = "update progress set at = %s where name = 'projects'"
ONE_STATEMENT = """
    with folded as (
        insert into projects
        select stream_id, jsonb_build_object(
            'id', stream_id,
            'project_name', coalesce(max(data ->> 'name') filter (where type = 'project_started'), ''),
            'organization_name',
            coalesce(max(data ->> 'organization') filter (where type = 'project_started'), ''),
            'lines_of_code',
            coalesce(sum((data ->> 'additions')::bigint - (data ->> 'deletions')::bigint), 0),
            'open_issue_count',
            count(*) filter (where type in ('issue_created', 'issue_reopened'))
            - count(*) filter (where type = 'issue_closed'),
            'contributors',
            coalesce(
                jsonb_agg(distinct data ->> 'user_name') filter (where type = 'commit'), '[]'::jsonb
            )
        )
        from raw.history group by stream_id
    )
    update progress set at = (select max(sequence) from raw.history) where name = 'projects'
"""
EVERY = 2_000

Project = Callable[[psycopg.Connection], None]


def write_often(connection: psycopg.Connection) -> None:
    """Fold all events; every 2,000 write the changed documents and the progress in one commit."""
    held: dict[object, ActiveProject] = {}
    changed: dict[object, ActiveProject] = {}
    at = written = 0
    for rows in _pages(connection):
        _fold(rows, held, changed)
        at = rows[-1][0]
        if at - written >= EVERY:
            _write(connection, changed, at)
            changed, written = {}, at
    _write(connection, changed, at)


def write_once(connection: psycopg.Connection) -> None:
    """Fold all events, reading one page ahead; write everything at the end, in one commit."""
    held: dict[object, ActiveProject] = {}
    at = 0
    with ThreadPoolExecutor(1) as ahead:
        coming = ahead.submit(_page, connection, 0)
        while rows := coming.result():
            at = rows[-1][0]
            coming = ahead.submit(_page, connection, at)
            _fold(rows, held, held)
    _write(connection, held, at)


def one_statement(connection: psycopg.Connection) -> None:
    connection.execute(ONE_STATEMENT)


def _pages(connection: psycopg.Connection) -> Iterator[Sequence[Row]]:
    floor = 0
    while rows := _page(connection, floor):
        yield rows
        floor = rows[-1][0]


def _page(connection: psycopg.Connection, floor: int) -> Sequence[Row]:
    return connection.execute(READ, (floor, PAGE_SIZE)).fetchall()


def _fold(
    rows: Sequence[Row], held: dict[object, ActiveProject], changed: dict[object, ActiveProject]
) -> None:
    for _, stream_id, _, name, data in rows:
        project = held.get(stream_id)
        if project is None:
            project = held[stream_id] = ActiveProject(stream_id)
        fold(project, TYPES[name](**data))
        changed[stream_id] = project


def _write(connection: psycopg.Connection, changed: dict[object, ActiveProject], at: int) -> None:
    texts = [json.dumps(plain(project)) for project in changed.values()]
    with connection.transaction():
        connection.execute(WRITE, (list(changed), texts))
        connection.execute(MOVE, (at,))


def projecting(
    project: Project, *, wiping: bool = False
) -> Callable[[Bench], AbstractAsyncContextManager[Job]]:
    """Make a case of a loop; `wiping`: emptying the table is part of the time."""

    @asynccontextmanager
    async def opened(bench: Bench) -> AsyncIterator[Job]:
        await fill_history(bench)
        with bench.connect() as connection:
            name = f"by_hand_{project.__name__}"  # a table each: all are looked at in the end
            connection.execute(sql.SQL(CREATE).format(schema=sql.Identifier(name)))

            def wipe() -> None:
                connection.execute(WIPE)

            def run() -> None:
                if wiping:
                    wipe()
                project(connection)

            async def documents() -> Documents:
                found = connection.execute("select id, data from projects").fetchall()
                return {each: _document(data) for each, data in found}

            yield Job(
                partial(trio.to_thread.run_sync, run),
                bench.sizes.events,
                None if wiping else wipe,
                documents,
            )

    return opened


def _document(data: dict[str, Any]) -> ActiveProject:
    return ActiveProject(
        **{**data, "id": UUID(data["id"]), "contributors": set(data["contributors"])}
    )


_OFTEN = "loop by hand, a commit every 2,000"
_ONCE = "loop by hand, one commit"

ENTRIES = [
    Entry("catch up", _OFTEN, projecting(write_often), "documents held in memory"),
    Entry(
        "catch up", _ONCE, projecting(write_once), "limit: reads ahead, begins again if it stops"
    ),
    Entry("catch up", "one SQL statement", projecting(one_statement), "limit: no Python at all"),
    Entry("rebuild", _ONCE, projecting(write_once, wiping=True), "limit: reads ahead"),
    Entry("continuous", _OFTEN, projecting(write_often), "documents held in memory"),
]
