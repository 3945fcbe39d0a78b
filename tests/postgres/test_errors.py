"""Errors at the room's border, and connection strings without secrets."""

import psycopg
import pytest
from psycopg import errors

from flowstore.errors import DatabaseError, DatabaseUnavailableError
from flowstore.postgres import Connection, redact, translate_errors


def translated(error: Exception) -> Exception:
    with pytest.raises(DatabaseError) as caught, translate_errors():
        raise error
    return caught.value


async def test_a_refused_statement_keeps_its_sqlstate_and_its_cause(conn):
    async def fail():
        with translate_errors():
            await conn.execute("select 1 / 0")

    with pytest.raises(DatabaseError, match="division by zero") as caught:
        await fail()
    assert caught.value.sqlstate == "22012"
    assert isinstance(caught.value.__cause__, errors.DivisionByZero)
    assert not isinstance(caught.value, DatabaseUnavailableError)


async def test_a_server_that_cannot_be_reached_is_unavailable():
    async def fail():
        with translate_errors():
            await Connection.connect("host=127.0.0.1 port=1 user=x")

    with pytest.raises(DatabaseUnavailableError):
        await fail()


@pytest.mark.parametrize(
    "error",
    [errors.AdminShutdown(), errors.CannotConnectNow(), errors.TooManyConnections(),
     errors.ConnectionFailure(), psycopg.OperationalError("connection socket closed")],
)  # fmt: skip
def test_a_server_that_serves_nobody_is_unavailable(error):
    assert isinstance(translated(error), DatabaseUnavailableError)


@pytest.mark.parametrize(
    "error", [errors.QueryCanceled(), errors.DeadlockDetected(), psycopg.ProgrammingError("x")]
)
def test_a_server_that_answered_is_available(error):
    assert type(translated(error)) is DatabaseError


def test_an_error_without_words_is_called_by_its_name():
    assert str(translated(errors.DeadlockDetected())) == "DeadlockDetected"


def test_other_errors_pass():
    with pytest.raises(KeyError), translate_errors():
        raise KeyError


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://me:s3cret@host/db",
        "host=host user=me password='s3 cret'",
        "host=host user=me sslpassword=s3cret",
        "postgresql://me@host/db?password=s3cret",
    ],
)
def test_a_redacted_dsn_tells_where_but_not_the_secret(dsn):
    shown = redact(dsn)
    assert "s3" not in shown
    assert "cret" not in shown
    assert "host=host" in shown


def test_a_dsn_that_cannot_be_read_is_not_shown_at_all():
    assert "s3cret" not in redact("postgresql://me:s3cret@[broken")
