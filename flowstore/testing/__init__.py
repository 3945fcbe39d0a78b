"""Proving order: histories to draw, laws to check them by, and projections without a database.

Needs the extra `testing`. Everything is found in its module when it is first asked for: pytest
imports this room for its plugin, also where nobody asks for anything.
"""

from typing import TYPE_CHECKING

from flowstore._late import found_late

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
else:
    __getattr__, __dir__ = found_late(
        __name__,
        {
            "flowstore.store.memory": ("CommitStep", "MemoryDatabase", "NotInMemoryError"),
            "_arrivals": ("KeyedItem", "check_key_order", "check_nothing_lost"),
            "_books": ("BookKeeper",),
            "_broken_law": ("BrokenLawError",),
            "_delivery_laws": ("check_no_skip_no_repeat", "check_stream_order"),
            "_determinism": ("NotDeterministicError",),
            "_document_laws": ("check_effects", "check_rebuild_equals_replay", "check_ways_agree"),
            "_effect_laws": ("Committed", "check_exactly_once", "check_progress"),
            "_machine": ("ProjectionMachine",),
            "_memory_store": ("MemoryStore",),
            "_page_law": ("check_pages_fold_alike",),
            "_pipeline_law": ("Probe", "check_pipeline_order", "keyed_items"),
            "_pipelines": ("Pipeline", "Stage", "pipelines"),
            "_projection_law": ("check_projection",),
            "_recording": ("RecordingProjection",),
            "_scenario": ("ProjectionScenario",),
            "_schedules": (
                "CommitSchedule",
                "Moment",
                "WriterStep",
                "commit_schedules",
                "play_schedule",
            ),
            "_simulation": (
                "Faults",
                "Scenario",
                "Simulation",
                "SimulationError",
                "Writer",
                "default_scenario",
                "simulate",
            ),
            "_strategies": ("CrashPoint", "crash_points", "event_histories", "page_sizes"),
        },
    )

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
