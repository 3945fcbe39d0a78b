"""PostgreSQL's own pgbench inserting rows: no Python at all."""

import os
import re
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import trio
from _report import Measured
from _store_cases import Bench, Entry, Job, SkippedError
from _store_raw import prepare_table
from _store_work import APPENDS, Append
from psycopg import conninfo

from flowstore.errors import EmbeddedServerError
from flowstore.postgres._binaries import candidates

DATA = '{"user_name": "Ada Alder", "additions": 3, "deletions": 1}'


def program() -> Path:
    """Find pgbench: beside the embedded server's programs, or on the path.

    Raises:
        SkippedError: there is none.
    """
    try:
        places = [place / "pgbench" for place in candidates()]
    except EmbeddedServerError:
        places = []
    if on_path := shutil.which("pgbench"):
        places.append(Path(on_path))
    for place in places:
        if place.exists():
            return place
    raise SkippedError("pgbench isn't installed")


def script(append: Append) -> str:
    """Write a script that inserts one commit's rows into a new stream."""
    return (
        "insert into raw.appended_by_pgbench (stream_id, version, type, data)"
        f" select s.id, n, 'Commit', '{DATA}'"
        f" from (select gen_random_uuid() as id) s, generate_series(1, {append.per_commit}) n;\n"
    )


def appending(key: str) -> Callable[[Bench], AbstractAsyncContextManager[Job]]:
    @asynccontextmanager
    async def opened(bench: Bench) -> AsyncIterator[Job]:
        append, count, found = APPENDS[key], bench.sizes.appended[key], program()
        prepare_table(bench, "appended_by_pgbench")
        turns = count // append.per_commit // append.writers
        with tempfile.NamedTemporaryFile("w", suffix=".sql") as file:
            file.write(script(append))
            file.flush()
            command = [
                *(str(found), "--no-vacuum", "--protocol=prepared", f"--file={file.name}"),
                *(f"--transactions={turns}", f"--client={append.writers}"),
            ]
            environment = {**os.environ, **_variables(bench.dsn)}

            async def run() -> Measured:
                done = await trio.run_process(command, capture_stdout=True, env=environment)
                told = re.search(rb"tps = ([0-9.]+) \(without initial", done.stdout)
                if told is None:
                    raise RuntimeError(f"pgbench told no rate: {done.stdout!r}")
                return Measured(turns * append.writers / float(told[1]))

            rows = turns * append.writers * append.per_commit
            yield Job(run, rows, table="raw.appended_by_pgbench")

    return opened


def _variables(dsn: str) -> dict[str, str]:
    """Say where the database is in libpq's variables: a password is nobody's argument."""
    parts = conninfo.conninfo_to_dict(dsn)
    names = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "dbname": "PGDATABASE"}
    names["password"] = "PGPASSWORD"
    return {names[each]: str(value) for each, value in parts.items() if each in names and value}


_REMARK = "limit: in C, rows made by the server, every commit a new stream"

ENTRIES = [Entry(key, "pgbench", appending(key), _REMARK) for key in APPENDS]
