"""The daemon: projections that follow the events, as pipelines of blocks."""

from flowstore.daemon._applier import EventFailedError
from flowstore.daemon._daemon import ProjectionDaemon
from flowstore.daemon._needs import DaemonStore, EventFeed
from flowstore.daemon._pipeline import event_source, group_by_stream, projection_sink
from flowstore.daemon._settings import DaemonSettings
from flowstore.daemon._status import ShardState, ShardStatus
from flowstore.daemon._store import Store, open_store

__all__ = [
    "DaemonSettings",
    "DaemonStore",
    "EventFailedError",
    "EventFeed",
    "ProjectionDaemon",
    "ShardState",
    "ShardStatus",
    "Store",
    "event_source",
    "group_by_stream",
    "open_store",
    "projection_sink",
]
