"""The sample that the library is built around: it runs as it stands."""

from uuid import UUID, uuid4

import attrs

from flowstore import DaemonSettings, StoreOptions, open_store


@attrs.frozen
class ProjectStarted:
    name: str
    organization: str


@attrs.frozen
class IssueCreated:
    number: int
    title: str


@attrs.frozen
class IssueReopened:
    number: int


@attrs.frozen
class IssueClosed:
    number: int


@attrs.frozen
class Commit:
    user_name: str
    additions: int
    deletions: int


@attrs.define
class ActiveProject:
    id: UUID
    project_name: str = ""
    organization_name: str = ""
    lines_of_code: int = 0
    open_issue_count: int = 0
    contributors: set[str] = attrs.field(factory=set)

    def apply_started(self, started: ProjectStarted) -> None:
        self.project_name, self.organization_name = started.name, started.organization

    def apply_opened(self, _: IssueCreated | IssueReopened) -> None:
        self.open_issue_count += 1

    def apply_closed(self, _: IssueClosed) -> None:
        self.open_issue_count -= 1

    def apply_commit(self, commit: Commit) -> None:
        self.contributors.add(commit.user_name)
        self.lines_of_code += commit.additions - commit.deletions


project_id, other_id = uuid4(), uuid4()

PROJECT = ActiveProject(project_id, "flowstore", "local", 142, 1, {"Ada", "Grace"})
OTHER = ActiveProject(other_id, "trio", "python-trio", -3, 0, {"Nathaniel"})


async def publish_all_project_events(store):
    async with store.session() as session:
        session.events.start_stream(project_id, ProjectStarted("flowstore", "local"))
        session.events.start_stream(other_id, ProjectStarted("trio", "python-trio"))
        await session.save_changes()
    for events in (
        [Commit("Ada", 120, 0), IssueCreated(1, "It breaks"), IssueCreated(2, "It is slow")],
        [Commit("Grace", 30, 12), IssueClosed(1), IssueClosed(2)],
        [Commit("Ada", 4, 0), IssueReopened(1)],
    ):
        async with store.session() as session:
            session.events.append(project_id, *events)
            session.events.append(other_id, Commit("Nathaniel", 1, 2))
            await session.save_changes()


async def test_the_sample_runs_as_it_stands(dsn):
    options = StoreOptions()
    options.projections.aggregate_streams_with(ActiveProject)

    async with open_store(dsn, options) as store:
        async with store.build_projection_daemon(
            settings=DaemonSettings(leading_edge_buffer=1.0)
        ) as daemon:
            await daemon.start_all()
            await publish_all_project_events(store)
            await daemon.wait_for_non_stale_results()
            await daemon.stop_all()

        async with store.session() as session:
            assert await session.load(ActiveProject, project_id) == PROJECT
            session.delete_by_id(ActiveProject, project_id)
            session.store(ActiveProject(uuid4(), "an orphan"))
            await session.save_changes()

        async with store.build_projection_daemon() as daemon:
            await daemon.rebuild(ActiveProject)

        async with store.session() as session:
            project = await session.load(ActiveProject, project_id)
            assert project == PROJECT
            projects = await session.query(ActiveProject, "true order by data ->> 'project_name'")
            assert projects == [PROJECT, OTHER]
