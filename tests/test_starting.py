"""What a program imports with what it asks for: the rest would cost it time at every start."""

import ast
import pickle
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from flowstore.blocks import BlockStatistics, BufferBlock

PACKAGES = [
    "flowstore",
    "flowstore.blocks",
    "flowstore.daemon",
    "flowstore.postgres",
    "flowstore.store",
    "flowstore.testing",
]


def loaded_by(script):
    """Tell which modules a program of its own has imported."""
    script += "\nimport sys\nprint(*sys.modules, sep='\\n')"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def packages_of(modules):
    return {name.partition(".")[0] for name in modules}


def test_all_of_the_blocks_bring_in_trio_and_attrs_and_neither_a_database_nor_a_codec():
    loaded = loaded_by("from flowstore.blocks import *\nActionBlock, JoinBlock, run")
    assert not packages_of(loaded) & {"psycopg", "cattrs", "msgspec", "asyncio", "pickle"}
    rooms = {".".join(name.split(".")[:2]) for name in loaded if name.startswith("flowstore.")}
    assert rooms == {"flowstore._late", "flowstore.blocks", "flowstore.errors"}
    beyond_trio = loaded - loaded_by("import trio, attrs")
    assert packages_of(beyond_trio) == {"flowstore"}


def test_the_blocks_themselves_bring_in_nothing_before_one_is_asked_for():
    loaded = loaded_by("import flowstore.blocks")
    assert not packages_of(loaded) & {"trio", "attr", "attrs"}


def test_who_links_two_blocks_brings_in_no_others():
    loaded = loaded_by("from flowstore.blocks import ActionBlock, SourceBlock")
    assert "flowstore.blocks._source" in loaded
    others = ("_batch", "_broadcast", "_channels", "_fan_out", "_join", "_join_nodes")
    assert not loaded & {f"flowstore.blocks.{name}" for name in others}


def test_a_worker_of_a_rebuild_brings_in_no_daemon_and_no_schema_commands():
    loaded = loaded_by("import flowstore.daemon._worker")
    assert "flowstore.daemon._filling" in loaded
    unneeded = [
        *("flowstore.daemon._daemon", "flowstore.daemon._rebuild", "flowstore.daemon._shard"),
        *("flowstore.daemon._store", "flowstore.daemon._workers"),
        *("flowstore.postgres._embedded", "flowstore.postgres._cluster", "platformdirs"),
        *("flowstore.store._schema_commands", "flowstore.store.memory"),
        *("flowstore.cli", "flowstore.dashboard", "flowstore.testing"),
    ]
    assert not loaded & set(unneeded)


def test_only_the_program_that_is_a_worker_lets_garbage_be_while_it_starts():
    script = "import gc, flowstore.daemon._start_worker\nassert gc.isenabled()"
    assert "flowstore.daemon._worker" not in loaded_by(script)


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_finds_what_it_offers_when_asked(package):
    module = import_module(package)
    for name in module.__all__:
        assert getattr(module, name) is vars(module)[name]  # asked for once
    assert set(module.__all__) <= set(dir(module))
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'nothing'"):
        getattr(module, "nothing")  # noqa: B009  pyright knows that it isn't there
    with pytest.raises(ImportError, match="cannot import name 'nothing'"):
        exec(f"from {package} import nothing")


@pytest.mark.parametrize("package", PACKAGES)
def test_what_type_checkers_read_is_what_a_package_finds(package):
    module = import_module(package)
    tree = ast.parse(Path(module.__file__).read_text())
    (branch,) = (node for node in tree.body if isinstance(node, ast.If))
    read = {
        alias.name: node.module
        for node in branch.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    ((_, homes),) = (
        [ast.literal_eval(arg) if isinstance(arg, ast.Dict) else arg for arg in node.args]
        for node in ast.walk(branch)
        if isinstance(node, ast.Call)
    )
    found = {name: _path(package, home) for home, names in homes.items() for name in names}
    assert found == read
    assert {*found} == {*module.__all__}


def _path(package, home):
    return home if home.startswith("flowstore.") else f"{package}.{home}"


def test_a_star_brings_every_name():
    names: dict[str, object] = {}
    exec("from flowstore.blocks import *", names)
    assert names["BufferBlock"] is BufferBlock


def test_what_was_found_late_is_pickled_by_the_module_where_it_is():
    assert pickle.loads(pickle.dumps(BlockStatistics)) is BlockStatistics
