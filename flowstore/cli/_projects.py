"""The demo's domain: what happens in a project, and the view that is folded from it."""

from typing import TypeAlias
from uuid import UUID

import attrs

__all__ = [
    "ActiveProject",
    "Commit",
    "IssueClosed",
    "IssueCreated",
    "IssueReopened",
    "ProjectEvent",
    "ProjectStarted",
    "fold",
]


@attrs.frozen
class ProjectStarted:
    """A project began.

    Attributes:
        name: the project's name.
        organization: who keeps it.
    """

    name: str
    organization: str


@attrs.frozen
class IssueCreated:
    """An issue was named for the first time.

    Attributes:
        number: the issue's number in its project.
        title: what was said when it was named.
    """

    number: int
    title: str


@attrs.frozen
class IssueReopened:
    """A closed issue was opened again.

    Attributes:
        number: the issue's number in its project.
    """

    number: int


@attrs.frozen
class IssueClosed:
    """An open issue was closed.

    Attributes:
        number: the issue's number in its project.
    """

    number: int


@attrs.frozen
class Commit:
    """Somebody changed lines.

    Attributes:
        user_name: the author.
        additions: lines added, in all files together.
        deletions: lines deleted, in all files together.
    """

    user_name: str
    additions: int
    deletions: int


ProjectEvent: TypeAlias = ProjectStarted | IssueCreated | IssueReopened | IssueClosed | Commit


@attrs.define
class ActiveProject:
    """A project as it stands, folded from its stream.

    Attributes:
        id: the stream's identity.
        project_name: the project's name.
        organization_name: who keeps it.
        lines_of_code: lines added minus lines deleted, over all commits.
        open_issue_count: issues created or reopened, and not closed since.
        contributors: the names of all authors.
    """

    id: UUID
    project_name: str = ""
    organization_name: str = ""
    lines_of_code: int = 0
    open_issue_count: int = 0
    contributors: set[str] = attrs.field(factory=set)  # pyright: ignore[reportUnknownVariableType] - attrs gives set[Unknown]

    def apply_started(self, started: ProjectStarted) -> None:
        """Take the project's names."""
        self.project_name, self.organization_name = started.name, started.organization

    def apply_opened(self, _: IssueCreated | IssueReopened) -> None:
        """Count one more open issue."""
        self.open_issue_count += 1

    def apply_closed(self, _: IssueClosed) -> None:
        """Count one open issue less."""
        self.open_issue_count -= 1

    def apply_commit(self, commit: Commit) -> None:
        """Count lines, and remember who changed them."""
        self.contributors.add(commit.user_name)
        self.lines_of_code += commit.additions - commit.deletions


def fold(project: ActiveProject, event: ProjectEvent) -> None:
    """Apply one event to a project, without the store: what its documents are compared with."""
    match event:
        case ProjectStarted():
            project.apply_started(event)
        case IssueCreated() | IssueReopened():
            project.apply_opened(event)
        case IssueClosed():
            project.apply_closed(event)
        case Commit():
            project.apply_commit(event)
