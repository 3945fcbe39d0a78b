"""The raw limit: the same work by hand, on one connection, for this one view and nothing else.

No expected versions, no types but these five, no failures, no second writer: what is left is what
PostgreSQL and Python take for the statements and the folding themselves.
"""

import json
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import attrs
from psycopg.types.json import set_json_loads

from flowstore.cli._projects import (
    ActiveProject,
    Commit,
    IssueClosed,
    IssueCreated,
    IssueReopened,
    ProjectEvent,
    ProjectStarted,
    fold,
)
from flowstore.postgres import Connection

TYPES = {
    kind.__name__: kind
    for kind in (ProjectStarted, IssueCreated, IssueReopened, IssueClosed, Commit)
}
CREATE = """
    drop schema if exists flowstore_bench_raw cascade;
    create schema flowstore_bench_raw;
    create table flowstore_bench_raw.events (
        sequence bigint generated always as identity primary key,
        id uuid not null default gen_random_uuid(),
        stream_id uuid not null,
        version bigint not null,
        type text not null,
        data jsonb not null,
        recorded timestamptz not null default clock_timestamp(),
        unique (stream_id, version));
    create table flowstore_bench_raw.projects (id uuid primary key, data jsonb not null);
    create table flowstore_bench_raw.progress (name text primary key, at bigint not null);
    insert into flowstore_bench_raw.progress values ('projects', 0);
"""
EMPTY = "truncate flowstore_bench_raw.events restart identity"
WIPE = "truncate flowstore_bench_raw.projects"
INSERT = """
    insert into flowstore_bench_raw.events (stream_id, version, type, data)
    select * from unnest(%s::uuid[], %s::bigint[], %s::text[], %s::jsonb[])
"""
READ = """
    select sequence, stream_id, type, data from flowstore_bench_raw.events
    where sequence > %s order by sequence limit %s
"""
WRITE = """
    insert into flowstore_bench_raw.projects
    select * from unnest(%s::uuid[], %s::jsonb[])
    on conflict (id) do update set data = excluded.data
"""
MOVE = "update flowstore_bench_raw.progress set at = %s where name = 'projects'"


Fact = tuple[UUID, ProjectEvent]


class RawStore:
    """Inserts events, and folds them, with literal SQL."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._batches: list[tuple[list[Any], ...]] = []
        self.projects: dict[UUID, ActiveProject] = {}

    async def create(self) -> None:
        set_json_loads(json.loads, self._connection)
        await self._connection.execute(CREATE)

    async def drop(self) -> None:
        await self._connection.execute("drop schema if exists flowstore_bench_raw cascade")

    async def prepare(self, facts: Sequence[Fact], per_commit: int) -> None:
        """Lay the parameters of the statements out, so that only the statements are timed."""
        await self._connection.execute(EMPTY)
        versions: dict[UUID, int] = {}
        rows: list[tuple[Any, ...]] = []
        for stream_id, event in facts:
            versions[stream_id] = versions.get(stream_id, 0) + 1
            data = json.dumps(attrs.asdict(event))
            rows.append((stream_id, versions[stream_id], type(event).__name__, data))
        parts = (rows[at : at + per_commit] for at in range(0, len(rows), per_commit))
        self._batches = [tuple(map(list, zip(*part, strict=True))) for part in parts]

    async def insert(self) -> None:
        """Insert what was prepared, a statement and a commit a part."""
        for batch in self._batches:
            await self._connection.execute(INSERT, batch)

    async def wipe(self) -> None:
        self.projects = {}
        await self._connection.execute(WIPE)

    async def fold(self, page_size: int) -> None:
        """Fold all events: read a page, write what changed, and the progress, in one commit."""
        floor = 0
        while True:
            cursor = await self._connection.execute(READ, (floor, page_size))
            rows = await cursor.fetchall()
            if not rows:
                return
            floor = rows[-1][0]
            await self._write(self._fold_page(rows), floor)

    def _fold_page(self, rows: Sequence[tuple[Any, ...]]) -> list[ActiveProject]:
        changed: dict[UUID, ActiveProject] = {}
        for _, stream_id, name, data in rows:
            project = self.projects.get(stream_id)
            if project is None:
                project = self.projects[stream_id] = ActiveProject(stream_id)
            fold(project, TYPES[name](**data))
            changed[stream_id] = project
        return list(changed.values())

    async def _write(self, projects: Sequence[ActiveProject], floor: int) -> None:
        ids = [project.id for project in projects]
        texts = [json.dumps(_plain(project)) for project in projects]
        async with self._connection.transaction():
            await self._connection.execute(WRITE, (ids, texts))
            await self._connection.execute(MOVE, (floor,))

    async def insert_and_write(self, number: int, fact: Fact) -> None:
        """Commit one event, then the document and the progress: the least that a reader waits for."""
        stream_id, event = fact
        data = json.dumps(attrs.asdict(event))
        await self._connection.execute(
            INSERT, ([stream_id], [number], [type(event).__name__], [data])
        )
        project = self.projects.setdefault(stream_id, ActiveProject(stream_id))
        fold(project, event)
        await self._write([project], number)


def _plain(project: ActiveProject) -> dict[str, Any]:
    return {
        "id": str(project.id),
        "project_name": project.project_name,
        "organization_name": project.organization_name,
        "lines_of_code": project.lines_of_code,
        "open_issue_count": project.open_issue_count,
        "contributors": sorted(project.contributors),
    }
