"""Old events are read in the shape of today."""

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowstore.codec import EventCodec, EventRegistry
from flowstore.errors import InvalidEventError, RegistrationError


@attrs.frozen
class PaidV1:
    euros: int


@attrs.frozen
class PaidV2:
    cents: int


@attrs.frozen
class PaidV3:
    cents: int
    currency: str


def to_v2(data):
    return {"cents": data["euros"] * 100}


def to_v3(data):
    return {"cents": data["cents"], "currency": "EUR"}


def read(registry: EventRegistry, name: str, text: str):
    return EventCodec(registry).decode(name, text)


@given(st.permutations([("paid_v1", PaidV2, to_v2), ("paid_v2", PaidV3, to_v3)]))
def test_upcasters_chain_in_whatever_order_they_were_registered(steps):
    registry = EventRegistry()
    for step in steps:
        registry.upcast(*step)
    assert read(registry, "paid_v1", '{"euros": 3}') == PaidV3(300, "EUR")
    assert read(registry, "paid_v2", '{"cents": 5}') == PaidV3(5, "EUR")
    assert read(registry, "paid_v3", '{"cents": 7, "currency": "USD"}') == PaidV3(7, "USD")


def test_an_upcaster_may_return_an_instance():
    registry = EventRegistry()
    registry.upcast("paid_v1", PaidV2, lambda data: PaidV2(data["euros"] * 100))
    registry.upcast("paid_v2", PaidV3, to_v3)
    assert read(registry, "paid_v1", '{"euros": 3}') == PaidV3(300, "EUR")


def test_several_upcasters_of_one_name_run_in_the_order_of_their_registration():
    registry = EventRegistry()
    registry.upcast("paid", PaidV3, to_v2)
    registry.upcast("paid", PaidV3, to_v3)
    assert read(registry, "paid", '{"euros": 3}') == PaidV3(300, "EUR")


def test_a_type_can_mend_its_own_old_events():
    registry = EventRegistry()
    registry.upcast("paid_v3", PaidV3, lambda data: {"currency": "EUR"} | data)
    assert read(registry, "paid_v3", '{"cents": 7}') == PaidV3(7, "EUR")
    assert read(registry, "paid_v3", '{"cents": 7, "currency": "USD"}') == PaidV3(7, "USD")


def test_a_class_that_is_still_written_can_be_read_as_its_successor():
    registry = EventRegistry()
    registry.add_types(PaidV1)
    registry.upcast("paid_v1", PaidV2, to_v2)
    codec = EventCodec(registry)
    event = PaidV1(3)
    assert codec.decode(codec.name_of(event), codec.encode(event)) == PaidV2(300)


def test_all_names_that_lead_to_a_type_are_its_stored_names():
    registry = EventRegistry()
    registry.upcast("paid_v1", PaidV2, to_v2)
    registry.upcast("paid_v2", PaidV3, to_v3)
    assert registry.stored_names(PaidV3) == ("paid_v1", "paid_v2", "paid_v3")
    assert registry.stored_names(PaidV2) == ()


def test_one_name_cannot_become_two_types():
    registry = EventRegistry()
    registry.upcast("paid", PaidV2, to_v2)
    with pytest.raises(RegistrationError, match=r"upcast to .*PaidV2 already"):
        registry.upcast("paid", PaidV3, to_v3)


def test_a_circle_is_refused_and_leaves_nothing_behind():
    registry = EventRegistry()
    registry.upcast("paid_v1", PaidV2, to_v2)
    with pytest.raises(RegistrationError, match="leads back to 'paid_v2'"):
        registry.upcast("paid_v2", PaidV1, to_v3)
    assert read(registry, "paid_v1", '{"euros": 3}') == PaidV2(300)


def test_a_failing_upcaster_is_named():
    registry = EventRegistry()
    registry.upcast("paid", PaidV2, to_v2)
    with pytest.raises(InvalidEventError, match=r"'paid' can't be upcast to PaidV2: KeyError"):
        read(registry, "paid", "{}")


def test_an_upcaster_that_forgets_to_return_is_told_so():
    registry = EventRegistry()
    registry.upcast("paid", PaidV2, lambda _: None)
    with pytest.raises(InvalidEventError, match="returned None"):
        read(registry, "paid", "{}")


def test_a_class_given_for_its_name_is_what_the_upcaster_gets():
    registry = EventRegistry()
    registry.upcast(PaidV1, PaidV2, lambda old: PaidV2(old.euros * 100))
    registry.upcast(PaidV2, PaidV3, lambda old: {"cents": old.cents, "currency": "EUR"})
    assert read(registry, "paid_v1", '{"euros": 3}') == PaidV3(300, "EUR")
    assert read(registry, "paid_v2", '{"cents": 5}') == PaidV3(5, "EUR")


def test_a_class_stands_for_the_name_that_its_events_have():
    registry = EventRegistry()
    registry.alias(PaidV1, "paid")
    registry.upcast(PaidV1, PaidV3, lambda old: PaidV3(old.euros * 100, "EUR"))
    assert read(registry, "paid", '{"euros": 3}') == PaidV3(300, "EUR")


def test_old_json_that_does_not_fit_the_old_class_is_an_error_that_names_both():
    registry = EventRegistry()
    registry.upcast(PaidV1, PaidV2, lambda old: PaidV2(old.euros))
    with pytest.raises(InvalidEventError, match=r"'paid_v1' can't be upcast to PaidV2"):
        read(registry, "paid_v1", '{"dollars": 3}')


def test_a_class_of_the_same_name_needs_an_alias():
    old = attrs.make_class("Paid", {"euros": attrs.field(type=int)})
    new = attrs.make_class("Paid", {"cents": attrs.field(type=int)})
    registry = EventRegistry()
    with pytest.raises(RegistrationError, match=r"'paid'.*alias"):
        registry.upcast(old, new, lambda it: new(it.euros * 100))
    registry.alias(new, "paid_in_cents")
    registry.upcast(old, new, lambda it: new(it.euros * 100))
    assert read(registry, "paid", '{"euros": 3}') == new(300)


@pytest.mark.parametrize("stored", [int, 5, None])
def test_what_is_no_event_type_can_not_be_upcast(stored):
    with pytest.raises(RegistrationError):
        EventRegistry().upcast(stored, PaidV2, to_v2)


def test_an_upcaster_is_a_function():
    with pytest.raises(RegistrationError, match="function"):
        EventRegistry().upcast("paid_v1", PaidV2, None)
