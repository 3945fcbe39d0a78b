"""Proving order: histories to draw, laws to check them by, and projections without a database.

Needs the extra `testing`.
"""

from flowstore.store.memory import CommitStep, MemoryDatabase, NotInMemoryError
from flowstore.testing._arrivals import KeyedItem, check_key_order
from flowstore.testing._books import BookKeeper
from flowstore.testing._delivery_laws import check_no_skip_no_repeat, check_stream_order
from flowstore.testing._determinism import NotDeterministicError
from flowstore.testing._memory_store import MemoryStore
from flowstore.testing._page_law import check_pages_fold_alike
from flowstore.testing._pipeline_law import Probe, check_pipeline_order, keyed_items
from flowstore.testing._projection_law import check_projection
from flowstore.testing._recording import RecordingProjection
from flowstore.testing._scenario import ProjectionScenario
from flowstore.testing._schedules import (
    CommitSchedule,
    Moment,
    WriterStep,
    commit_schedules,
    play_schedule,
)
from flowstore.testing._simulation import (
    Faults,
    Scenario,
    Simulation,
    SimulationError,
    Writer,
    default_scenario,
    simulate,
)
from flowstore.testing._strategies import CrashPoint, crash_points, event_histories, page_sizes

__all__ = [
    "BookKeeper",
    "CommitSchedule",
    "CommitStep",
    "CrashPoint",
    "Faults",
    "KeyedItem",
    "MemoryDatabase",
    "MemoryStore",
    "Moment",
    "NotDeterministicError",
    "NotInMemoryError",
    "Probe",
    "ProjectionScenario",
    "RecordingProjection",
    "Scenario",
    "Simulation",
    "SimulationError",
    "Writer",
    "WriterStep",
    "check_key_order",
    "check_no_skip_no_repeat",
    "check_pages_fold_alike",
    "check_pipeline_order",
    "check_projection",
    "check_stream_order",
    "commit_schedules",
    "crash_points",
    "default_scenario",
    "event_histories",
    "keyed_items",
    "page_sizes",
    "play_schedule",
    "simulate",
]
