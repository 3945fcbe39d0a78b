"""The pytest plugin: found by its entry point, free where nobody asks, and beside pytest-trio."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[2]

STORES = """
from uuid import UUID

import attrs
import pytest
import trio

from flowstore import StoreOptions
from flowstore.testing import Faults, default_scenario


@attrs.frozen
class Counted:
    by: int


@attrs.define
class Total:
    id: UUID
    total: int = 0

    def apply(self, counted: Counted) -> None:
        self.total += counted.by


@pytest.fixture
def flowstore_options():
    options = StoreOptions()
    options.projections.aggregate_streams_with(Total)
    return options


async def total_of(store):
    async with store.session() as session:
        session.events.start_stream(UUID(int=1), Counted(2), Counted(3))
        await session.save_changes()
    async with store.build_projection_daemon() as daemon:
        await daemon.start_all()
        await daemon.wait_for_non_stale_results(timeout=30)
    async with store.session() as session:
        return (await session.load(Total, UUID(int=1))).total


@pytest.mark.trio
async def test_store(flowstore_store):
    assert await total_of(flowstore_store) == 5


@pytest.mark.trio
async def test_another_test_has_another_schema(flowstore_store, flowstore_schema):
    assert flowstore_store.options.schema == flowstore_schema
    assert await flowstore_store.highest_sequence() == 0


@pytest.mark.trio
async def test_memory(flowstore_memory_store):
    assert await total_of(flowstore_memory_store) == 5


def test_without_pytest_trio(flowstore_open):
    async def main():
        async with flowstore_open() as store:
            found = await total_of(store)
        async with flowstore_open() as again:
            return found, await again.highest_sequence()

    assert trio.run(main) == (5, 2)


def test_simulation(flowstore_simulation, pytestconfig):
    only = pytestconfig.getoption("--flowstore-seed")
    seeds = [each.seed for each in flowstore_simulation(seeds=[1, 2])]
    assert seeds == ([1, 2] if only is None else [only])
"""


def run(pytester, *arguments):
    return pytester.runpytest_subprocess("-p", "no:cacheprovider", *arguments, timeout=100)


@pytest.fixture
def here(pytester, monkeypatch):
    """A folder of tests whose pytest finds this flowstore installed, and warns of nothing."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(pytester.path), str(ROOT)]))
    pytester.makeini("[pytest]\nfilterwarnings = error\n")
    installed(pytester.path)
    return pytester


def test_its_fixtures_work_in_trio_tests_and_in_plain_ones(here, pg_dsn, admin):
    here.makepyfile(STORES)
    run(here, f"--flowstore-dsn={pg_dsn}", "--flowstore-seed=7").assert_outcomes(passed=5)
    left = "select count(*) from pg_namespace where nspname like 'flowstore_test_%'"
    assert admin.execute(left).fetchone() == (0,)


def test_without_a_server_named_it_brings_its_own(here, monkeypatch):
    monkeypatch.delenv("FLOWSTORE_TEST_DSN", raising=False)
    here.makeini("[pytest]\ntrio_mode = true\nfilterwarnings = error\n")
    here.makepyfile(STORES.replace("@pytest.mark.trio\n", ""))
    chosen = "test_store or simulation"
    run(here, "-k", chosen).assert_outcomes(passed=2, deselected=3)


def installed(path):
    """Lay down what an installation leaves: the entry points that pyproject.toml names."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [f"{name} = {at}" for name, at in project["entry-points"]["pytest11"].items()]
    info = path / "flowstore-0.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: flowstore\nVersion: 0.0\n")
    (info / "entry_points.txt").write_text("\n".join(["[pytest11]", *lines, ""]))
    files = [str(each.relative_to(ROOT)) for each in (ROOT / "flowstore").rglob("*.py")]
    (info / "RECORD").write_text("".join(f"{each},,\n" for each in files))


def test_it_is_found_by_its_entry_point_and_clashes_with_nothing(here):
    fixtures = run(here, "--fixtures").stdout.str()
    ours = fixtures.split("fixtures defined from flowstore")[1].split("fixtures defined from")[0]
    names = [line.split()[0] for line in ours.splitlines() if line and line[0].isalpha()]
    assert len(names) == 7
    assert all(name.startswith("flowstore_") for name in names)


def test_a_run_that_asks_for_nothing_imports_nothing(here):
    here.makepyfile(
        """
        import sys

        def test_all(pytestconfig):
            assert pytestconfig.pluginmanager.has_plugin("flowstore")
            ours = {name for name in sys.modules if name.split(".")[0] == "flowstore"}
            rooms = {"flowstore", "flowstore._late", "flowstore.testing"}
            assert ours == {*rooms, "flowstore.testing._plugin"}
            assert "psycopg" not in sys.modules
        """
    )
    run(here, "-p", "no:trio").assert_outcomes(passed=1)


def test_coverage_of_others_is_as_without_it(here):
    """An import before measuring begins would leave lines out: of its own package, and no other."""
    here.makepyfile(shop="def price():\n    return 3\n")
    here.makepyfile("import shop\n\ndef test_price():\n    assert shop.price() == 3\n")
    for command in (["run", "--source=shop", "-m", "pytest", "-p", "no:cacheprovider"], ["report"]):
        done = subprocess.run(
            [sys.executable, "-m", "coverage", *command],
            cwd=here.path,
            capture_output=True,
            text=True,
            check=True,
        )
    assert "100%" in done.stdout


def test_all_that_the_room_offers_is_found_when_asked_for():
    import flowstore.testing  # noqa: PLC0415  it is what the test is about

    for name in flowstore.testing.__all__:
        assert getattr(flowstore.testing, name).__name__
    assert set(flowstore.testing.__all__) <= set(dir(flowstore.testing))
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        getattr(flowstore.testing, "nothing")  # noqa: B009  pyright knows that it isn't there
