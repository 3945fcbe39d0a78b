"""One client's connection: HTTP/1.1 by h11, bytes by trio."""

import logging
from http import HTTPStatus
from typing import Final

import attrs
import h11
import trio

from flowstore.dashboard._answers import Answer, Request, Site, refusal

__all__ = ["serve_client"]

logger = logging.getLogger("flowstore.dashboard")

_LONGEST_HEAD: Final = 16 * 1024
"""Bytes of a request's head at most; a browser's has one or two thousand."""

_PATIENCE: Final = 15.0
"""Seconds that a client may take for a request, or for taking the answer."""


@attrs.define(eq=False)
class _Client:
    """Reads requests from one stream and writes the answers."""

    stream: trio.abc.Stream
    http: h11.Connection

    async def request(self) -> h11.Request | None:
        """Read a request's head; None if the client is done.

        Raises:
            h11.RemoteProtocolError: it is no HTTP, or too long.
        """
        while True:
            event = self.http.next_event()
            if event is h11.NEED_DATA:
                self.http.receive_data(bytes(await self.stream.receive_some(_LONGEST_HEAD)))
            elif isinstance(event, h11.Request):
                return event
            elif isinstance(event, h11.ConnectionClosed):
                return None

    async def send(self, answer: Answer, *, close: bool, head_only: bool = False) -> None:
        """Write an answer."""
        headers = [
            ("Content-Type", answer.content_type),
            ("Content-Length", str(len(answer.body))),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
            ("Referrer-Policy", "no-referrer"),
            *answer.headers,
            *([("Connection", "close")] if close else []),
        ]
        head = h11.Response(
            status_code=answer.status, headers=headers, reason=answer.status.phrase.encode()
        )
        parts = [head, *([] if head_only else [h11.Data(answer.body)]), h11.EndOfMessage()]
        await self.stream.send_all(b"".join(self.http.send(part) or b"" for part in parts))


async def serve_client(stream: trio.abc.Stream, site: Site) -> None:
    """Answer a client's requests, one after the other, and close the stream."""
    http = h11.Connection(h11.SERVER, max_incomplete_event_size=_LONGEST_HEAD)
    client = _Client(stream, http)
    async with stream:
        try:
            while await _serve_one(client, site):
                http.start_next_cycle()
        except trio.BrokenResourceError:
            # Gone in the middle; whoever reads statuses comes again.
            logger.debug("a client of the dashboard went away", exc_info=True)


async def _serve_one(client: _Client, site: Site) -> bool:
    """Answer a request; whether another may follow on this connection."""
    with trio.move_on_after(_PATIENCE):
        try:
            head = await client.request()
        except h11.RemoteProtocolError as error:
            await _refuse(client, HTTPStatus(error.error_status_hint), str(error))
            return False
        if head is None:
            return False
        if _has_body(head):
            await _refuse(client, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "Send no body.")
            return False
        client.http.next_event()  # the end of the message, which is there: it has no body
        answer = _answer(site, head)
        await client.send(answer, close=False, head_only=head.method == b"HEAD")
        return client.http.our_state is h11.DONE
    return False


async def _refuse(client: _Client, status: HTTPStatus, text: str) -> None:
    if client.http.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
        await client.send(refusal(status, text), close=True)


def _has_body(head: h11.Request) -> bool:
    headers = dict(head.headers)
    return b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0"


def _answer(site: Site, head: h11.Request) -> Answer:
    headers = dict(head.headers)
    request = Request(
        head.method.decode("ascii"),
        head.target.decode("latin-1"),
        headers.get(b"host", b"").decode("latin-1"),
    )
    try:
        return site.answer(request)
    except Exception:
        # A page that can't be drawn must not end the daemon in the same nursery.
        logger.exception("the dashboard can't answer %r", request)
        return refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "The page can't be drawn: see the log.")
