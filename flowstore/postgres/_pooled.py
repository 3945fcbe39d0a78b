"""What a pool knows of its connections, and how it is to treat them."""

import attrs

from flowstore.postgres._connection import Connection

__all__ = ["Birth", "PoolSettings", "Spare", "session_of"]


@attrs.frozen(kw_only=True)
class PoolSettings:
    """How a pool treats its connections; times in seconds.

    Attributes:
        acquire_timeout: how long a task waits for a free connection.
        max_lifetime: how old a connection gets; each one's life is up to 5 % shorter, so that
            those opened together don't close together.
        max_idle: how long a connection beyond `min_size` stays open unused.
        check_after: how long a connection may be unused before it is asked whether it is alive.
        prepare_threshold: after how many runs a statement is prepared; 0 at once, None never.
    """

    acquire_timeout: float = 30.0
    max_lifetime: float = 3600.0
    max_idle: float = 300.0
    check_after: float = 30.0
    prepare_threshold: int | None = 1


@attrs.frozen
class Spare:
    """A connection nobody uses, and the time since when."""

    connection: Connection
    since: float


@attrs.frozen
class Birth:
    """What a connection was given when it was opened: its time to close, its session."""

    expires: float
    session: object


def session_of(connection: Connection) -> object:
    """What a borrower may change about a connection with effect on the next one."""
    return (
        connection.autocommit,
        connection.isolation_level,
        connection.read_only,
        connection.deferrable,
        connection.prepare_threshold,
        connection.row_factory,
        connection.cursor_factory,
    )
