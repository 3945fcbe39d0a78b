"""The tests that a guarantee is said to be held by exist."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`((?:\w+/)+test_\w+\.py)(?:::(\w+))?`", PAGE)))


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_a_test_that_is_named_exists(path, name):
    tree = ast.parse((ROOT / "tests" / path).read_text(encoding="utf-8"))
    found = {
        node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert not name or name in found


def test_every_guarantee_names_a_test():
    rows = re.findall(r"^\| G\d \|.*$", PAGE, re.MULTILINE)
    assert len(rows) == 7
    assert all("::test_" in row for row in rows)


@pytest.mark.parametrize(
    "broken",
    [
        "the mark is `max(sequence)`",
        "progress in a second transaction",
        "no floor guards a commit",
        "no epoch guards a commit",
        "notification without polling",
    ],
)
def test_a_wrong_design_is_named_with_the_test_that_catches_it(broken):
    [row] = re.findall(rf"^\| {re.escape(broken)} \|.*$", PAGE, re.MULTILINE)
    assert "::test_" in row.split("|")[3]
