"""The command line itself, as a process and in this one."""

import os
import subprocess
import sys
from importlib import metadata

import pytest

from flowstore.cli import main

HEAVY = ("trio", "psycopg", "cattrs", "rich", "flowstore.store", "flowstore.postgres")


def flowstore(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "flowstore.cli", *arguments],
        capture_output=True,
        text=True,
        check=False,
        **options,
    )


def test_help_imports_nothing_heavy():
    script = (
        "import sys\n"
        "from flowstore.cli import main\n"
        "try: main(['demo', '--help'])\n"
        f"except SystemExit: print([name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"
    assert "usage: flowstore demo" in done.stdout


def test_the_version_is_the_packages():
    assert flowstore("--version").stdout == f"flowstore {metadata.version('flowstore')}\n"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["dance"], "invalid choice: 'dance'"),
        (["demo", "--events", "0"], "'0' is not a number of events, at least 1"),
        (["demo", "--events", "many"], "'many' is not a number of events, at least 1"),
        (["demo", "--dsn", "x", "--data-dir", "y"], "not allowed with argument"),
    ],
)
def test_a_wrong_command_line_is_told_in_one_line_with_status_2(arguments, told, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert told in capsys.readouterr().err.splitlines()[-1]


def test_a_reader_that_goes_away_is_no_traceback(tmp_path):
    history = tmp_path / "there.gitlog"
    history.write_text("commit 1\nauthor a\ndate d\nsubject s\n")
    read_end, write_end = os.pipe()
    os.close(read_end)
    with os.fdopen(write_end, "w") as out:
        done = subprocess.run(
            [sys.executable, "-m", "flowstore.cli", "demo", history, "/nowhere"],
            stdout=out,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 141
    assert "Traceback" not in done.stderr
