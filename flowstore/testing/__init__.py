"""Proving order: histories to draw, laws to check them by, and projections without a database.

Needs the extra `testing`. Everything is found in its module when it is first asked for: pytest
imports this room for its plugin, also where nobody asks for anything.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flowstore.store.memory import CommitStep, MemoryDatabase, NotInMemoryError
    from flowstore.testing._arrivals import KeyedItem, check_key_order, check_nothing_lost
    from flowstore.testing._books import BookKeeper
    from flowstore.testing._broken_law import BrokenLawError
    from flowstore.testing._delivery_laws import check_no_skip_no_repeat, check_stream_order
    from flowstore.testing._determinism import NotDeterministicError
    from flowstore.testing._document_laws import (
        check_effects,
        check_rebuild_equals_replay,
        check_ways_agree,
    )
    from flowstore.testing._effect_laws import Committed, check_exactly_once, check_progress
    from flowstore.testing._machine import ProjectionMachine
    from flowstore.testing._memory_store import MemoryStore
    from flowstore.testing._page_law import check_pages_fold_alike
    from flowstore.testing._pipeline_law import Probe, check_pipeline_order, keyed_items
    from flowstore.testing._pipelines import Pipeline, Stage, pipelines
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

_HOMES = {
    "flowstore.store.memory": (
        "CommitStep",
        "MemoryDatabase",
        "NotInMemoryError",
    ),
    "flowstore.testing._arrivals": (
        "KeyedItem",
        "check_key_order",
        "check_nothing_lost",
    ),
    "flowstore.testing._books": ("BookKeeper",),
    "flowstore.testing._broken_law": ("BrokenLawError",),
    "flowstore.testing._delivery_laws": (
        "check_no_skip_no_repeat",
        "check_stream_order",
    ),
    "flowstore.testing._determinism": ("NotDeterministicError",),
    "flowstore.testing._document_laws": (
        "check_effects",
        "check_rebuild_equals_replay",
        "check_ways_agree",
    ),
    "flowstore.testing._effect_laws": (
        "Committed",
        "check_exactly_once",
        "check_progress",
    ),
    "flowstore.testing._machine": ("ProjectionMachine",),
    "flowstore.testing._memory_store": ("MemoryStore",),
    "flowstore.testing._page_law": ("check_pages_fold_alike",),
    "flowstore.testing._pipeline_law": (
        "Probe",
        "check_pipeline_order",
        "keyed_items",
    ),
    "flowstore.testing._pipelines": ("Pipeline", "Stage", "pipelines"),
    "flowstore.testing._projection_law": ("check_projection",),
    "flowstore.testing._recording": ("RecordingProjection",),
    "flowstore.testing._scenario": ("ProjectionScenario",),
    "flowstore.testing._schedules": (
        "CommitSchedule",
        "Moment",
        "WriterStep",
        "commit_schedules",
        "play_schedule",
    ),
    "flowstore.testing._simulation": (
        "Faults",
        "Scenario",
        "Simulation",
        "SimulationError",
        "Writer",
        "default_scenario",
        "simulate",
    ),
    "flowstore.testing._strategies": (
        "CrashPoint",
        "crash_points",
        "event_histories",
        "page_sizes",
    ),
}

_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "BookKeeper",
    "BrokenLawError",
    "CommitSchedule",
    "CommitStep",
    "Committed",
    "CrashPoint",
    "Faults",
    "KeyedItem",
    "MemoryDatabase",
    "MemoryStore",
    "Moment",
    "NotDeterministicError",
    "NotInMemoryError",
    "Pipeline",
    "Probe",
    "ProjectionMachine",
    "ProjectionScenario",
    "RecordingProjection",
    "Scenario",
    "Simulation",
    "SimulationError",
    "Stage",
    "Writer",
    "WriterStep",
    "check_effects",
    "check_exactly_once",
    "check_key_order",
    "check_no_skip_no_repeat",
    "check_nothing_lost",
    "check_pages_fold_alike",
    "check_pipeline_order",
    "check_progress",
    "check_projection",
    "check_rebuild_equals_replay",
    "check_stream_order",
    "check_ways_agree",
    "commit_schedules",
    "crash_points",
    "default_scenario",
    "event_histories",
    "keyed_items",
    "page_sizes",
    "pipelines",
    "play_schedule",
    "simulate",
]


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
