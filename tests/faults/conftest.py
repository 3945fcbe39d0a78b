"""Faults on purpose. `FLOWSTORE_SOAK=1` makes the runs long; this is the only place that reads it."""

import importlib.util
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import attrs
import pytest
import trio

from flowstore.postgres import _supervisor
from flowstore.postgres._embedded import Lease, join

_T = TypeVar("_T")
HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def soak() -> Callable[[_T, _T], _T]:
    """Choose by how long runs may take: `soak(usually, when_soaking)`."""
    long = os.environ.get("FLOWSTORE_SOAK") == "1"

    def choose(usually: _T, when_soaking: _T) -> _T:
        return when_soaking if long else usually

    return choose


def load(name: str) -> ModuleType:
    """Import a neighbour that is no test, by the name that it has for a program beside it."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@pytest.fixture(scope="session")
def victim() -> ModuleType:
    """What faults befall, and the query that judges."""
    return load("victim")


@pytest.fixture(scope="session")
def networks() -> ModuleType:
    """A network that can be cut."""
    return load("network")


@pytest.fixture(scope="session")
def lives(victim: ModuleType) -> ModuleType:
    """Processes to be killed."""
    return load("lives")


@pytest.fixture
async def forge(lives: ModuleType) -> AsyncIterator[Any]:
    """Start processes cheaply, one at a time."""
    async with lives.forging() as forge:
        yield forge


@attrs.define
class Server:
    """A server of a test's own, which may be stopped."""

    home: str
    lease: Lease | None = None

    @property
    def dsn(self) -> str:
        return self.lease.dsn

    async def start(self) -> None:
        before = self.lease
        # What the server acknowledged has to outlive it, not the machine.
        self.lease = await join(self.home, settings={"fsync": False})
        if before is not None:
            os.close(before.descriptor)

    async def stop(self, number: signal.Signals) -> None:
        """Stop it: SIGINT ends sessions and writes everything down, SIGQUIT just ends."""
        data = self.lease.home.data
        pid = _supervisor.running(data)
        os.kill(pid, number)
        with trio.fail_after(30):
            while _supervisor.is_postmaster(pid, data):  # noqa: ASYNC110 - it is another process
                await trio.sleep(0.005)


@pytest.fixture
def home() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="flowstore-faults-") as home:
        Path(home).chmod(0o755)  # the server has a user of its own, where we are root
        yield home


@pytest.fixture
async def server(home: str) -> AsyncIterator[Server]:
    server = Server(home)
    await server.start()
    yield server
    await server.lease.leave()
