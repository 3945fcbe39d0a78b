"""Array literals are read by PostgreSQL as what they were written from."""

from uuid import UUID

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flowstore.postgres import Connection
from flowstore.store import _arrays

values = st.lists(
    st.none()
    | st.text(st.characters(exclude_characters="\0", codec="utf-8"))
    | st.sampled_from(["", "NULL", "\\", '"', '\\"', '"\\', "{", "}", ",", " ", "a,b", "\n"]),
    max_size=8,
)
few = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


async def read(dsn, literal, kind):
    async with await Connection.connect(dsn) as connection:
        cursor = await connection.execute(f"select %s::{kind}[]", [literal])
        return (await cursor.fetchone())[0]


@few
@given(texts=values)
async def test_texts(pg_dsn, texts):
    assert await read(pg_dsn, _arrays.texts(texts), "text") == texts


@few
@given(
    uuids=st.lists(st.uuids() | st.sampled_from([UUID(int=0), UUID(int=2**128 - 1)]), max_size=5)
)
async def test_uuids(pg_dsn, uuids):
    assert await read(pg_dsn, _arrays.uuids(uuids), "uuid") == uuids
