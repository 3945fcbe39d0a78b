"""What the server's settings promise of a commit."""

from typing import Final

from flowstore.store._engine import Engine
from flowstore.store._statements import Statement, fetch_rows

__all__ = ["durability_warnings"]

_SETTINGS: Final = """
select s.name, s.setting from pg_catalog.pg_settings s
where s.name in ('fsync', 'full_page_writes', 'synchronous_commit') and s.setting = 'off'
order by s.name"""
_CONSEQUENCES: Final = {
    "fsync": "a crash of the machine can lose committed events, or ruin the whole database",
    "full_page_writes": "a crash of the machine can leave pages half written, and events unreadable",
    "synchronous_commit": "a crash of the server can lose the commits of its last moments, although"
    " they were reported; what was done outside because of them stays",
}


async def durability_warnings(engine: Engine) -> tuple[str, ...]:
    """Tell which settings let a crash take back what was committed, and what may happen.

    Asked on a connection of the pool: `synchronous_commit` may be another for each role, database
    and session.
    """
    rows = await fetch_rows(engine.lend, Statement(_SETTINGS))
    return tuple(
        f"{name} is off on this server: {_CONSEQUENCES[name]}; set it to on" for name, _ in rows
    )
