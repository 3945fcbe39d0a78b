"""What trouble there is in a simulation."""

from typing import Any

import attrs

__all__ = ["Faults"]


def _at_least_zero(_: Any, attribute: "attrs.Attribute[Any]", value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        raise ValueError(f"Faults.{attribute.name} is {value!r}: it is a number, from 0")


@attrs.frozen(kw_only=True)
class Faults:
    """Say what trouble there is in a simulation.

    Numbers of faults are the most there are of a kind: how many it are is drawn, from none; of crashes, from one.

    Attributes:
        crashes: processes killed, half of them in the middle of a commit.
        freezes: processes that stand still for a while, and wake up in a world that went on.
        dropped_replies: connections lost: on any way to the database; before a commit; or after it,
            when it stands and nobody is told.
        restarts: of the database: open transactions are rolled back, and all calls fail for a while.
        forks: second daemons that run beside the first one on the same projections.
        delays: the share of round trips to the database that take long, from 0 to 1.
        longest_delay: seconds, of virtual time as all that follow.
        longest_freeze: seconds.
        longest_restart: seconds.
        lost_notifications: the share of appends that nobody is woken by, from 0 to 1.

    Raises:
        ValueError: a value is below 0, or no number.
    """

    crashes: int = attrs.field(default=4, validator=_at_least_zero)
    freezes: int = attrs.field(default=2, validator=_at_least_zero)
    dropped_replies: int = attrs.field(default=3, validator=_at_least_zero)
    restarts: int = attrs.field(default=1, validator=_at_least_zero)
    forks: int = attrs.field(default=1, validator=_at_least_zero)
    delays: float = attrs.field(default=0.1, validator=_at_least_zero)
    longest_delay: float = attrs.field(default=0.2, validator=_at_least_zero)
    longest_freeze: float = attrs.field(default=1.0, validator=_at_least_zero)
    longest_restart: float = attrs.field(default=0.3, validator=_at_least_zero)
    lost_notifications: float = attrs.field(default=0.2, validator=_at_least_zero)
