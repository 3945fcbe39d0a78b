"""Documents that are refused if they moved since they were loaded."""

import attrs
import pytest

from flowstore.errors import ConcurrencyError


@attrs.frozen
class Country:
    id: str
    name: str = ""


async def save(store, *documents):
    async with store.session() as session:
        session.store(*documents)
        await session.save_changes()


@pytest.fixture
def options(options):
    options.documents.type(Country, optimistic_concurrency=True)
    return options


async def test_a_document_that_has_not_moved_is_stored(store):
    await save(store, Country("x", "0"))
    async with store.session() as session:
        for number in range(1, 4):
            assert await session.load(Country, "x") == Country("x", str(number - 1))
            session.store(Country("x", str(number)))
            await session.save_changes()
        session.store(Country("x", "without loading it again"))
        await session.save_changes()
    assert (await store.session().load(Country, "x")).name == "without loading it again"


@pytest.mark.parametrize("how", ["changed", "deleted"])
async def test_a_document_that_was_changed_since_is_refused(store, how):
    await save(store, Country("x", "0"), Country("y", "0"))
    first, second = store.session(), store.session()
    for session in (first, second):
        await session.load_many(Country, ["x", "y"])
    if how == "changed":
        first.store(Country("x", "first"))
    else:
        first.delete_by_id(Country, "x")
    await first.save_changes()
    second.store(Country("y", "second"), Country("x", "second"))
    with pytest.raises(
        ConcurrencyError, match="document Country 'x' has changed or gone"
    ) as caught:
        await second.save_changes()
    assert (caught.value.stream_id, caught.value.expected) == ("x", 1)
    assert (await store.session().load(Country, "y")).name == "0"


async def test_a_document_that_was_not_loaded_must_be_new(store):
    await save(store, Country("x"))
    with pytest.raises(ConcurrencyError, match="hasn't loaded it"):
        await save(store, Country("new"), Country("x"))
    assert await store.session().load(Country, "new") is None
