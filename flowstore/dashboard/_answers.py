"""What is answered to which request: decided here, without any I/O."""

import ipaddress
from collections.abc import Callable
from http import HTTPStatus
from string import Template
from typing import Final
from urllib.parse import parse_qs, urlsplit

import attrs

from flowstore.dashboard._page import Board, to_html, to_json

__all__ = ["Answer", "Request", "Site", "is_loopback", "refusal"]

_POLICY: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'"
)
"""The page brings its style with it, and nothing else may be loaded or run in it."""


@attrs.frozen
class Request:
    """What matters of a request.

    Attributes:
        method: GET, HEAD or another.
        target: path and query.
        host: the header `Host`; empty if there was none.
    """

    method: str
    target: str
    host: str


@attrs.frozen
class Answer:
    """What is sent back.

    Attributes:
        status: HTTP's.
        content_type: the body's.
        body: its bytes.
        headers: further headers.
    """

    status: HTTPStatus
    content_type: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


@attrs.frozen
class Site:
    """Answer requests from what a daemon says at that moment.

    Attributes:
        template: the page.
        look: gives what there is to show.
        local_only: answer only requests that name this machine. A page from elsewhere can have its
            own name resolve to a loopback address, and would read along otherwise.
    """

    template: Template
    look: Callable[[], Board]
    local_only: bool

    def answer(self, request: Request) -> Answer:
        """Decide what a request gets."""
        if self.local_only and not _names_this_machine(request.host):
            return refusal(HTTPStatus.MISDIRECTED_REQUEST, "This is not the host you asked for.")
        if request.method not in {"GET", "HEAD"}:
            answer = refusal(HTTPStatus.METHOD_NOT_ALLOWED, "Only GET and HEAD are answered.")
            return attrs.evolve(answer, headers=(("Allow", "GET, HEAD"),))
        path, _, query = request.target.partition("?")
        if path == "/":
            return self._page(parse_qs(query))
        if path == "/statuses.json":
            return Answer(HTTPStatus.OK, "application/json", to_json(self.look()))
        return refusal(HTTPStatus.NOT_FOUND, "There are / and /statuses.json here.")

    def _page(self, query: dict[str, list[str]]) -> Answer:
        refreshing = query.get("refresh") != ["off"]
        page = to_html(self.template, self.look(), refreshing=refreshing)
        policy = ("Content-Security-Policy", _POLICY)
        return Answer(HTTPStatus.OK, "text/html; charset=utf-8", page, (policy,))


def refusal(status: HTTPStatus, text: str) -> Answer:
    """Answer in one plain line."""
    return Answer(status, "text/plain; charset=utf-8", f"{text}\n".encode())


def is_loopback(host: str) -> bool:
    """Tell whether a name or address stands for this machine alone."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _names_this_machine(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname
    except ValueError:
        return False
    return name is not None and is_loopback(name)
