"""Everything that flowstore raises on purpose descends from `FlowstoreError`.

Facts stand in fields, so that nobody has to parse a message; a message says what was found, what
was expected and the way out. Errors of the block library live beside it, in `flowstore.blocks`.
"""

import math
from collections.abc import Sequence
from typing import Any

__all__ = [
    "ConcurrencyError",
    "DatabaseError",
    "DatabaseUnavailableError",
    "DocumentsEditedError",
    "EmbeddedServerError",
    "EmptyStreamError",
    "EventIdConflictError",
    "FlowstoreError",
    "InsufficientPrivilegeError",
    "InvalidDocumentError",
    "InvalidEventError",
    "InvalidTenantError",
    "ProgressConflictError",
    "RebuildError",
    "RegistrationError",
    "SchemaError",
    "ShardEditedError",
    "StaleResultsError",
    "StreamArchivedError",
    "StreamCollisionError",
    "StreamLockedError",
    "StreamNotFoundError",
    "UnknownEventTypeError",
    "UnknownFieldError",
    "UnknownProjectionError",
]


class FlowstoreError(Exception):
    """The root of flowstore's errors."""


class DatabaseError(FlowstoreError):
    """PostgreSQL refused a statement; the cause is psycopg's own error.

    Attributes:
        sqlstate: PostgreSQL's five-character code, None where the server sent none.
    """

    def __init__(self, message: str, *, sqlstate: str | None = None) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


class InsufficientPrivilegeError(DatabaseError):
    """The role that is connected lacks a right; the message says which GRANT would give it.

    Attributes:
        grants: statements that give what is missing, ready to be run by the owner; empty where
            no GRANT can, or it isn't about flowstore's schema.
    """

    def __init__(
        self, message: str, *, sqlstate: str | None = None, grants: Sequence[str] = ()
    ) -> None:
        advice = "".join(f"\n  {grant};" for grant in grants)
        told = f"{message}; have the owner run:{advice}" if grants else message
        super().__init__(told, sqlstate=sqlstate)
        self.grants = tuple(grants)


class DatabaseUnavailableError(DatabaseError):
    """The server can't be reached, or the connection to it was lost."""


class EmbeddedServerError(FlowstoreError):
    """The embedded PostgreSQL can't be found, prepared or started."""


class SchemaError(FlowstoreError):
    """The database's schema isn't what this version of flowstore needs."""


class RegistrationError(FlowstoreError):
    """A type or projection was registered wrongly; the message names what and where."""


class InvalidEventError(FlowstoreError):
    """An event can't be stored, or what is stored can't be read, as it is."""


class InvalidDocumentError(FlowstoreError):
    """A document can't be stored, or what is stored can't be read, as it is."""


class InvalidTenantError(FlowstoreError, ValueError):
    """What was given can't be a tenant's identity, or the store keeps a single tenant."""


class UnknownEventTypeError(FlowstoreError):
    """An event was stored under a name that no known type has.

    Attributes:
        type_name: the stored name.
        known: the names that are known, sorted.
    """

    def __init__(self, type_name: str, known: Sequence[str] = ()) -> None:
        listed = ", ".join(map(repr, known)) or "none"
        super().__init__(
            f"event type {type_name!r} is not known: add its class with"
            f" options.events.add_types(...) or .alias(type, {type_name!r}); known are {listed}"
        )
        self.type_name = type_name
        self.known = tuple(known)


class _StreamError(FlowstoreError):
    """An error about one stream.

    Attributes:
        stream_id: the stream's identity.
    """

    def __init__(self, stream_id: Any, message: str, *, what: str = "stream") -> None:
        super().__init__(f"{what} {str(stream_id)!r} {message}")
        self.stream_id = stream_id


class StreamCollisionError(_StreamError):
    """A stream was to be started under an identity that exists."""

    def __init__(self, stream_id: Any) -> None:
        super().__init__(stream_id, "exists already: append to it, or start one with another id")


class StreamNotFoundError(_StreamError):
    """A stream that had to exist doesn't."""

    def __init__(self, stream_id: Any) -> None:
        super().__init__(stream_id, "does not exist: start it first")


class StreamArchivedError(_StreamError):
    """Something was appended to an archived stream."""

    def __init__(self, stream_id: Any) -> None:
        super().__init__(stream_id, "is archived and takes no more events: use another stream")


class StreamLockedError(_StreamError):
    """Another transaction kept a stream locked for longer than the caller would wait."""

    def __init__(self, stream_id: Any, lock_timeout: float | None = None) -> None:
        waited = "" if lock_timeout is None else f" for {lock_timeout} s"
        super().__init__(
            stream_id, f"was locked by another transaction{waited}: try again, or wait for longer"
        )
        self.lock_timeout = lock_timeout


class EmptyStreamError(_StreamError):
    """A stream was to be started, or appended to, without any event."""

    def __init__(self, stream_id: Any) -> None:
        super().__init__(stream_id, "was given no events: a stream begins with at least one")


class ConcurrencyError(_StreamError):
    """A stream, or a document, moved since it was read.

    Attributes:
        stream_id: the stream's identity, or the document's.
        expected: the version the caller expected before its events.
        found: the version that was found; None where the database only told that they differ.
    """

    def __init__(
        self,
        stream_id: Any,
        *,
        expected: int | None,
        found: int | None,
        message: str | None = None,
        what: str = "stream",
    ) -> None:
        where = "another version" if found is None else f"version {found}"
        super().__init__(
            stream_id,
            message or f"is at {where}, not {expected}: load it again, decide again, append again",
            what=what,
        )
        self.expected = expected
        self.found = found


class EventIdConflictError(FlowstoreError):
    """An event id that is already stored was appended with another event.

    Attributes:
        event_id: the id.
    """

    def __init__(self, event_id: Any) -> None:
        super().__init__(
            f"event id {str(event_id)!r} already belongs to a different event: give the new event"
            " an id of its own"
        )
        self.event_id = event_id


class UnknownProjectionError(FlowstoreError):
    """A projection was asked for that isn't registered.

    Attributes:
        name: what was asked for.
        known: the registered names, sorted.
    """

    def __init__(self, name: Any, known: Sequence[str] = ()) -> None:
        listed = ", ".join(map(repr, known)) or "none"
        super().__init__(f"no projection {name!r} is registered; registered are {listed}")
        self.name = name
        self.known = tuple(known)


class UnknownFieldError(FlowstoreError):
    """Documents were looked for by a field that their class isn't stored with.

    Attributes:
        document: the name of the documents' class.
        field: what was asked for.
        known: the names of the fields that it is stored with, sorted.
    """

    def __init__(
        self, document: str, field: str, known: Sequence[str], *, stored_as: str | None = None
    ) -> None:
        listed = ", ".join(map(repr, known)) or "none"
        advice = (
            f"name one of these, or give query() a condition on `data`, {document}'s JSON"
            if stored_as is None
            else f"{field!r} itself is stored as {stored_as!r}"
        )
        super().__init__(
            f"{document} is stored with no field {field!r} to be found by, only with {listed}:"
            f" {advice}"
        )
        self.document = document
        self.field = field
        self.known = tuple(known)


class ProgressConflictError(FlowstoreError):
    """A shard isn't as its owner left it: somebody else moved it, or owns it by now.

    Attributes:
        shard: the shard's name.
        expected: the floor this owner stood at.
        found: the progress that was found.
    """

    def __init__(self, shard: str, *, expected: int, found: int | None) -> None:
        place = (
            f"at sequence {found} as expected, and yet not this owner's any more: another owner"
            " claimed it, or somebody rewound or rebuilt it"
            if found == expected
            else f"at sequence {found}, not {expected}: another owner moved it"
        )
        super().__init__(
            f"shard {shard!r} is {place}; this one has stopped and nothing of its page was kept"
        )
        self.shard = shard
        self.expected = expected
        self.found = found


class ShardEditedError(FlowstoreError):
    """A shard's documents were written to beside its pages: a dead letter was retried.

    Attributes:
        shard: the shard's name.
        edits: how often that has happened by now.
    """

    def __init__(self, shard: str, edits: int) -> None:
        super().__init__(
            f"a dead letter of shard {shard!r} was retried while a page of it was under way; nothing"
            " of the page was kept: load its documents again, apply it again, commit it again"
        )
        self.shard = shard
        self.edits = edits


class DocumentsEditedError(FlowstoreError):
    """Documents that a shard had kept were written to beside it: by hand, or by another program.

    Attributes:
        shard: the shard's name.
    """

    def __init__(self, shard: str) -> None:
        super().__init__(
            f"documents of shard {shard!r} that it had kept were changed, deleted or added by somebody"
            " else since; nothing of what was folded over them was kept: load them again, apply the"
            " events again, commit again"
        )
        self.shard = shard


class StaleResultsError(FlowstoreError):
    """Projections didn't reach the events that were waited for in time.

    Attributes:
        target: the sequence that was waited for.
        places: a line a shard: its name, place and error.
    """

    def __init__(self, target: int, timeout: float, places: Sequence[str]) -> None:
        lines = "".join(f"\n  {place}" for place in places)
        within = "" if timeout == math.inf else f" within {timeout} s"
        super().__init__(f"not every shard reached sequence {target}{within}:{lines}")
        self.target = target
        self.places = tuple(places)


class RebuildError(FlowstoreError):
    """A rebuild stopped at an event that can't be applied.

    Attributes:
        projection: the projection's name.
        sequence: the event's place in the store; None where the failure has no single event.
    """

    def __init__(self, projection: str, sequence: int | None, reason: str) -> None:
        place = "" if sequence is None else f" at the event with sequence {sequence}"
        super().__init__(
            f"the rebuild of {projection!r} stopped{place}: {reason}; mend the projection or the"
            " event, then rebuild again"
        )
        self.projection = projection
        self.sequence = sequence
