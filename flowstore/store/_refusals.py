"""What the database refuses an append for, as errors of flowstore."""

import json
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Final

import psycopg

from flowstore.errors import (
    ConcurrencyError,
    FlowstoreError,
    InvalidDocumentError,
    InvalidEventError,
)
from flowstore.store._append import AppendPlan
from flowstore.store._document_types import DocumentType
from flowstore.store._indexes import index_name, told_index
from flowstore.store._queue import CompactStream, Operation, StoreDocument

__all__ = [
    "EventIdTakenError",
    "document_moved",
    "facts_of",
    "not_unique",
    "refused_commits",
    "stream_amended",
]

_APPEND_REFUSED: Final = frozenset({"FS001", "FS002", "FS003", "FS004"})
_UNIQUE_VIOLATION: Final = "23505"
_EVENT_ID_CONSTRAINT: Final = "events_id_key"
# Text that jsonb can't hold, and JSON nested deeper than the server's stack.
_UNSTORABLE: Final = frozenset({"22P05", "22P02", "54001"})


class EventIdTakenError(FlowstoreError):
    """An event id of this commit is stored already; decided on before anybody sees it."""


def facts_of(error: psycopg.Error) -> dict[str, Any]:
    """Read the facts that our SQL functions put into an error's detail."""
    return json.loads(error.diag.message_detail or "{}")


class refused_commits:  # noqa: N801 - used as a verb: `with refused_commits(...):`
    """Turn what our SQL refuses a commit for into errors about its streams and documents.

    Everything else passes through as it is. A class, because every commit passes through.

    Raises:
        StreamCollisionError: a stream that was to be started exists.
        ConcurrencyError: a stream, or a document, isn't at the version that was expected.
        StreamArchivedError: a stream is archived.
        StreamNotFoundError: a stream has to be started first.
        EventIdTakenError: an event id is stored already.
        InvalidEventError: the database can't hold an event's JSON.
        InvalidDocumentError: another document has what a unique index allows one of.
    """

    __slots__ = ("_kinds", "_operations", "_plan")

    def __init__(
        self,
        plan: AppendPlan | None,
        operations: Iterable[Operation],
        kinds: Iterable[DocumentType],
    ) -> None:
        """Take the commit's events and other writes, and the document types that are known."""
        self._plan = plan
        self._operations = operations
        self._kinds = kinds

    def __enter__(self) -> None:
        """Begin the block."""

    def __exit__(
        self,
        _: type[BaseException] | None,
        error: BaseException | None,
        __: TracebackType | None,
    ) -> None:
        """End the block."""
        if not isinstance(error, psycopg.Error):
            return
        refusal = _refused_append(self._plan, error) if self._plan else None
        refusal = refusal or _refused_document(self._operations, error)
        refusal = refusal or _refused_compaction(self._operations, error)
        refusal = refusal or not_unique(self._kinds, error)
        if refusal is not None:
            raise refusal from error


def _refused_append(plan: AppendPlan, error: psycopg.Error) -> FlowstoreError | None:
    if error.sqlstate in _APPEND_REFUSED:
        facts = facts_of(error)
        return plan.demands[int(facts["stream"])].refusal(error.sqlstate, facts["found"])
    if error.sqlstate == _UNIQUE_VIOLATION and error.diag.constraint_name == _EVENT_ID_CONSTRAINT:
        return EventIdTakenError("an event id is stored already")
    if error.sqlstate in _UNSTORABLE and "append" in (error.diag.context or ""):
        return InvalidEventError(f"PostgreSQL can't store an event's JSON: {error}")
    return None


def _refused_document(
    operations: Iterable[Operation], error: psycopg.Error
) -> ConcurrencyError | None:
    if error.sqlstate != "FS007":
        return None
    facts = facts_of(error)
    moved = next(
        operation
        for operation in operations
        if isinstance(operation, StoreDocument)
        and (operation.kind.table, str(operation.identity)) == (facts["table"], facts["id"])
    )
    return document_moved(moved)


def not_unique(kinds: Iterable[DocumentType], error: psycopg.Error) -> InvalidDocumentError | None:
    """Make the error about a document whose like a unique index has already; None for any other."""
    if error.sqlstate != _UNIQUE_VIOLATION:
        return None
    for kind in kinds:
        for index in kind.indexes:
            if index_name(kind.table, index) == error.diag.constraint_name:
                return InvalidDocumentError(
                    f"a {kind.type.__name__} has the same {told_index(index)} as another, and may"
                    f" not by the type's unique index: {error.diag.message_detail}"
                )
    return None


def document_moved(moved: StoreDocument) -> ConcurrencyError:
    """Make the error about a document that isn't at the version it was loaded at."""
    changed = (
        f"has changed or gone since this session loaded it at version {moved.expected}: load it again,"
        " decide again, store it again"
    )
    unseen = "is stored already, and this session hasn't loaded it: load it before storing it"
    return ConcurrencyError(
        moved.identity,
        expected=moved.expected,
        found=None,
        message=changed if moved.expected else unseen,
        what=f"document {moved.kind.type.__name__}",
    )


def _refused_compaction(
    operations: Iterable[Operation], error: psycopg.Error
) -> ConcurrencyError | None:
    if error.sqlstate != "FS008":
        return None
    name = facts_of(error)["stream"]
    queued = (each for each in operations if isinstance(each, CompactStream))
    return stream_amended(next(each for each in queued if str(each.stream_id) == name))


def stream_amended(stale: CompactStream) -> ConcurrencyError:
    """Make the error about a stream whose events aren't those that were folded."""
    return ConcurrencyError(
        stale.stream_id,
        expected=stale.version,
        found=None,
        message="had events masked, skipped or compacted since they were folded: compact it again",
    )
