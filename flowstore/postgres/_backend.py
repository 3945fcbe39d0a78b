"""What tells one of the server's processes from all others."""

from datetime import datetime

import attrs


@attrs.frozen
class Backend:
    """The server's process behind one connection.

    Attributes:
        pid: its number, which another process may get once this one is gone.
        started: when it began, which tells it from that other one.
    """

    pid: int
    started: datetime
