"""flowstore: an event store on PostgreSQL whose projections run in a dataflow pipeline.

The front door: what an application needs, found in its room when it is first asked for, so that
`import flowstore.blocks` brings in neither psycopg nor the store.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flowstore.codec import EventMetadata
    from flowstore.daemon import (
        DaemonSettings,
        EventFailedError,
        ProjectionDaemon,
        ShardStatus,
        Store,
        event_source,
        group_by_stream,
        open_store,
        projection_sink,
    )
    from flowstore.errors import (
        ConcurrencyError,
        DatabaseError,
        DatabaseUnavailableError,
        EmbeddedServerError,
        EmptyStreamError,
        EventIdConflictError,
        FlowstoreError,
        InsufficientPrivilegeError,
        InvalidDocumentError,
        InvalidEventError,
        InvalidTenantError,
        ProgressConflictError,
        RebuildError,
        RegistrationError,
        SchemaError,
        ShardEditedError,
        StaleResultsError,
        StreamArchivedError,
        StreamCollisionError,
        StreamLockedError,
        StreamNotFoundError,
        UnknownEventTypeError,
        UnknownProjectionError,
    )
    from flowstore.events import (
        ANY,
        NO_STREAM,
        Archived,
        DeadLetter,
        Event,
        EventBatch,
        EventFailure,
        EventPage,
        EventStream,
        NewEvent,
        RawEvent,
        StreamAction,
        StreamState,
    )
    from flowstore.projections import (
        AsyncOptions,
        Composite,
        FlatTable,
        IProjection,
        Lifecycle,
        ProjectionSession,
    )
    from flowstore.store import (
        Session,
        StoreOptions,
        StreamHandle,
        apply_schema,
        assert_schema,
        dump_schema,
        expression,
        gin,
        patch_schema,
        schema_grants,
    )

__version__ = "0.1.0"

_ROOMS = {
    "codec": ("EventMetadata",),
    "daemon": (
        "DaemonSettings",
        "EventFailedError",
        "ProjectionDaemon",
        "ShardStatus",
        "Store",
        "event_source",
        "group_by_stream",
        "open_store",
        "projection_sink",
    ),
    "errors": (
        "ConcurrencyError",
        "DatabaseError",
        "DatabaseUnavailableError",
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
        "UnknownProjectionError",
    ),
    "events": (
        "ANY",
        "NO_STREAM",
        "Archived",
        "DeadLetter",
        "Event",
        "EventBatch",
        "EventFailure",
        "EventPage",
        "EventStream",
        "NewEvent",
        "RawEvent",
        "StreamAction",
        "StreamState",
    ),
    "projections": (
        "AsyncOptions",
        "Composite",
        "FlatTable",
        "IProjection",
        "Lifecycle",
        "ProjectionSession",
    ),
    "store": (
        "Session",
        "StoreOptions",
        "StreamHandle",
        "apply_schema",
        "assert_schema",
        "dump_schema",
        "expression",
        "gin",
        "schema_grants",
        "patch_schema",
    ),
}

_ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names}

__all__ = [
    "ANY",
    "NO_STREAM",
    "Archived",
    "AsyncOptions",
    "Composite",
    "ConcurrencyError",
    "DaemonSettings",
    "DatabaseError",
    "DatabaseUnavailableError",
    "DeadLetter",
    "EmbeddedServerError",
    "EmptyStreamError",
    "Event",
    "EventBatch",
    "EventFailedError",
    "EventFailure",
    "EventIdConflictError",
    "EventMetadata",
    "EventPage",
    "EventStream",
    "FlatTable",
    "FlowstoreError",
    "IProjection",
    "InsufficientPrivilegeError",
    "InvalidDocumentError",
    "InvalidEventError",
    "InvalidTenantError",
    "Lifecycle",
    "NewEvent",
    "ProgressConflictError",
    "ProjectionDaemon",
    "ProjectionSession",
    "RawEvent",
    "RebuildError",
    "RegistrationError",
    "SchemaError",
    "Session",
    "ShardEditedError",
    "ShardStatus",
    "StaleResultsError",
    "Store",
    "StoreOptions",
    "StreamAction",
    "StreamArchivedError",
    "StreamCollisionError",
    "StreamHandle",
    "StreamLockedError",
    "StreamNotFoundError",
    "StreamState",
    "UnknownEventTypeError",
    "UnknownProjectionError",
    "apply_schema",
    "assert_schema",
    "dump_schema",
    "event_source",
    "expression",
    "gin",
    "group_by_stream",
    "open_store",
    "patch_schema",
    "projection_sink",
    "schema_grants",
]


def __getattr__(name: str) -> Any:
    room = _ROOM_OF.get(name)
    if room is None:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    return getattr(import_module(f"{__name__}.{room}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
