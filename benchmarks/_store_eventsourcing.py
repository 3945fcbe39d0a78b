"""Python's eventsourcing: its recorder with psycopg 3, its mapper, and its projection runner.

What its documentation shows for a materialised view in PostgreSQL: a tracking recorder with a table
of its own, and one transaction an event for the row and the tracking. It runs in threads, as it does
in an application; trio's thread does nothing meanwhile.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from time import monotonic
from typing import Any
from uuid import UUID

import attrs
import trio
from _store_cases import Bench, Documents, Drawn, Entry, Job
from _store_raw import in_threads
from _store_work import APPENDS, PAGE_SIZE, Batch, Fact
from eventsourcing.application import Application
from eventsourcing.domain import DomainEvent, datetime_now_with_tzinfo
from eventsourcing.persistence import StoredEvent, Tracking
from eventsourcing.postgres import PostgresTrackingRecorder
from eventsourcing.projection import Projection, ProjectionRunner
from psycopg import conninfo, sql

from flowstore.cli._projects import ActiveProject

NAME = "eventsourcing"
FUNCTIONS = "eventsourcing, database functions"
PIECE = 1_000


class ProjectStarted(DomainEvent):
    name: str
    organization: str


class IssueCreated(DomainEvent):
    number: int
    title: str


class IssueReopened(DomainEvent):
    number: int


class IssueClosed(DomainEvent):
    number: int


class Commit(DomainEvent):
    user_name: str
    additions: int
    deletions: int


EVENTS = {
    kind.__name__: kind
    for kind in (ProjectStarted, IssueCreated, IssueReopened, IssueClosed, Commit)
}


class Projects(Application[UUID]):
    name = "projects"


def environment(dsn: str, schema: str, *, functions: bool = False) -> dict[str, str]:
    """Say in the library's own words where its tables are."""
    parts = conninfo.conninfo_to_dict(dsn)
    return {
        "PERSISTENCE_MODULE": "eventsourcing.postgres",
        "POSTGRES_DBNAME": str(parts["dbname"]),
        "POSTGRES_HOST": str(parts.get("host", "")),
        "POSTGRES_PORT": str(parts.get("port") or 5432),
        "POSTGRES_USER": str(parts.get("user", "")),
        "POSTGRES_PASSWORD": str(parts.get("password", "")),
        "POSTGRES_SCHEMA": schema,
        "POSTGRES_POOL_SIZE": "2",
        "POSTGRES_ENABLE_DB_FUNCTIONS": "y" if functions else "n",
    }


def made(batch: Batch) -> list[DomainEvent]:
    """Make the library's event objects of a commit's."""
    now = datetime_now_with_tzinfo()
    return [
        EVENTS[type(event).__name__](batch.stream_id, version, now, **attrs.asdict(event))
        for version, event in enumerate(batch.events, start=batch.version + 1)
    ]


def application(bench: Bench, schema: str, *, functions: bool = False) -> Projects:
    with bench.connect() as connection:
        connection.execute(sql.SQL("create schema if not exists {}").format(sql.Identifier(schema)))
    return Projects(environment(bench.dsn, schema, functions=functions))


# -- writing ---------------------------------------------------------------------------------------


def appending(key: str, *, functions: bool) -> Callable[[Bench], AbstractAsyncContextManager[Job]]:
    @asynccontextmanager
    async def opened(bench: Bench) -> AsyncIterator[Job]:
        drawn, shares = Drawn(bench, key), list[Any]()
        schema = "es_functions" if functions else "es_plain"
        app = application(bench, schema, functions=functions)

        def prepare() -> None:
            drawn.draw()
            shares[:] = [[made(batch) for batch in share] for share in drawn.shares]

        async def run() -> None:
            await in_threads([partial(_append, app, share) for share in shares])

        yield Job(run, drawn.count, prepare, table=f"{schema}.projects_events")
        app.close()

    return opened


def _append(app: Projects, commits: Sequence[Sequence[DomainEvent]]) -> None:
    to_stored, insert = app.mapper.to_stored_event, app.recorder.insert_events
    for events in commits:
        insert([to_stored(event) for event in events])


async def filled(bench: Bench, schema: str, events: int) -> str:
    """Write the first events of the history once, and give the schema."""

    async def fill() -> str:
        app = application(bench, schema)
        await trio.to_thread.run_sync(_fill, app, bench.facts(events))
        app.close()
        return schema

    return await bench.once(schema, fill)


def _fill(app: Projects, facts: Sequence[Fact]) -> None:
    versions: dict[UUID, int] = {}
    stored: list[StoredEvent] = []
    for stream_id, event in facts:
        version = versions.get(stream_id, 0)
        stored += map(app.mapper.to_stored_event, made(Batch(stream_id, version, (event,))))
        versions[stream_id] = version + 1
    for at in range(0, len(stored), PIECE):
        app.recorder.insert_events(stored[at : at + PIECE])


# -- reading ---------------------------------------------------------------------------------------


def reading(*, mapped: bool) -> Callable[[Bench], AbstractAsyncContextManager[Job]]:
    @asynccontextmanager
    async def opened(bench: Bench) -> AsyncIterator[Job]:
        schema = await filled(bench, "es_history", bench.sizes.events)
        app = application(bench, schema)

        def read() -> None:
            count, start = 0, 1
            while page := app.recorder.select_notifications(start, PAGE_SIZE):
                if mapped:
                    for notification in page:
                        app.mapper.to_domain_event(notification)
                count, start = count + len(page), page[-1].id + 1
            if count != bench.sizes.events:
                raise RuntimeError(f"read {count} events, not {bench.sizes.events}")

        yield Job(partial(trio.to_thread.run_sync, read), bench.sizes.events)
        app.close()

    return opened


# -- projecting ------------------------------------------------------------------------------------

_BEGIN = "insert into {table} as p (id, name, organization) values (%s, %s, %s)"
_COUNT = "update {table} set open_issues = open_issues + %s where id = %s"
_COMMIT = """
    update {table} set
        lines = lines + %s,
        contributors = case
            when %s = any (contributors) then contributors else contributors || %s::text
        end
    where id = %s
"""
_CREATE = """
    create table if not exists {table} (
        id uuid primary key, name text not null, organization text not null,
        lines bigint not null default 0, open_issues bigint not null default 0,
        contributors text[] not null default array[]::text[])
"""


class ProjectsView(PostgresTrackingRecorder):
    """The materialised view: a row a project, written with the tracking in one transaction."""

    def __init__(self, datastore: Any, *, tracking_table_name: str, **kwargs: Any) -> None:
        super().__init__(datastore, tracking_table_name=tracking_table_name, **kwargs)
        self.table = sql.Identifier(datastore.schema, f"{tracking_table_name}_view")
        self.sql_create_statements.append(sql.SQL(_CREATE).format(table=self.table))
        self._statements = {
            text: sql.SQL(text).format(table=self.table) for text in (_BEGIN, _COUNT, _COMMIT)
        }

    def write(self, statement: str, parameters: Sequence[Any], tracking: Tracking) -> None:
        with self.datastore.transaction(commit=True) as cursor:
            self._insert_tracking(cursor, tracking)
            cursor.execute(self._statements[statement], parameters, prepare=True)


class ProjectsProjection(Projection[ProjectsView]):
    """Writes one row an event.

    Attributes:
        stamps: the notification's number, and when its transaction had been committed.
    """

    name = "view"

    def __init__(self, view: ProjectsView) -> None:
        super().__init__(view)
        self.stamps: list[tuple[int, float]] = []

    def process_event(self, domain_event: Any, tracking: Tracking) -> None:
        self.view.write(*_change(domain_event), tracking)
        self.stamps.append((tracking.notification_id, monotonic()))


def _change(event: Any) -> tuple[str, Sequence[Any]]:
    project = event.originator_id
    match event:
        case ProjectStarted():
            return _BEGIN, (project, event.name, event.organization)
        case IssueCreated() | IssueReopened():
            return _COUNT, (1, project)
        case IssueClosed():
            return _COUNT, (-1, project)
        case _:
            lines = event.additions - event.deletions
            return _COMMIT, (lines, event.user_name, event.user_name, project)


def runner(dsn: str, schema: str, number: int = 0) -> ProjectionRunner[Projects, ProjectsView]:
    """Start a runner; those of different numbers have views of their own."""
    kind = type(f"Projection{number}", (ProjectsProjection,), {"name": f"view{number}"})
    return ProjectionRunner(
        application_class=Projects,
        projection_class=kind,
        view_class=ProjectsView,
        env=environment(dsn, schema),
    )


@asynccontextmanager
async def catching_up(bench: Bench) -> AsyncIterator[Job]:
    events = bench.sizes.single
    schema = await filled(bench, "es_single", events)
    with runner(bench.dsn, schema) as first:  # makes the tables
        first.wait(events, timeout=600)

    def wipe() -> None:
        with bench.connect() as connection:
            connection.execute("truncate es_single.view0_tracking_view")
            connection.execute(
                "delete from es_single.view0_tracking where application_name <> '__migration__'"
            )

    def run() -> None:
        with runner(bench.dsn, schema) as running:
            running.wait(events, timeout=600)

    async def documents() -> Documents:
        with bench.connect() as connection:
            found = connection.execute("select * from es_single.view0_tracking_view").fetchall()
        return {row[0]: ActiveProject(*row[:5], contributors=set(row[5])) for row in found}

    yield Job(partial(trio.to_thread.run_sync, run), events, wipe, documents)


_WRITTEN = "mapper and recorder, locks the table for each commit"
_CALLED = "mapper and recorder; its function takes no lock on the table"

ENTRIES = [
    *(Entry(key, NAME, appending(key, functions=False), _WRITTEN) for key in APPENDS),
    *(Entry(key, FUNCTIONS, appending(key, functions=True), _CALLED) for key in APPENDS),
    Entry(
        "read", "eventsourcing, raw", reading(mapped=False), "notifications, state left as bytes"
    ),
    Entry("read", "eventsourcing, mapped", reading(mapped=True), "its event objects"),
    Entry("catch up", NAME, catching_up, "a commit an event: so over fewer events, rates compared"),
]
