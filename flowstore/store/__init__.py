"""Streams of events, documents, and the sessions that write both together."""

from typing import TYPE_CHECKING

from flowstore._late import found_late

if TYPE_CHECKING:
    from flowstore.store._document_session import DocumentSession
    from flowstore.store._document_types import DocumentType, DocumentTypes
    from flowstore.store._event_operations import EventOperations
    from flowstore.store._feed import OpenAppend, Part
    from flowstore.store._handover import Handover
    from flowstore.store._held import HeldDocuments, Written
    from flowstore.store._indexes import ExpressionIndex, GinIndex, Index, expression, gin
    from flowstore.store._leases import LeaseSession, Taking
    from flowstore.store._open_documents import OpenDocuments
    from flowstore.store._opening import open_event_store
    from flowstore.store._options import StoreOptions
    from flowstore.store._parts import ShadowPart
    from flowstore.store._progress import Claim
    from flowstore.store._projection_unit import ProjectionUnit
    from flowstore.store._rebuilding import HeldReplay, Rebuilding
    from flowstore.store._schema_commands import (
        apply_schema,
        assert_schema,
        dump_schema,
        patch_schema,
        schema_grants,
    )
    from flowstore.store._session import Session
    from flowstore.store._shadow import Shadow
    from flowstore.store._shadow_unit import NoShadowError
    from flowstore.store._store import EventStore
    from flowstore.store._stream_handle import StreamHandle
else:
    __getattr__, __dir__ = found_late(
        __name__,
        {
            "_document_session": ("DocumentSession",),
            "_document_types": ("DocumentType", "DocumentTypes"),
            "_event_operations": ("EventOperations",),
            "_feed": ("OpenAppend", "Part"),
            "_handover": ("Handover",),
            "_held": ("HeldDocuments", "Written"),
            "_indexes": ("ExpressionIndex", "GinIndex", "Index", "expression", "gin"),
            "_leases": ("LeaseSession", "Taking"),
            "_open_documents": ("OpenDocuments",),
            "_opening": ("open_event_store",),
            "_options": ("StoreOptions",),
            "_parts": ("ShadowPart",),
            "_progress": ("Claim",),
            "_projection_unit": ("ProjectionUnit",),
            "_rebuilding": ("HeldReplay", "Rebuilding"),
            "_schema_commands": (
                "apply_schema",
                "assert_schema",
                "dump_schema",
                "patch_schema",
                "schema_grants",
            ),
            "_session": ("Session",),
            "_shadow": ("Shadow",),
            "_shadow_unit": ("NoShadowError",),
            "_store": ("EventStore",),
            "_stream_handle": ("StreamHandle",),
        },
    )

__all__ = [
    "Claim",
    "DocumentSession",
    "DocumentType",
    "DocumentTypes",
    "EventOperations",
    "EventStore",
    "ExpressionIndex",
    "GinIndex",
    "Handover",
    "HeldDocuments",
    "HeldReplay",
    "Index",
    "LeaseSession",
    "NoShadowError",
    "OpenAppend",
    "OpenDocuments",
    "Part",
    "ProjectionUnit",
    "Rebuilding",
    "Session",
    "Shadow",
    "ShadowPart",
    "StoreOptions",
    "StreamHandle",
    "Taking",
    "Written",
    "apply_schema",
    "assert_schema",
    "dump_schema",
    "expression",
    "gin",
    "open_event_store",
    "patch_schema",
    "schema_grants",
]
