"""Documents and events of types that only an application's own converter knows."""

from decimal import Decimal
from uuid import UUID, uuid4

import attrs
import pytest

from flowstore.projections import Lifecycle
from flowstore.store import gin


class Money:
    """No attrs class: written as text like `12.50 EUR`."""

    def __init__(self, amount, currency):
        self.amount, self.currency = Decimal(amount), currency

    def __eq__(self, other):
        return (self.amount, self.currency) == (other.amount, other.currency)

    def __hash__(self):
        return hash((self.amount, self.currency))


class Code(str):
    """Text that is written in upper case, and kept as a class of its own."""

    __slots__ = ()


NO_CODE = Code("none")


@attrs.frozen
class Line:
    price: Money
    others: list[Money] = attrs.field(factory=list)


@attrs.define
class Invoice:
    id: UUID
    total: Money
    lines: dict[str, Line] = attrs.field(factory=dict)
    code: Code = NO_CODE


@attrs.define
class Coupon:
    id: Code
    value: Money


@attrs.frozen
class Paid:
    sum: Money


@attrs.define
class Paying:
    id: UUID
    last: Money | None = None

    def apply(self, paid: Paid) -> None:
        self.last = paid.sum


@pytest.fixture
def options(options):
    converter = options.events.converter
    converter.register_unstructure_hook(Money, lambda money: f"{money.amount} {money.currency}")
    converter.register_structure_hook(Money, lambda text, _: Money(*text.split(" ")))
    converter.register_unstructure_hook(Code, lambda code: code.upper())
    converter.register_structure_hook(Code, lambda text, _: Code(text.lower()))
    options.projections.aggregate_streams_with(Paying, lifecycle=Lifecycle.INLINE)
    return options


def invoice():
    lines = {"a": Line(Money("1.10", "EUR"), [Money("2", "USD")])}
    return Invoice(uuid4(), Money("12.50", "EUR"), lines, Code("x7"))


async def save(store, *documents):
    async with store.session() as session:
        session.store(*documents)
        await session.save_changes()


async def stored(store, table):
    async with store.connection() as connection:
        cursor = await connection.execute(f"select data from {store.options.schema}.{table}")
        return (await cursor.fetchone())[0]


async def test_documents_are_written_and_read_by_the_converter_also_inside(store):
    await save(store, document := invoice())
    found = await store.session().load(Invoice, document.id)
    assert found == document
    assert type(found.code) is Code
    data = await stored(store, "doc_invoice")
    assert (data["total"], data["code"]) == ("12.50 EUR", "X7")
    assert data["lines"] == {"a": {"price": "1.10 EUR", "others": ["2 USD"]}}


@pytest.mark.parametrize("indexes", [(), ("total",), (gin(),)])
async def test_find_compares_what_the_converter_writes(opening, options, indexes):
    options.documents.type(Invoice, indexes=indexes)
    one, other = invoice(), attrs.evolve(invoice(), total=Money("12.5", "EUR"), code=Code("x8"))
    async with opening(events=options.events, documents=options.documents) as store:
        await save(store, one, other)
        session = store.session()
        assert await session.find(Invoice, total=Money("12.50", "EUR")) == [one]
        assert await session.find(Invoice, code=Code("x8")) == [other]
        assert await session.find(Invoice, lines=one.lines, code=Code("x7")) == [one]
        assert await session.find(Invoice, total=Money("1", "EUR")) == []


async def test_an_identity_is_kept_as_it_is_and_read_by_the_converter(store):
    coupons = [Coupon(Code("spring"), Money("5", "EUR")), Coupon(Code("autumn"), Money("7", "EUR"))]
    await save(store, coupons[0])
    assert await store.bulk_insert(coupons[1:]) == 1
    session = store.session()
    for coupon in coupons:
        found = await session.load(Coupon, coupon.id)
        assert found == coupon
        assert type(found.id) is Code
    # The identity's column holds the text itself: only inside the JSON the converter writes it.
    assert await session.query(Coupon, "id = 'spring' and data ->> 'id' = 'SPRING'") == coupons[:1]
    assert await session.load(Coupon, Code("SPRING")) is None
    session.delete(coupons[0])
    await session.save_changes()
    assert await session.load(Coupon, Code("spring")) is None


async def test_events_and_the_documents_made_of_them_go_through_the_same_converter(store):
    async with store.session() as session:
        stream = session.events.start_stream(uuid4(), Paid(Money("3.00", "EUR"))).stream_id
        await session.save_changes()
        assert (await session.load(Paying, stream)).last == Money("3.00", "EUR")
        [event] = await session.events.fetch_stream(stream)
        assert event.data == Paid(Money("3.00", "EUR"))
        live = await session.events.aggregate_stream(Paying, stream)
        assert live.last == Money("3.00", "EUR")
    assert (await stored(store, "doc_paying"))["last"] == "3.00 EUR"
