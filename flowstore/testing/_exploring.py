"""Running a law over many drawn examples, from wherever it is called."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

import trio
from hypothesis import HealthCheck, Phase, settings

__all__ = ["law_settings", "outside_trio"]

_T = TypeVar("_T")

_PHASES: Final = (Phase.explicit, Phase.reuse, Phase.generate, Phase.target, Phase.shrink)
"""All but explaining, which traces every line that is run, and speaks of the law's own."""


def law_settings(given: settings | None, examples: int) -> settings:
    """Give the settings of a law: the caller's, or sensible ones; it tells one story in any case.

    Args:
        given: the caller's.
        examples: how many a law draws where the loaded profile says 100, which is Hypothesis'
            default; another profile has it draw more or fewer in proportion.
    """
    if given is not None:
        phases = [each for each in given.phases if each in _PHASES]
        return settings(given, phases=phases, report_multiple_bugs=False)
    loaded = settings()
    return settings(
        max_examples=max(1, examples * loaded.max_examples // 100),
        deadline=None,
        # A failure is filed under the law's own function: one user's would be played to all.
        database=None,
        # The shortest; several would come as a group, which is no `AssertionError`.
        report_multiple_bugs=False,
        phases=_PHASES,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


def outside_trio(function: Callable[[], _T]) -> _T:
    """Call what runs event loops of its own, also from a test that is in one.

    Trio refuses a loop within a loop, so then it takes a thread, for which the test's loop waits.
    """
    if not trio.lowlevel.in_trio_run():
        return function()
    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(function).result()
