"""When a projection runs, and how it runs in the daemon."""

from datetime import datetime
from enum import Enum
from typing import Any, Literal, TypeAlias

import attrs

from flowstore.errors import RegistrationError

__all__ = ["AsyncOptions", "Lifecycle"]

StartFrom: TypeAlias = Literal["beginning", "now", "inline"] | int | datetime
FailurePolicy: TypeAlias = Literal["dead_letter", "stop"]


class Lifecycle(Enum):
    """Say when a projection's documents follow the events.

    Attributes:
        INLINE: in the transaction that appends the events.
        ASYNC: in the daemon, soon after.
        LIVE: never; the aggregate is folded anew whenever it is asked for.
    """

    INLINE = "inline"
    ASYNC = "async"
    LIVE = "live"


def _check_page_size(_: "AsyncOptions", __: Any, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise RegistrationError(
            f"AsyncOptions.page_size is {value!r}: it is a number of events, at least 1"
        )


def _check_start(_: "AsyncOptions", __: Any, value: Any) -> None:
    known = value in {"beginning", "now", "inline"} if isinstance(value, str) else False
    is_place = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    is_time = isinstance(value, datetime) and value.utcoffset() is not None
    if not (known or is_place or is_time):
        raise RegistrationError(
            f"AsyncOptions.start_from is {value!r}: it is 'beginning', 'now', 'inline', a sequence"
            " from 0, or a datetime with a time zone"
        )


def _check_policy(_: "AsyncOptions", attribute: "attrs.Attribute[Any]", value: Any) -> None:
    if value not in ("dead_letter", "stop"):
        raise RegistrationError(
            f"AsyncOptions.{attribute.name} is {value!r}: it is 'dead_letter' or 'stop'"
        )


def _check_flag(_: "AsyncOptions", attribute: "attrs.Attribute[Any]", value: Any) -> None:
    if not isinstance(value, bool):
        raise RegistrationError(f"AsyncOptions.{attribute.name} is {value!r}: it is True or False")


def _from_the_beginning() -> StartFrom:
    return "beginning"


@attrs.frozen(kw_only=True)
class AsyncOptions:
    """Say how a projection runs in the daemon.

    Attributes:
        page_size: most events that are read and committed together, at least 1. A page is one
            transaction: more is faster, and costs more memory and more repetition after a failure.
        start_from: where a projection without progress begins: "beginning"; "now", after what
            is in the store when it first starts; "inline", after what it has covered as an inline
            projection; a sequence, exclusive; or an aware datetime, at the first event not
            recorded before it. Progress, once there, is stronger.
        on_error: what happens to an event that can't be applied while the projection runs:
            "dead_letter" sets it aside and goes on, "stop" holds the shard before it.
        on_rebuild_error: the same, in a rebuild.
        include_archived: whether events of archived streams are applied too.

    Raises:
        RegistrationError: a value isn't one of those.
    """

    page_size: int = attrs.field(default=500, validator=_check_page_size)
    start_from: StartFrom = attrs.field(factory=_from_the_beginning, validator=_check_start)
    on_error: FailurePolicy = attrs.field(default="dead_letter", validator=_check_policy)
    on_rebuild_error: FailurePolicy = attrs.field(default="stop", validator=_check_policy)
    include_archived: bool = attrs.field(default=False, validator=_check_flag)
