"""Proving order: histories to draw, laws to check them by, and projections without a database.

Needs the extra `testing`.
"""

from flowstore.store.memory import CommitStep, MemoryDatabase, NotInMemoryError
from flowstore.testing._delivery_laws import check_no_skip_no_repeat, check_stream_order
from flowstore.testing._memory_store import MemoryStore
from flowstore.testing._page_law import check_pages_fold_alike
from flowstore.testing._recording import RecordingProjection
from flowstore.testing._scenario import ProjectionScenario
from flowstore.testing._strategies import event_histories, page_sizes

__all__ = [
    "CommitStep",
    "MemoryDatabase",
    "MemoryStore",
    "NotInMemoryError",
    "ProjectionScenario",
    "RecordingProjection",
    "check_no_skip_no_repeat",
    "check_pages_fold_alike",
    "check_stream_order",
    "event_histories",
    "page_sizes",
]
