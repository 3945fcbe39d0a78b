"""Event types are a closed list with one name each."""

import sys

import attrs
import pytest

from flowstore.codec import EventCodec, EventMetadata, EventRegistry, stored_name_of
from flowstore.errors import RegistrationError, UnknownEventTypeError


@attrs.frozen
class IssueCreated:
    number: int
    title: str = ""


@attrs.frozen
class IssueOpened:
    number: int


def make_class(name: str) -> type:
    return type(name, (), {"__module__": "elsewhere"})


@pytest.mark.parametrize(
    ("name", "stored"),
    [
        ("IssueCreated", "issue_created"),
        ("HTTPRequestSent", "http_request_sent"),
        ("Commit", "commit"),
        ("Version2Released", "version2_released"),
        ("already_snake", "already_snake"),
        ("X", "x"),
    ],
)
def test_names_are_class_names_in_snake_case(name, stored):
    assert stored_name_of(make_class(name)) == stored


def test_a_stored_name_that_is_not_known_lists_the_known():
    registry = EventRegistry()
    registry.add_types(IssueCreated, IssueOpened)
    with pytest.raises(UnknownEventTypeError) as caught:
        EventCodec(registry).decode("trip_started", "{}")
    assert caught.value.type_name == "trip_started"
    assert caught.value.known == ("issue_created", "issue_opened")


@pytest.mark.parametrize("name", ["os.system", "antigravity", "this.anything", "builtins.dict"])
def test_a_stored_name_imports_nothing(name):
    before = set(sys.modules)
    with pytest.raises(UnknownEventTypeError):
        EventCodec(EventRegistry()).decode(name, "{}")
    assert set(sys.modules) == before


def test_a_codec_leaves_a_converter_what_it_knows():
    """Registering a hook makes a converter forget every class; stores may share one."""
    registry = EventRegistry()
    hook = registry.converter.get_structure_hook(IssueCreated)
    codec = EventCodec(registry)
    text = codec.encode(codec.compacted(IssueCreated(3, "again")))
    assert codec.decode("compacted", text).restored(IssueCreated) == IssueCreated(3, "again")
    assert registry.converter.get_structure_hook(IssueCreated) is hook


def test_a_type_becomes_known_by_being_written():
    codec = EventCodec(EventRegistry())
    assert codec.name_of(IssueCreated(1)) == "issue_created"
    assert codec.decode("issue_created", '{"number": 1}') == IssueCreated(1)


def test_two_types_under_one_name_are_refused():
    registry = EventRegistry()
    registry.add_types(IssueCreated)
    with pytest.raises(RegistrationError, match=r"elsewhere\.IssueCreated.*'issue_created'"):
        registry.add_types(make_class("IssueCreated"))


def test_an_alias_resolves_a_collision():
    registry = EventRegistry()
    other = make_class("IssueCreated")
    registry.alias(IssueCreated, "old_issue_created")
    registry.add_types(IssueCreated, other)
    assert registry.reading("issue_created").type is other
    assert registry.reading("old_issue_created").type is IssueCreated


def test_an_alias_that_another_type_has_is_refused():
    registry = EventRegistry()
    registry.add_types(IssueCreated)
    with pytest.raises(RegistrationError, match="would both be stored as 'issue_created'"):
        registry.alias(IssueOpened, "issue_created")
    assert registry.name_of(IssueOpened) == "issue_opened"


def test_names_that_a_type_had_before_are_still_read():
    registry = EventRegistry()
    registry.add_types(IssueOpened)
    registry.alias(IssueOpened, "issue_created")
    assert registry.name_of(IssueOpened) == "issue_created"
    assert registry.stored_names(IssueOpened) == ("issue_created", "issue_opened")


@pytest.mark.parametrize("kind", [dict, int, None, "IssueCreated", list[int]])
def test_what_is_no_class_of_ones_own_cannot_be_added(kind):
    with pytest.raises(RegistrationError):
        EventRegistry().add_types(kind)


@pytest.mark.parametrize("name", ["", "  "])
def test_a_name_is_not_empty(name):
    with pytest.raises(RegistrationError, match="needs a name"):
        EventRegistry().alias(IssueCreated, name)


@pytest.mark.parametrize("name", ["x" * 64, "ü" * 32])
def test_a_name_of_more_than_63_bytes_is_refused(name):
    with pytest.raises(RegistrationError, match="64 bytes"):
        EventRegistry().alias(IssueCreated, name)
    EventRegistry().alias(IssueCreated, name[:-1])


def test_everything_is_recorded_unless_switched_off():
    registry = EventRegistry()
    assert registry.metadata == EventMetadata(
        headers=True, correlation_id=True, causation_id=True, user_name=True
    )
    registry.metadata = EventMetadata(headers=False)
    assert not registry.metadata.headers


@attrs.frozen
class CustomerNamed:
    name: str


@attrs.frozen
class VipNamed(CustomerNamed):
    pass


def test_masks_run_over_a_type_and_its_subclasses_in_order():
    registry = EventRegistry()
    registry.mask(CustomerNamed, lambda event: attrs.evolve(event, name=event.name[0]))
    registry.mask(VipNamed, lambda event: attrs.evolve(event, name=event.name + "***"))
    assert registry.masked(CustomerNamed("Ada")) == CustomerNamed("A")
    assert registry.masked(VipNamed("Ada")) == VipNamed("A***")


def test_a_mask_may_change_what_it_is_given():
    @attrs.define
    class Called:
        phone: str

    registry = EventRegistry()
    registry.mask(Called, lambda event: setattr(event, "phone", ""))
    assert registry.masked(Called("555")).phone == ""


def test_what_has_no_mask_stays_as_it_is():
    event = IssueCreated(1)
    assert EventRegistry().masked(event) is event


@pytest.mark.parametrize("choice", ["ignore", None, True])
def test_what_becomes_of_unknown_types_is_one_of_two(choice):
    with pytest.raises(RegistrationError, match="'raw'"):
        EventRegistry(unknown_types=choice)
    with pytest.raises(RegistrationError, match="'raw'"):
        EventRegistry().unknown_types = choice


def test_an_alias_holds_from_now_on_also_for_a_codec_that_was_used():
    registry = EventRegistry()
    codec = EventCodec(registry)
    assert codec.name_of(IssueOpened(1)) == "issue_opened"
    registry.alias(IssueOpened, "opened")
    assert codec.name_of(IssueOpened(1)) == "opened"
    assert codec.decode("issue_opened", '{"number": 2}') == IssueOpened(2)
