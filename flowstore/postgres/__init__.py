"""PostgreSQL from trio: connections, a pool, and an embedded server."""

from typing import TYPE_CHECKING

from flowstore._late import found_late

if TYPE_CHECKING:
    from flowstore.postgres._backend import Backend
    from flowstore.postgres._backends import backend_of, end_backend
    from flowstore.postgres._beside import plain_nursery
    from flowstore.postgres._connection import Connection
    from flowstore.postgres._direct import Along, DirectStatement, RawRow
    from flowstore.postgres._embedded import embedded_postgres
    from flowstore.postgres._errors import redact, translate_errors
    from flowstore.postgres._pool import Pool
    from flowstore.postgres._pooled import PoolSettings
    from flowstore.postgres._watched import watched_connection
else:
    __getattr__, __dir__ = found_late(
        __name__,
        {
            "_backend": ("Backend",),
            "_backends": ("backend_of", "end_backend"),
            "_beside": ("plain_nursery",),
            "_connection": ("Connection",),
            "_direct": ("Along", "DirectStatement", "RawRow"),
            "_embedded": ("embedded_postgres",),
            "_errors": ("redact", "translate_errors"),
            "_pool": ("Pool",),
            "_pooled": ("PoolSettings",),
            "_watched": ("watched_connection",),
        },
    )

__all__ = [
    "Along",
    "Backend",
    "Connection",
    "DirectStatement",
    "Pool",
    "PoolSettings",
    "RawRow",
    "backend_of",
    "embedded_postgres",
    "end_backend",
    "plain_nursery",
    "redact",
    "translate_errors",
    "watched_connection",
]
