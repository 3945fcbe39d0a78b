"""Messages over a pipe: the length in eight bytes, and then so many bytes."""

from typing import Final, Protocol

__all__ = ["Incoming", "frame", "receive_frame"]

_LENGTH: Final = 8


class Incoming(Protocol):
    """Gives bytes as they come; none at the end."""

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Wait for the next bytes."""
        ...


def frame(message: bytes) -> bytes:
    """Make a message ready to be sent."""
    return len(message).to_bytes(_LENGTH, "big") + message


async def receive_frame(stream: Incoming) -> bytes | None:
    """Wait for the next message; None once no whole one comes."""
    head = await _receive(stream, _LENGTH)
    return None if head is None else await _receive(stream, int.from_bytes(head, "big"))


async def _receive(stream: Incoming, count: int) -> bytes | None:
    found = bytearray()
    while len(found) < count:
        more = await stream.receive_some(count - len(found))
        if not more:
            return None
        found += more
    return bytes(found)
