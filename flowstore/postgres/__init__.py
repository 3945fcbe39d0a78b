"""PostgreSQL from trio: connections, a pool, and an embedded server."""

from flowstore.postgres._backend import Backend
from flowstore.postgres._backends import backend_of, end_backend
from flowstore.postgres._beside import plain_nursery
from flowstore.postgres._connection import Connection
from flowstore.postgres._embedded import embedded_postgres
from flowstore.postgres._errors import redact, translate_errors
from flowstore.postgres._pool import Pool
from flowstore.postgres._pooled import PoolSettings
from flowstore.postgres._watched import watched_connection

__all__ = [
    "Backend",
    "Connection",
    "Pool",
    "PoolSettings",
    "backend_of",
    "embedded_postgres",
    "end_backend",
    "plain_nursery",
    "redact",
    "translate_errors",
    "watched_connection",
]
