"""The daemon: projections that follow the events, as pipelines of blocks."""

from typing import TYPE_CHECKING

from flowstore._late import found_late

if TYPE_CHECKING:
    from flowstore.daemon._applier import EventFailedError
    from flowstore.daemon._daemon import ProjectionDaemon
    from flowstore.daemon._needs import DaemonStore, EventFeed
    from flowstore.daemon._pipeline import event_source, group_by_stream, projection_sink
    from flowstore.daemon._settings import DaemonSettings
    from flowstore.daemon._status import ShardState, ShardStatus
    from flowstore.daemon._store import Store, open_store
else:
    __getattr__, __dir__ = found_late(
        __name__,
        {
            "_applier": ("EventFailedError",),
            "_daemon": ("ProjectionDaemon",),
            "_needs": ("DaemonStore", "EventFeed"),
            "_pipeline": ("event_source", "group_by_stream", "projection_sink"),
            "_settings": ("DaemonSettings",),
            "_status": ("ShardState", "ShardStatus"),
            "_store": ("Store", "open_store"),
        },
    )

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
