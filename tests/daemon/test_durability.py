"""A server that may forget what was committed is reported when a daemon is opened."""

import logging

from flowstore.daemon import open_store
from flowstore.store import StoreOptions

SETTINGS = ("fsync", "full_page_writes", "synchronous_commit")


async def test_a_server_that_forgets_is_reported(admin, dsn, caplog):
    name = dsn.split("dbname=")[1].split()[0]
    admin.execute(f"alter database {name} set synchronous_commit = off")
    with caplog.at_level(logging.WARNING, logger="flowstore.daemon"):
        async with open_store(dsn) as store, store.build_projection_daemon() as daemon:
            off = [
                setting
                for setting in SETTINGS
                if admin.execute(f"show {setting}").fetchone() == ("off",)
            ]
            told = daemon.durability_warnings
    assert {warning.split()[0] for warning in told} == {*off, "synchronous_commit"}
    assert [record.getMessage() for record in caplog.records] == list(told)
    assert all("off on this server" in warning for warning in told)


async def test_a_server_that_keeps_what_it_was_given_is_passed_in_silence(tmp_path, caplog):
    tmp_path.chmod(0o755)
    for parent in list(tmp_path.parents)[:2]:
        parent.chmod(0o755)
    async with (
        open_store(data_dir=tmp_path / "data", options=StoreOptions()) as store,
        store.build_projection_daemon() as daemon,
    ):
        assert daemon.durability_warnings == ()
    assert caplog.records == []
