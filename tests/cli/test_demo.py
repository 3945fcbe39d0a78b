"""The demo, as a process of its own against real PostgreSQL."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import attrs
import psycopg
import pytest
import trio
from psycopg import sql

from flowstore import StoreOptions, open_store
from flowstore.cli._projects import ActiveProject
from flowstore.cli._publish import Published

MANY = "8000"


def unwarned(err):
    """Leave out that the tests' server forgets, which it is told to do."""
    forgetful = re.compile(r"(fsync|full_page_writes|synchronous_commit) is off on this server: ")
    lines = err.splitlines(keepends=True)
    return "".join(line for line in lines if not forgetful.match(line))


@attrs.frozen
class Demo:
    """Runs the demo against one schema."""

    dsn: str
    schema: str

    def start(self, *arguments):
        command = [sys.executable, "-m", "flowstore.cli", "demo", "--schema", self.schema]
        return subprocess.Popen(
            [*command, "--dsn", self.dsn, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments):
        process = self.start(*arguments)
        out, err = process.communicate(timeout=300)
        return subprocess.CompletedProcess(process.args, process.returncode, out, unwarned(err))

    def holds(self, connection):
        """Keep others from appending; tell whether there are events. Nobody does where no store is."""
        table = sql.Identifier(self.schema, "events")
        try:
            connection.execute(sql.SQL("lock table {} in share row exclusive mode").format(table))
        except (psycopg.errors.InvalidSchemaName, psycopg.errors.UndefinedTable):
            return False
        count = sql.SQL("select count(*) from {}").format(table)
        return connection.execute(count).fetchone()[0] > 0

    def stop_midway(self, number, *arguments):
        """Send a signal once some events are in the store, before more are, and wait for the end."""
        process = self.start(*arguments)
        with psycopg.connect(self.dsn) as connection:
            while not self.holds(connection):
                connection.rollback()
                assert process.poll() is None, process.stderr.read()
                time.sleep(0.01)
            process.send_signal(number)
            _, err = process.communicate(timeout=300)
        return process.returncode, unwarned(err)


@pytest.fixture
def demo(pg_dsn, schema):
    return Demo(pg_dsn, schema)


@pytest.fixture
def exported(tmp_path):
    """Two small histories in files."""
    paths = []
    for name, many in (("curious", 300), ("attentive", 40)):
        path = tmp_path / f"{name}.gitlog"
        path.write_text(
            "".join(
                f"commit {i}\nauthor A{i % 7}\ndate d\nsubject Fixes #{i % 5}\n\n{i}\t1\ta.py\n"
                for i in range(many)
            )
        )
        paths.append(path)
    return paths


def row(output, project):
    """Find a project's numbers in the table: lines, open issues, contributors."""
    found = re.search(rf"^{project} +\S+ +([-\d,]+) +([-\d,]+) +([-\d,]+)$", output, re.MULTILINE)
    return [int(cell.replace(",", "")) for cell in found.groups()]


def test_histories_become_documents_that_agree_before_and_after_a_rebuild(demo, exported):
    done = demo.run(*exported)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count(": all agree") == 2
    assert row(done.stdout, "curious") == [300 * 299 // 2 - 300, 0, 7]
    assert row(done.stdout, "attentive") == [40 * 39 // 2 - 40, 0, 7]


def test_a_repositorys_totals_are_those_of_git(demo, make_repo):
    repo = make_repo("there")
    repo.commit("Initial commit", {"a.py": b"1\n2\n3\n"})
    repo.commit("See #12", {"a.py": b"1\n", "b.py": b"1\n"}, author="Bob <bob@localhost>")
    done = demo.run(repo.path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("checked    1 document, ") == 2
    assert row(done.stdout, "there") == [2, 1, 2]


def test_a_second_run_appends_nothing_more(demo, exported):
    first, second = demo.run(*exported), demo.run(*exported)
    assert second.returncode == 0
    assert "events of them were there" not in first.stdout
    assert "appended 0 events" in second.stdout
    assert row(second.stdout, "curious") == row(first.stdout, "curious")


def test_a_made_up_history_is_published_whole(demo):
    done = demo.run("--events", 2500, "--seed", 7)
    assert (done.returncode, done.stderr) == (0, "")
    assert "published 2,500 of 2,500" in done.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_says_so_and_the_next_one_goes_on(demo, number):
    status, err = demo.stop_midway(number, "--events", MANY)
    assert status == 128 + number
    [line] = err.splitlines()
    assert line.startswith(f"flowstore: stopped by {'Ctrl-C' if number == 2 else 'SIGTERM'}; ")
    assert " events are in the store, " in line
    assert line.endswith(", and the same command goes on from there")
    again = demo.run("--events", MANY)
    assert (again.returncode, again.stderr) == (0, "")
    assert "of them were there from an earlier run" in again.stdout


@pytest.mark.parametrize(
    ("published", "told"),
    [
        (Published(), "nothing had been published"),
        (
            Published(found=1_000, appended=234),
            "1,234 events are in the store, and the same command goes on from there",
        ),
        (
            Published(in_hand=500),  # a commit that was sent, and of whose end nobody has heard
            "0 events are in the store, 500 more may be, and the same command goes on from there",
        ),
    ],
)
def test_what_a_stopped_run_left_is_told_as_far_as_it_is_known(published, told):
    assert published.kept() == told


def test_a_run_that_was_killed_ends_right_when_it_is_started_again(demo):
    status, _ = demo.stop_midway(signal.SIGKILL, "--events", MANY)
    assert status == -signal.SIGKILL
    again = demo.run("--events", MANY)
    assert (again.returncode, again.stderr) == (0, "")
    assert "of them were there from an earlier run" in again.stdout
    assert again.stdout.count(": all agree") == 2


def test_two_runs_at_once_publish_every_event_once(demo, exported):
    assert demo.run(exported[1]).returncode == 0
    both = [demo.start(exported[0]) for _ in range(2)]
    endings = [process.communicate(timeout=300) for process in both]
    # Of two owners of the projection one may have to give way; the events are there once.
    assert any(process.returncode == 0 for process in both), endings
    done = demo.run(exported[0])
    assert (done.returncode, done.stderr) == (0, "")


async def test_a_document_that_disagrees_is_told_and_gives_status_1(demo, exported):
    assert (await trio.to_thread.run_sync(demo.run, exported[0])).returncode == 0
    options = StoreOptions(schema=demo.schema)
    options.projections.aggregate_streams_with(ActiveProject)
    async with open_store(demo.dsn, options) as store, store.session() as session:
        [project] = await session.find(ActiveProject)
        project.lines_of_code += 1
        session.store(project)
        await session.save_changes()
    done = await trio.to_thread.run_sync(demo.run, exported[0])
    assert done.returncode == 1
    assert "DISAGREES  local/curious" in done.stdout
    assert "the document has 44551 lines of code, the history 44550" in done.stdout
    assert done.stdout.count(": they agree") == 1  # the rebuild has mended it


def one_line_with_status(done, status):
    assert done.returncode == status, done
    [line] = done.stderr.splitlines()
    assert line.startswith("flowstore: ")
    return line


def test_a_folder_that_is_no_repository_is_one_line(demo, tmp_path):
    line = one_line_with_status(demo.run(tmp_path), 2)
    assert f"{tmp_path} is not a git repository" in line


def test_repositories_and_a_made_up_history_exclude_each_other(demo, exported):
    line = one_line_with_status(demo.run(exported[0], "--events", 5), 2)
    assert "exclude each other" in line


def test_an_unreachable_server_is_one_line(schema, exported, tmp_path):
    done = Demo(f"host={tmp_path} port=5432 password=secret", schema).run(exported[1])
    line = one_line_with_status(done, 3)
    assert str(tmp_path) in line
    assert "secret" not in line


def test_a_port_that_something_else_answers_is_one_line(schema, exported):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def answer():
            connection, _ = server.accept()
            with connection:
                connection.recv(100)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        done = Demo(f"host=127.0.0.1 port={port} dbname=x", schema).run(exported[1])
        thread.join()
    one_line_with_status(done, 3)


def test_the_dsn_may_come_from_the_environment(demo, exported, monkeypatch):
    monkeypatch.setenv("FLOWSTORE_DSN", demo.dsn)
    done = subprocess.run(
        [sys.executable, "-m", "flowstore.cli", "demo", "--schema", demo.schema, exported[1]],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ,
    )
    assert (done.returncode, unwarned(done.stderr)) == (0, "")


def test_an_embedded_server_that_cannot_start_is_one_line_with_the_way_out(exported, tmp_path):
    in_the_way = tmp_path / "file"
    in_the_way.touch()
    done = subprocess.run(
        [sys.executable, "-m", "flowstore.cli", "demo", "--data-dir", in_the_way, exported[1]],
        capture_output=True,
        text=True,
        check=False,
    )
    line = one_line_with_status(done, 3)
    assert str(in_the_way) in line
    assert "--data-dir FOLDER puts its data elsewhere" in line
