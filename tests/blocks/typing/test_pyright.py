"""The types a user's own type checker sees, held by pyright: once, over all files beside this one.

A line that ends with "pyright expects an error" must be rejected; every other line accepted.
"""

import functools
import importlib.util
import json
import pathlib
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[2]
MARK = "# pyright expects an error"
FILES = sorted(path for path in HERE.glob("*.py") if not path.name.startswith("test_"))

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("pyright") is None, reason="pyright is not installed"
)


@functools.cache
def diagnostics():
    """Run pyright once, and give its complaints as a mapping from file to {line: message}."""
    command = [sys.executable, "-m", "pyright", "--outputjson", *map(str, FILES)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    found = {path: {} for path in FILES}
    for entry in json.loads(done.stdout)["generalDiagnostics"]:
        if entry["severity"] == "error":
            line = entry["range"]["start"]["line"] + 1
            found[pathlib.Path(entry["file"])][line] = entry["message"]
    return found


def marked_lines(path):
    lines = path.read_text().splitlines()
    return {number for number, line in enumerate(lines, start=1) if line.endswith(MARK)}


def test_there_are_files_to_check():
    assert FILES


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_pyright_accepts_every_line_that_is_right(path):
    wrong = {
        line: message
        for line, message in diagnostics()[path].items()
        if line not in marked_lines(path)
    }
    assert wrong == {}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_pyright_rejects_every_line_that_is_wrong(path):
    assert marked_lines(path) - set(diagnostics()[path]) == set()
