"""A network between a store and its server that can be cut in every way.

It understands as much of PostgreSQL's protocol as tells which statement a message belongs to.
"""

import random
import re
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import attrs
import trio

BROKEN = (trio.BrokenResourceError, trio.ClosedResourceError, OSError)
ENCRYPTED = {80877103, 80877104}
NOTHING_TO_SAY = set(b"PBDCHdcf")
"""Messages that only prepare one that does something: parse, bind, describe and their like."""


@attrs.frozen
class Message:
    """A message of a client's.

    Attributes:
        kind: what it is: execute, query, sync, terminate.
        statement: what is executed; before a sync, what was executed last.
        data: as it is sent.
    """

    kind: str
    statement: str
    data: bytes

    @property
    def label(self) -> str:
        return f"{self.kind}: {self.statement}"


KINDS = {ord("E"): "execute", ord("Q"): "query", ord("S"): "sync", ord("X"): "terminate"}


def squeezed(statement: bytes) -> str:
    return re.sub(r"\s+", " ", statement.decode()).strip()[:120]


@attrs.define
class Reader:
    """Cuts what a client sends into messages that do something, each with all that prepares it."""

    _pending: bytes = b""
    _prefix: bytes = b""
    _statements: dict[bytes, str] = attrs.field(factory=dict)
    _latest: str = ""
    _begun: bool = False

    def feed(self, data: bytes):
        self._pending += data
        while (message := self._cut()) is not None:
            yield message

    def _cut(self):
        if not self._begun:
            return self._startup()
        while len(self._pending) >= 5:
            length = 1 + struct.unpack("!I", self._pending[1:5])[0]
            if len(self._pending) < length:
                return None
            raw, self._pending = self._pending[:length], self._pending[length:]
            self._note(raw)
            self._prefix += raw
            if raw[0] not in NOTHING_TO_SAY:
                data, self._prefix = self._prefix, b""
                return Message(KINDS.get(raw[0], chr(raw[0])), self._latest, data)
        return None

    def _startup(self):
        if len(self._pending) < 8:
            return None
        length, code = struct.unpack("!II", self._pending[:8])
        if len(self._pending) < length:
            return None
        assert code not in ENCRYPTED, "connect with sslmode=disable gssencmode=disable"
        data, self._pending = self._pending[:length], self._pending[length:]
        self._begun = True
        return Message("startup", "", data)

    def _note(self, raw: bytes) -> None:
        body = raw[5:]
        if raw[0] == ord("P"):
            name, statement, _ = body.split(b"\0", 2)
            self._statements[name] = self._latest = squeezed(statement)
        elif raw[0] == ord("B"):
            _, name, _ = body.split(b"\0", 2)
            self._latest = self._statements.get(name, "?")
        elif raw[0] == ord("Q"):
            self._latest = squeezed(body.rstrip(b"\0"))


@attrs.define(eq=False)
class Link:
    """One connection through the network.

    Attributes:
        is_mute: whatever is sent through it, either way, is swallowed, for ever.
        deaf: replies are swallowed, and the link is reset once there are any.
    """

    network: "Network"
    client: trio.SocketStream
    server: trio.SocketStream
    is_mute: bool = False
    deaf: bool = False
    reader: Reader = attrs.field(factory=Reader)
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)

    def reset(self) -> None:
        """End it with a reset on the client's side."""
        with suppress(*BROKEN):
            linger = struct.pack("ii", 1, 0)
            self.client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.scope.cancel()

    async def run(self) -> None:
        with self.scope:
            async with self.server, self.client, trio.open_nursery() as nursery:
                nursery.start_soon(self._up)
                nursery.start_soon(self._down)

    async def _up(self) -> None:
        with suppress(*BROKEN):
            async for data in self.client:
                for message in self.reader.feed(data):
                    await self.network.pass_on(self)
                    if self.is_mute:
                        continue
                    await self.network.on_message(self, message)
                    await self.server.send_all(message.data)
        if not self.is_mute:
            self.scope.cancel()

    async def _down(self) -> None:
        with suppress(*BROKEN):
            async for data in self.server:
                await self.network.pass_on(self)
                if self.deaf:
                    self.network.on_unheard(self)
                    self.reset()
                if not self.is_mute:
                    await self.client.send_all(data)
        if not self.is_mute:
            self.scope.cancel()


async def nothing(link: Link, message: Message) -> None:
    """Let a message through."""


@attrs.define(eq=False)
class Network:
    """Offers a server's Unix socket over TCP.

    Attributes:
        on_message: is called before each message of a client's is sent on.
        on_unheard: is called when a deaf link swallows a reply.
        delay: seconds that anything is delayed for, at most.
        is_out: new links are reset.
        swallows: new links are mute.
    """

    socket_path: str
    port: int = 0
    on_message: Callable = nothing
    on_unheard: Callable = lambda link: None
    delay: float = 0.0
    is_out: bool = False
    swallows: bool = False
    links: set = attrs.field(factory=set)
    dice: random.Random = attrs.field(factory=lambda: random.Random(5))
    _open: trio.Event = attrs.field(factory=trio.Event)

    @classmethod
    def to(cls, dsn_info):
        network = cls(f"{dsn_info['host']}/.s.PGSQL.{dsn_info['port']}")
        network._open.set()
        return network

    def dsn(self, dsn_info) -> str:
        names = " ".join(f"{name}={dsn_info[name]}" for name in ("user", "dbname"))
        return f"host=127.0.0.1 port={self.port} {names} sslmode=disable gssencmode=disable"

    def hold(self) -> None:
        """Hold everything back, as lost packets are, until `release`."""
        self._open = trio.Event()

    def release(self) -> None:
        self._open.set()

    async def passage(self) -> None:
        """Wait while everything is held back."""
        await self._open.wait()

    async def pass_on(self, link: Link) -> None:
        if self.delay:
            await trio.sleep(self.dice.uniform(0, self.delay))
        await self.passage()

    async def serve(self, *, task_status=trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as nursery:
            [listener] = await nursery.start(
                partial(trio.serve_tcp, self._handle, 0, host="127.0.0.1")
            )
            self.port = listener.socket.getsockname()[1]
            task_status.started()

    async def _handle(self, client: trio.SocketStream) -> None:
        with suppress(*BROKEN):
            server = await trio.open_unix_socket(self.socket_path)
            link = Link(self, client, server, is_mute=self.swallows)
            if self.is_out:
                link.reset()
            self.links.add(link)
            try:
                await link.run()
            finally:
                self.links.discard(link)
