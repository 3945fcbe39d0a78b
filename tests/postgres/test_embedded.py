"""The embedded server: who starts it, who joins, and that it never outlives its last client."""

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import trio

from flowstore.errors import EmbeddedServerError
from flowstore.postgres import Connection, _binaries, embedded_postgres
from flowstore.postgres._binaries import binaries_for, candidates
from flowstore.postgres._cluster import Home, _private_directory, make_places, server_user
from flowstore.postgres._embedded import _has_clients, _home, _is_supervised
from flowstore.postgres._supervisor import is_postmaster, pid_file, running

PATIENCE = 60
"""Seconds that processes have to end, on a machine that does much else."""
FAST = {"fsync": False, "synchronous_commit": False}
ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="root's own difficulties")
LINUX = pytest.mark.skipif(not Path("/proc").exists(), reason="looks into /proc")

CLIENT = """
import sys, trio
from flowstore.postgres import embedded_postgres
async def main():
    async with embedded_postgres(sys.argv[1], settings={"fsync": False}) as dsn:
        print(dsn, flush=True)
        await trio.to_thread.run_sync(sys.stdin.readline)
trio.run(main)
"""


@pytest.fixture(scope="module")
def shared_home():
    """A home that several tests use one after the other: its cluster is made once."""
    with tempfile.TemporaryDirectory(prefix="flowstore-home-") as path:
        Path(path).chmod(0o755)
        yield Home(Path(path))


@pytest.fixture
async def home(shared_home):
    yield shared_home
    await gone(shared_home)


@pytest.fixture
def fresh_home():
    with tempfile.TemporaryDirectory(prefix="flowstore-home-") as path:
        Path(path).chmod(0o755)
        yield Home(Path(path))


@pytest.fixture
async def client(home, nursery):
    """Start client processes; each tells its DSN, and stays until its standard input ends."""

    async def start() -> tuple[trio.Process, str]:
        process = await trio.lowlevel.open_process(
            [sys.executable, "-c", CLIENT, home.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        processes.append(process)
        return process, (await process.stdout.receive_some()).decode().strip()

    processes: list[trio.Process] = []
    yield start
    with trio.CancelScope(shield=True):
        for process in processes:
            process.kill()
            await process.wait()
            await process.stdin.aclose()
            await process.stdout.aclose()


async def gone(home: Home) -> None:
    with trio.fail_after(PATIENCE):
        while _is_supervised(home) or running(home.data) is not None:  # noqa: ASYNC110 - processes
            await trio.sleep(0.005)


async def ask(dsn, query):
    async with await Connection.connect(dsn) as conn:
        return (await (await conn.execute(query)).fetchone())[0]


def parent_of(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("PPid:"):
            return int(line.split()[1])
    raise AssertionError(pid)


# -- one client --------------------------------------------------------------------------------------


async def test_the_server_runs_for_the_block_and_is_gone_after_it(home):
    async with embedded_postgres(home.path, settings=FAST) as dsn:
        assert await ask(dsn, "select 1") == 1
    assert not _is_supervised(home)
    assert not pid_file(home.data)


async def test_data_stay_for_the_next_block(home):
    async with embedded_postgres(home.path, settings=FAST) as dsn:
        await ask(dsn, "select lo_from_bytea(777, 'kept')")
    async with embedded_postgres(home.path, settings=FAST) as dsn:
        assert await ask(dsn, "select lo_get(777)") == b"kept"


async def test_nobody_else_can_reach_the_server(home):
    async with embedded_postgres(home.path, settings=FAST) as dsn:
        assert await ask(dsn, "show listen_addresses") == ""
    assert [place.stat().st_mode & 0o777 for place in (home.data, home.sockets)] == [0o700, 0o700]


async def test_settings_are_the_callers(home):
    settings = {**FAST, "work_mem": "7MB", "random_page_cost": 1.5}
    async with embedded_postgres(home.path, settings=settings) as dsn:
        assert await ask(dsn, "show work_mem") == "7MB"
        assert await ask(dsn, "show random_page_cost") == "1.5"
        assert await ask(dsn, "show fsync") == "off"


async def test_a_setting_that_is_the_servers_own_is_refused(home):
    with pytest.raises(EmbeddedServerError, match="'port'"):
        async with embedded_postgres(home.path, settings={"port": 1}):
            pytest.fail("started")


async def test_what_postgres_says_against_a_setting_is_in_the_error(home):
    with pytest.raises(EmbeddedServerError, match=r'did not start(.|\n)*"nonsense"'):
        async with embedded_postgres(home.path, settings={"work_mem": "nonsense"}):
            pytest.fail("started")


async def test_others_run_while_the_server_starts_and_stops(home, nursery):
    turns = 0

    @nursery.start_soon
    async def _():
        nonlocal turns
        while True:
            await trio.sleep(0.001)
            turns += 1

    before = turns
    async with embedded_postgres(home.path, settings=FAST):
        started = turns
    assert started - before > 5
    assert turns - started > 2


async def test_cancelled_while_starting_no_server_stays(home):
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def _():
            async with embedded_postgres(home.path, settings=FAST):
                await trio.sleep_forever()

        while not _is_supervised(home):
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    await gone(home)


async def test_the_bodys_exception_leaves_as_it_is(home):
    with pytest.raises(KeyError):
        async with embedded_postgres(home.path, settings=FAST):
            raise KeyError


async def test_a_home_that_cannot_be_made_is_named(fresh_home):
    (fresh_home.path / "file").touch()
    with pytest.raises(EmbeddedServerError, match="file/below"):
        async with embedded_postgres(fresh_home.path / "file" / "below"):
            pytest.fail("started")


# -- several clients ---------------------------------------------------------------------------------


async def test_another_process_joins_and_the_server_outlives_the_one_that_started_it(home, client):
    async with embedded_postgres(home.path, settings=FAST) as dsn:
        began = await ask(dsn, "select pg_postmaster_start_time()")
        process, joined = await client()
        assert joined == dsn
    assert await ask(dsn, "select pg_postmaster_start_time()") == began
    await process.stdin.aclose()
    await process.wait()
    await gone(home)


async def test_two_blocks_of_one_process_share_a_server(home):
    async with embedded_postgres(home.path, settings=FAST) as first:
        async with embedded_postgres(home.path) as second:
            assert first == second
        assert await ask(first, "select 1") == 1


async def test_four_starters_at_once_give_one_server(home, client):
    began = []

    async def start():
        _, dsn = await client()
        began.append(await ask(dsn, "select pg_postmaster_start_time()"))

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(start)
    assert len(began) == 4
    assert len(set(began)) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_the_server_ends_when_its_last_client_is_killed(home, client, number):
    process, _ = await client()
    assert running(home.data)
    process.send_signal(number)
    await gone(home)


# -- what others left --------------------------------------------------------------------------------


async def test_a_server_that_crashed_is_started_again(home):
    with contextlib.suppress(OSError):
        async with embedded_postgres(home.path, settings=FAST) as dsn:
            os.kill(running(home.data), signal.SIGKILL)
            await gone(home)
    async with embedded_postgres(home.path, settings=FAST) as dsn:
        assert await ask(dsn, "select 1") == 1


@LINUX
async def test_the_server_ends_with_its_last_client_though_its_supervisor_was_killed(home, client):
    process, _ = await client()
    os.kill(parent_of(running(home.data)), signal.SIGKILL)
    process.kill()
    await gone(home)


@LINUX
async def test_a_server_without_its_supervisor_is_replaced(home):
    async with embedded_postgres(home.path, settings=FAST):
        orphan = running(home.data)
        os.kill(parent_of(orphan), signal.SIGKILL)
        with trio.fail_after(PATIENCE):
            while _is_supervised(home):  # noqa: ASYNC110 - another process
                await trio.sleep(0.005)
        async with embedded_postgres(home.path, settings=FAST) as dsn:
            assert await ask(dsn, "select 1") == 1
            assert running(home.data) != orphan


@pytest.fixture
def stranger():
    """A live process of the server's user that is no postmaster."""
    who = server_user()
    options = {} if who is None else {"user": who[0], "group": who[1], "extra_groups": []}
    process = subprocess.Popen(["sleep", "60"], cwd="/", **options)
    yield process
    process.kill()
    process.wait()


def dead_but_not_buried(process):
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)


@pytest.mark.parametrize("zombie", [False, True], ids=["stranger", "zombie"])
async def test_a_pid_file_with_the_number_of_another_process_is_no_hindrance(
    home, stranger, zombie
):
    async with embedded_postgres(home.path, settings=FAST):
        lines = pid_file(home.data)
    if zombie:
        stranger.kill()
        dead_but_not_buried(stranger)
    (home.data / "postmaster.pid").write_text("\n".join([str(stranger.pid), *lines[1:], ""]))
    async with embedded_postgres(home.path, settings=FAST) as dsn:
        assert await ask(dsn, "select 1") == 1


async def test_a_cluster_left_half_made_is_made_again(fresh_home):
    make_places(fresh_home, server_user())
    (fresh_home.cluster / "data-half").mkdir()
    (fresh_home.cluster / "data-half" / "postgresql.conf").touch()
    async with embedded_postgres(fresh_home.path, settings=FAST) as dsn:
        assert await ask(dsn, "select 1") == 1


async def test_has_clients_tells_shares_from_nobody(home):
    async with embedded_postgres(home.path, settings=FAST):
        assert _has_clients(home)
    assert not _has_clients(home)


def test_this_process_is_no_postmaster(tmp_path):
    assert not is_postmaster(os.getpid(), tmp_path)


# -- places ------------------------------------------------------------------------------------------


def test_a_socket_path_that_would_be_too_long_lies_below_tmp(tmp_path):
    near, deep = Home(Path("/home/me")), Home(tmp_path / ("d" * 100))
    assert near.sockets == Path("/home/me/cluster/run")
    assert deep.sockets.parent == Path("/tmp")


@ROOT
async def test_a_home_that_the_servers_user_cannot_reach_links_to_its_cluster(tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    home = Home(closed / "home")
    async with embedded_postgres(home.path, settings=FAST) as dsn:
        assert await ask(dsn, "select 1") == 1
    assert (home.path / "cluster").is_symlink()
    assert closed.stat().st_mode & 0o777 == 0o700
    shutil.rmtree(home.cluster)


@ROOT
def test_the_cluster_of_a_temporary_home_that_is_gone_is_cleared_away(tmp_path):
    tmp_path.chmod(0o700)
    first, second = Home(tmp_path / "first"), Home(tmp_path / "second")
    for home in (first, second):
        home.path.mkdir()
    make_places(first, server_user())
    left = first.cluster
    shutil.rmtree(first.path)
    make_places(second, server_user())
    assert not left.exists()
    assert second.cluster.exists()
    shutil.rmtree(second.cluster)


@ROOT
async def test_programs_that_the_servers_user_cannot_read_are_copied(
    fresh_home, tmp_path, monkeypatch
):
    installation = candidates()[0].parent
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    target = closed / installation.parent.name / installation.name
    shutil.copytree(installation, target, copy_function=os.link, symlinks=True)
    libraries = installation.parent.with_name(installation.parent.name + ".libs")
    if libraries.exists():
        shutil.copytree(libraries, closed / libraries.name, copy_function=os.link)
    monkeypatch.setenv("FLOWSTORE_PG_BIN", str(target / "bin"))
    async with embedded_postgres(fresh_home.path, settings=FAST) as dsn:
        assert await ask(dsn, "select 1") == 1
    assert closed.stat().st_mode & 0o777 == 0o700


@ROOT
def test_a_directory_that_somebody_else_made_is_refused(tmp_path):
    stranger = pwd.getpwnam("nobody").pw_uid
    place = tmp_path / "place"
    place.mkdir()
    with pytest.raises(EmbeddedServerError, match="belongs to user 0"):
        _private_directory(place, (stranger + 1, stranger))


def test_without_a_data_dir_it_is_the_platforms_place_for_data(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    if sys.platform == "linux":
        assert _home(None).path == tmp_path / "flowstore" / "postgres"


# -- programs ----------------------------------------------------------------------------------------


def test_the_environment_names_the_programs_first(monkeypatch, tmp_path):
    for program in ("initdb", "postgres"):
        (tmp_path / program).touch()
    monkeypatch.setenv("FLOWSTORE_PG_BIN", str(tmp_path))
    assert candidates() == [tmp_path]


def test_an_environment_that_names_no_programs_is_an_error(monkeypatch, tmp_path):
    monkeypatch.setenv("FLOWSTORE_PG_BIN", str(tmp_path))
    with pytest.raises(EmbeddedServerError, match=r"FLOWSTORE_PG_BIN is .* lacks initdb"):
        candidates()


def test_the_wheel_comes_before_the_systems_programs(monkeypatch, tmp_path):
    system = tmp_path / "15" / "bin"
    system.mkdir(parents=True)
    for program in ("initdb", "postgres"):
        (system / program).touch()
    monkeypatch.delenv("FLOWSTORE_PG_BIN", raising=False)
    monkeypatch.setattr(_binaries, "SYSTEM", tmp_path)
    found = candidates()
    assert found.index(system) > 0
    assert found[0].parent.name == "pginstall18"


def test_without_any_programs_the_error_names_the_ways_out(monkeypatch, tmp_path):
    monkeypatch.delenv("FLOWSTORE_PG_BIN", raising=False)
    monkeypatch.setattr(_binaries, "WHEEL", "no_such_wheel")
    monkeypatch.setattr(_binaries, "SYSTEM", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EmbeddedServerError, match=r"flowstore\[embedded\](.|\n)*--dsn"):
        candidates()


async def test_data_of_a_version_without_programs_are_an_error(tmp_path):
    (tmp_path / "PG_VERSION").write_text("9\n")
    with pytest.raises(EmbeddedServerError, match=r"made by PostgreSQL 9, but found are \d+ in"):
        await binaries_for(tmp_path)
