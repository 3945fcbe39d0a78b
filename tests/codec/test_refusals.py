"""What the database would refuse is refused before, and said in words."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

import attrs
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from flowstore.codec import DocumentCodec, EncodingLimits, EventCodec, EventRegistry, make_converter
from flowstore.errors import InvalidDocumentError, InvalidEventError, RegistrationError


@attrs.frozen
class Noted:
    note: Any


def encode(note: Any, **limits: int) -> str:
    return EventCodec(EventRegistry(limits=EncodingLimits(**limits))).encode(Noted(note))


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_json_cannot_say_is_refused_with_its_place(number):
    with pytest.raises(InvalidEventError, match=r"Noted\.note\[1\]\.ratio is NaN or infinite"):
        encode([1, {"ratio": number}])


@pytest.mark.parametrize("note", ["a\0b", {"deep": ["\0"]}, {"a\0": 1}])
def test_a_nul_character_is_refused(note):
    with pytest.raises(InvalidEventError, match="NUL character") as caught:
        encode(note)
    assert "\0" not in str(caught.value)


@given(st.text(st.sampled_from(["\\", "u", "0", "\0", "x"]), max_size=12))
def test_a_nul_is_told_from_text_that_looks_like_one(text):
    if "\0" in text:
        with pytest.raises(InvalidEventError):
            encode(text)
    else:
        encode(text)


@pytest.mark.parametrize("note", ["\ud800", ["\udfff"], {"\ud800": 1}])
def test_half_a_surrogate_pair_is_refused(note):
    with pytest.raises(InvalidEventError, match="surrogate") as caught:
        encode(note)
    str(caught.value).encode()


@given(st.text(max_size=20), st.integers(1, 40))
def test_the_size_is_counted_in_bytes(text, allowed):
    assume("\0" not in text)
    taken = len(encode(text).encode())
    if taken > allowed:
        with pytest.raises(InvalidEventError, match=f"takes {taken} bytes.* {allowed} are allowed"):
            encode(text, max_bytes=allowed)
    else:
        encode(text, max_bytes=allowed)


def test_a_megabyte_is_the_limit_unless_said_otherwise():
    encode("x" * 1_000_000)
    with pytest.raises(InvalidEventError, match="1048576 are allowed"):
        encode("x" * 1_048_576)


@given(st.integers(1, 8), st.integers(1, 8), st.booleans())
def test_nesting_is_bounded(depth, allowed, as_objects):
    note: Any = 1
    for _ in range(depth - 1):  # the event itself is the outermost object
        note = {"a": note, "b": [], "c": "[[[["} if as_objects else [note, 1]
    deepest = depth + (as_objects and depth > 1)
    if deepest > allowed:
        with pytest.raises(InvalidEventError, match=f"nested {deepest} deep, and {allowed} are"):
            encode(note, max_depth=allowed)
    else:
        encode(note, max_depth=allowed)


@pytest.mark.parametrize("kind", [list, dict])
def test_headers_that_contain_themselves_are_refused(kind):
    itself = kind()
    itself.append(itself) if kind is list else itself.update(self=itself)
    with pytest.raises(InvalidEventError, match=r"isn't JSON|contains itself"):
        EventCodec(EventRegistry()).encode_headers({"plain": 1, "a": itself})


def test_a_value_that_contains_itself_is_refused():
    note: list[Any] = []
    note.append(note)
    with pytest.raises(InvalidEventError, match="contains itself"):
        encode(note)


def test_a_value_without_a_hook_is_refused():
    with pytest.raises(InvalidEventError, match="register a hook"):
        encode(object())


def test_headers_are_held_to_the_same_rules():
    codec = EventCodec(EventRegistry())
    with pytest.raises(InvalidEventError, match=r"headers\.a holds a NUL"):
        codec.encode_headers({"a": "\0"})


@pytest.mark.parametrize("data", [1, "text", {"a": 1}, None, Noted])
def test_a_plain_value_is_no_event(data):
    with pytest.raises(InvalidEventError, match="a class of your own"):
        EventCodec(EventRegistry()).name_of(data)


def test_a_failing_hook_of_the_application_is_named():
    registry = EventRegistry()

    def refuse(_: Noted) -> Any:
        raise LookupError("no such unit")

    registry.converter.register_unstructure_hook(Noted, refuse)
    with pytest.raises(InvalidEventError, match="LookupError: no such unit"):
        EventCodec(registry).encode(Noted(1))


@attrs.frozen
class Unresolvable:
    other: "Nowhere"  # noqa: F821  # the point  # pyright: ignore[reportUndefinedVariable]


def test_an_annotation_that_cannot_be_resolved_is_a_registration_error():
    with pytest.raises(RegistrationError, match=r"Unresolvable can't be converted.*Nowhere"):
        EventCodec(EventRegistry()).encode(Unresolvable(1))


@attrs.frozen
class Counted:
    number: int


@pytest.mark.parametrize("text", ["", "{", b"\xff", '{"number": "x"}', "[]", "{}", "null"])
def test_stored_text_that_does_not_fit_is_an_error_naming_the_type(text):
    registry = EventRegistry()
    registry.add_types(Counted)
    with pytest.raises(InvalidEventError, match="stored as 'counted'") as caught:
        EventCodec(registry).decode("counted", text)
    assert caught.value.__cause__ is not None


def test_a_stored_value_that_does_not_fit_is_named_by_its_field():
    registry = EventRegistry()
    registry.add_types(Counted)
    with pytest.raises(InvalidEventError, match=r"\$\.number"):
        EventCodec(registry).decode("counted", '{"number": "x"}')


@attrs.frozen
class Page:
    id: Any
    text: str = ""


def test_a_document_is_held_to_the_same_rules():
    with pytest.raises(InvalidDocumentError, match=r"Page\.text holds a NUL"):
        DocumentCodec(make_converter()).encode(Page(1, "\0"))


def test_a_document_of_another_shape_says_to_rebuild():
    with pytest.raises(InvalidDocumentError, match="rebuild its projection"):
        DocumentCodec(make_converter()).decode(Page, "{}")


@pytest.mark.parametrize("identity", [UUID(int=1), "a", 7])
def test_a_documents_identity_is_its_id(identity):
    assert DocumentCodec(make_converter()).identity_of(Page(identity)) == identity


@pytest.mark.parametrize("document", [Page(None), Page(True), Page(1.5), Counted(1)])
def test_a_document_without_an_identity_is_refused(document):
    with pytest.raises(InvalidDocumentError, match="a UUID, str or int"):
        DocumentCodec(make_converter()).identity_of(document)


@pytest.mark.parametrize("limits", [{"max_bytes": 0}, {"max_depth": 0}])
def test_limits_are_at_least_one(limits):
    with pytest.raises(RegistrationError, match="at least 1"):
        EncodingLimits(**limits)


@pytest.mark.parametrize("text", ["[]", "{", '"a"'])
def test_stored_headers_that_are_no_object_are_refused(text):
    with pytest.raises(InvalidEventError, match="headers"):
        EventCodec(EventRegistry()).decode_headers(text)


@pytest.mark.parametrize("text", [None, "", "{}"])
def test_no_stored_headers_are_an_empty_dictionary(text):
    assert EventCodec(EventRegistry()).decode_headers(text) == {}


def test_a_value_too_deep_for_the_interpreter_is_refused():
    note: Any = 1
    for _ in range(50_000):
        note = [note]
    registry = EventRegistry()
    registry.converter.register_unstructure_hook(Noted, lambda noted: noted.note)
    with pytest.raises(InvalidEventError, match="too deeply"):
        EventCodec(registry).encode(Noted(note))


@attrs.frozen
class Easy:
    by: int = 1


@dataclass
class Plain:
    easy: Easy = Easy()


@pytest.mark.parametrize("text", ["[1]", "[]", '"by"', "null", "3", '{"easy": ["by"]}'])
def test_what_is_no_object_is_no_instance_with_all_its_defaults(text):
    registry = EventRegistry()
    registry.add_types(Plain)
    with pytest.raises(InvalidEventError, match=r"doesn't fit Plain: .*read from a JSON object"):
        EventCodec(registry).decode("plain", text)
    with pytest.raises(InvalidDocumentError, match="read from a JSON object"):
        DocumentCodec(make_converter()).decode(Plain, text)
