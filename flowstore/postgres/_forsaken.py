"""Deciding whether the answer that a silent connection waits for will ever come.

A backend that waits for us while we wait for it looks the same whether a network has swallowed our
statement, or the statement lies in the backend's socket and nobody has let it run: on an overloaded
machine, behind a debugger, under a quota that is used up. The latter is slow, not lost, and ending it
would end work that was about to be done. Kernels know: what was sent through a Unix socket is charged
to the sender until it is read, and what a kernel at the other end of TCP has acknowledged is there.
"""

import fcntl
import os
import socket
import struct
import sys
import termios
from typing import Final, TypeAlias

import attrs

from flowstore.postgres._connection import Connection
from flowstore.postgres._waiting import has_input

__all__ = ["Ours", "Place", "Theirs", "is_forsaken", "look_at_ours"]

Place: TypeAlias = tuple[str, int]
"""An address and a port."""

_IS_LINUX: Final = sys.platform == "linux"
_RETRANSMITS: Final = 2
"""Where in TCP_INFO stands how often in a row what isn't acknowledged was sent again."""


@attrs.frozen(kw_only=True)
class Ours:
    """What this side's kernel knows of a connection.

    Attributes:
        unread: bytes sent through a Unix socket that nobody has read yet; None where nobody can tell.
        is_resent: TCP has sent something again, and again nobody has acknowledged it.
        here: our end, and None on a Unix socket.
        there: the other end, and None on a Unix socket.
    """

    unread: int | None = None
    is_resent: bool = False
    here: Place | None = None
    there: Place | None = None


@attrs.frozen(kw_only=True)
class Theirs:
    """What the server tells of a connection's backend.

    Attributes:
        waits_for_us: it waits for its client, and not for anything else, nor for a processor.
        idle_for: seconds since it had answered a statement; None where it works on one, or nobody
            can tell.
        here: the client's end, as the server sees it; None if that is a Unix socket.
        there: the server's own end.
    """

    waits_for_us: bool
    idle_for: float | None = None
    here: Place | None = None
    there: Place | None = None


def is_forsaken(ours: Ours, theirs: Theirs | None, silence: float) -> bool:
    """Tell whether nothing is on its way to a connection that has heard nothing.

    Args:
        ours: was looked up before the server was asked: what was read by then, and waits for us again,
            has been dealt with.
        theirs: None if there is no such backend.
        silence: seconds for which the connection had waited when the server was asked.
    """
    if theirs is None:
        return True
    if not theirs.waits_for_us:
        return False
    if ours.unread is not None:  # whoever reads there, a backend or a proxy
        return ours.unread == 0
    if (ours.here, ours.there) != (theirs.here, theirs.there):
        return True  # something is in between, and may have swallowed what it has acknowledged
    # The server's kernel has our statement, unless TCP still sends it again. Had the backend not begun
    # it, it would have been idle since before we waited: it has answered, and the answer was lost.
    is_answered = theirs.idle_for is not None and theirs.idle_for < silence
    return ours.is_resent or is_answered


def look_at_ours(connection: Connection) -> Ours | None:
    """Ask the kernel about a connection; None if it has an answer that was only not read yet."""
    descriptor = connection.pgconn.socket
    if has_input(descriptor):
        return None
    with socket.socket(fileno=os.dup(descriptor)) as ours:
        if ours.family == socket.AF_UNIX:
            return Ours(unread=_unread(descriptor))
        return Ours(
            is_resent=_is_resent(ours),
            here=_place(ours.getsockname()),
            there=_place(ours.getpeername()),
        )


def _unread(descriptor: int) -> int | None:
    if not _IS_LINUX:
        return None
    (count,) = struct.unpack("i", fcntl.ioctl(descriptor, termios.TIOCOUTQ, bytes(4)))
    return count


def _is_resent(ours: socket.socket) -> bool:
    if not _IS_LINUX:
        return False
    info = ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _RETRANSMITS + 1)
    return info[_RETRANSMITS] > 0


def _place(name: tuple[str, int]) -> Place:
    return name[0], name[1]  # the rest is IPv6's
