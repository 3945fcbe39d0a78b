"""`flowstore db`, as a process where its exit status matters."""

import os
import subprocess
import sys

import psycopg
import pytest

from flowstore.cli import main

APPLICATION = """
import attrs
from decimal import Decimal
from flowstore import FlatTable, StoreOptions

@attrs.frozen
class Sold:
    amount: Decimal

@attrs.define
class Customer:
    id: str
    name: str = ""

def make():
    options = StoreOptions(schema="shop", stream_identity="string")
    options.documents.type(Customer, indexes=["name"])
    table = FlatTable("sales", key="shop", key_type=str, columns={"sum": Decimal})
    options.projections.add(table.on(Sold, increment={"sum": "amount"}))
    return options

options = make()
number = 7

def fail():
    raise KeyError("no settings")

async def later():
    return options
"""


@pytest.fixture
def application(tmp_path, monkeypatch):
    """A folder with an application, where commands are given."""
    (tmp_path / "shop_application.py").write_text(APPLICATION)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FLOWSTORE_DSN", raising=False)
    yield "shop_application"
    sys.modules.pop("shop_application", None)
    if str(tmp_path) in sys.path:
        sys.path.remove(str(tmp_path))


def db(*arguments, **environment):
    done = subprocess.run(
        [sys.executable, "-m", "flowstore.cli", "db", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )
    assert "Traceback" not in done.stderr
    return done


def test_a_schema_is_applied_checked_and_found_wrong(application, dsn):
    given = ["--dsn", dsn, "--app", "shop_application:make"]
    lacking = db("assert", *given)
    assert (lacking.returncode, lacking.stdout) == (1, "")
    assert "the schema doesn't exist" in lacking.stderr

    applied = db("apply", *given)
    assert (applied.returncode, applied.stderr) == (0, "")
    lines = applied.stdout.splitlines()
    assert "created    document table 'doc_customer'" in lines
    assert "created    flat table 'sales'" in lines
    assert lines[-1] == "schema 'shop' is up to date"
    assert db("assert", *given).returncode == 0
    assert db("apply", *given).stdout == "schema 'shop' is up to date\n"

    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("drop index shop.doc_customer_name_idx")
    wrong = db("assert", *given)
    assert wrong.returncode == 1
    assert "index doc_customer_name_idx is missing" in wrong.stderr
    patch = db("patch", *given[2:], FLOWSTORE_DSN=dsn)
    assert patch.stdout.count("create index") == 1
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(patch.stdout)
    assert db("assert", *given).returncode == 0


def test_a_dump_goes_to_a_file_and_makes_what_assert_accepts(application, dsn, tmp_path, capsys):
    file = tmp_path / "schema.sql"
    given = ["--app", "shop_application:options", "--schema", 'Other "one"']
    assert main(["db", "dump", *given, "--output", str(file)]) == 0
    assert capsys.readouterr().out == ""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(file.read_bytes())
    assert main(["db", "assert", *given, "--dsn", dsn]) == 0
    assert "is what this store needs" in capsys.readouterr().out
    assert main(["db", "assert", *given, "--dsn", dsn, "--stream-identity", "uuid"]) == 1


def test_without_an_application_every_store_has_the_same(capsys):
    assert main(["db", "dump", "--stream-identity", "string"]) == 0
    text = capsys.readouterr().out
    assert 'create schema "flowstore"' in text
    assert "streams known by string" in text
    assert "doc_" not in text


def test_grants_are_for_the_role_and_the_applications_tables(application, capsys):
    assert main(["db", "grants", "--app", "shop_application:make", "--role", "the app"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == 'GRANT USAGE ON SCHEMA "shop" TO "the app";'
    assert (
        'GRANT SELECT, INSERT, UPDATE, DELETE ON TABLE "shop"."doc_customer" TO "the app";' in lines
    )
    assert not any("TRUNCATE" in line or "ALL" in line for line in lines)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["apply"], "no database was named"),
        (["dump", "--app", "nothing"], "MODULE:ATTRIBUTE"),
        (["dump", "--app", "no_such_module:x"], "ModuleNotFoundError"),
        (["dump", "--app", "shop_application:nowhere"], "has no nowhere"),
        (["dump", "--app", "shop_application:number"], "is a int"),
        (["dump", "--app", "shop_application:later"], "is a function"),
        (["dump", "--app", "shop_application:fail"], "fails: KeyError"),
        (["dump", "--schema", "x" * 64], "64 bytes"),
        (["dump", "--schema", ""], "is empty"),
        (["dump", "--output", "/nowhere/at/all.sql"], "can't be written"),
    ],
)
def test_a_wrong_command_line_is_told_in_one_line_with_status_2(
    application, capsys, arguments, told
):
    assert main(["db", *arguments]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("flowstore: ")
    assert told in line


def test_a_command_without_an_action_is_refused():
    with pytest.raises(SystemExit) as caught:
        main(["db"])
    assert caught.value.code == 2


def test_a_database_that_is_not_there_has_status_3(capsys):
    assert main(["db", "apply", "--dsn", "host=/nonexistent dbname=x"]) == 3
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_help_of_the_schema_commands_imports_nothing_heavy():
    script = (
        "import sys\n"
        "from flowstore.cli import main\n"
        "try: main(['db', 'apply', '--help'])\n"
        "except SystemExit: print('psycopg' in sys.modules, 'trio' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "False False"
