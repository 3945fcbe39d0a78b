"""Faults on purpose. `FLOWSTORE_SOAK=1` makes the runs long; this is the only place that reads it."""

import os
from collections.abc import Callable
from typing import TypeVar

import pytest

_T = TypeVar("_T")


@pytest.fixture(scope="session")
def soak() -> Callable[[_T, _T], _T]:
    """Choose by how long runs may take: `soak(usually, when_soaking)`."""
    long = os.environ.get("FLOWSTORE_SOAK") == "1"

    def choose(usually: _T, when_soaking: _T) -> _T:
        return when_soaking if long else usually

    return choose
