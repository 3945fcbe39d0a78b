"""Proving order: histories to draw, laws to check them by, and projections without a database.

Needs the extra `testing`.
"""

from flowstore.store.memory import CommitStep, MemoryDatabase, NotInMemoryError
from flowstore.testing._delivery_laws import check_no_skip_no_repeat, check_stream_order
from flowstore.testing._determinism import NotDeterministicError
from flowstore.testing._memory_store import MemoryStore
from flowstore.testing._page_law import check_pages_fold_alike
from flowstore.testing._recording import RecordingProjection
from flowstore.testing._scenario import ProjectionScenario
from flowstore.testing._simulation import (
    Faults,
    Scenario,
    Simulation,
    SimulationError,
    Writer,
    default_scenario,
    simulate,
)
from flowstore.testing._strategies import event_histories, page_sizes

__all__ = [
    "CommitStep",
    "Faults",
    "MemoryDatabase",
    "MemoryStore",
    "NotDeterministicError",
    "NotInMemoryError",
    "ProjectionScenario",
    "RecordingProjection",
    "Scenario",
    "Simulation",
    "SimulationError",
    "Writer",
    "check_no_skip_no_repeat",
    "check_pages_fold_alike",
    "check_stream_order",
    "default_scenario",
    "event_histories",
    "page_sizes",
    "simulate",
]
