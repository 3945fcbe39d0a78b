"""Rules from events to documents: no SQL, no I/O of their own."""

from flowstore.projections._across_streams import (
    AcrossStreamsProjection,
    across_streams_projection,
)
from flowstore.projections._aggregate import Aggregate, aggregate_rule
from flowstore.projections._aggregate_projection import AggregateProjection, aggregate_projection
from flowstore.projections._composite import Composite, members_of, produced_by
from flowstore.projections._flat_table import FlatTable
from flowstore.projections._folding import only_folds
from flowstore.projections._options import AsyncOptions, Lifecycle
from flowstore.projections._process import EventProcess, event_process
from flowstore.projections._protocols import (
    EventHistory,
    IProjection,
    ProjectionSession,
    apply_projection,
)
from flowstore.projections._registration import Registration
from flowstore.projections._registry import Projections
from flowstore.projections._shards import document_key, shard_name
from flowstore.projections._splitting import why_not_split
from flowstore.projections._subscription import Subscription
from flowstore.projections._tables import Column, DeleteRow, RowChange, Table, WriteRow
from flowstore.projections._transform import TransformProjection, transform_projection

__all__ = [
    "AcrossStreamsProjection",
    "Aggregate",
    "AggregateProjection",
    "AsyncOptions",
    "Column",
    "Composite",
    "DeleteRow",
    "EventHistory",
    "EventProcess",
    "FlatTable",
    "IProjection",
    "Lifecycle",
    "ProjectionSession",
    "Projections",
    "Registration",
    "RowChange",
    "Subscription",
    "Table",
    "TransformProjection",
    "WriteRow",
    "across_streams_projection",
    "aggregate_projection",
    "aggregate_rule",
    "apply_projection",
    "document_key",
    "event_process",
    "members_of",
    "only_folds",
    "produced_by",
    "shard_name",
    "transform_projection",
    "why_not_split",
]
