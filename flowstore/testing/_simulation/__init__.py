"""Simulations: store, daemons and writers in one process, in virtual time, by a seed."""

from flowstore.testing._simulation._faults import Faults
from flowstore.testing._simulation._scenario import Scenario, Writer, default_scenario
from flowstore.testing._simulation._simulate import Simulation, SimulationError, simulate

__all__ = [
    "Faults",
    "Scenario",
    "Simulation",
    "SimulationError",
    "Writer",
    "default_scenario",
    "simulate",
]
