"""Every Python example of the documents does what it says, because it is run.

The examples of one document share one module, from top to bottom. They find in it `dsn`, the
connection string of a database of their own; a top-level `await` works as well as `trio.run`.
"""

import ast
import gc
import inspect
import re
import sys
import types
from pathlib import Path

import pytest
import trio

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
EXAMPLE = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def examples(text):
    """Yield each example, with as many empty lines before it as the document has lines."""
    for match in EXAMPLE.finditer(text):
        yield "\n" * text.count("\n", 0, match.start(1)) + match.group(1)


def execute(source, path, namespace):
    code = compile(source, path, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    ending = eval(code, namespace)
    if inspect.iscoroutine(ending):

        async def wait():
            await ending

        trio.run(wait)


@pytest.fixture(autouse=True)
def usual_garbage_collection():
    """Leave what an example sets for the whole process as it was."""
    usual = gc.get_threshold()
    yield
    gc.set_threshold(*usual)


@pytest.mark.parametrize(
    "path",
    [path for path in DOCUMENTS if EXAMPLE.search(path.read_text(encoding="utf-8"))],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_examples_run_from_top_to_bottom(path, dsn, monkeypatch):
    module = types.ModuleType(f"example_{path.stem}")
    # Where annotations are looked up, they are looked up in the module that a class names.
    monkeypatch.setitem(sys.modules, module.__name__, module)
    module.dsn = dsn
    for source in examples(path.read_text(encoding="utf-8")):
        execute(source, str(path), vars(module))


def test_an_example_keeps_its_line_number_and_may_await():
    [source] = examples("# Title\n\n```python\nimport trio\nawait trio.sleep(0)\nx = 1\n```\n")
    namespace = {}
    execute(source, "here", namespace)
    assert namespace["x"] == 1
    with pytest.raises(ZeroDivisionError) as caught:
        execute(source.replace("x = 1", "x = 1 / 0"), "here", {})
    assert caught.traceback[-1].lineno == 5
