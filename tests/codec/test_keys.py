"""Which keys a class has in its JSON is told as it is written, or not at all."""

import dataclasses
import functools
import json
from typing import Annotated, Any
from uuid import UUID, uuid4

import attrs
import pytest
from cattrs import Converter, UnstructureStrategy
from cattrs.gen import make_dict_unstructure_fn, override
from cattrs.preconf.json import JsonConverter
from cattrs.strategies import include_subclasses

from flowstore.codec import DocumentCodec, make_converter

msgspec = pytest.importorskip("msgspec")


@attrs.define
class Base:
    id: UUID
    name: str = ""


@attrs.define
class Person(Base):
    _secret: str = ""
    home: Base | None = None
    size: int = attrs.field(init=False, default=7)
    shown: str = attrs.field(default="", alias="visible")

    @property
    def length(self) -> int:
        return len(self.name)


@attrs.define
class Branch:
    id: str


@attrs.define
class Leaf(Branch):
    color: str


@dataclasses.dataclass
class Country:
    id: str
    people: int = 0
    area: int = dataclasses.field(init=False, default=1)


class Plain:
    id: str

    def __init__(self, id):  # noqa: A002 - the name of a document's identity
        self.id = id


class Camel(msgspec.Struct, rename="camel", tag="c", tag_field="kind"):
    id: str
    first_name: str = ""


class Row(msgspec.Struct, array_like=True):
    id: str


def person(_: Any = None) -> Person:
    return Person(uuid4(), "Ada", "x", Base(uuid4()), "y")


def written(converter: Converter, document: Any) -> set[str]:
    return set(json.loads(DocumentCodec(converter).encode(document)))


def keys(converter: Converter, kind: type) -> dict[str, str] | None:
    found = DocumentCodec(converter).keys_of(kind)
    return None if found is None else dict(found)


@pytest.mark.parametrize("document", [person(), Country("x"), Camel("x"), Base(uuid4())])
def test_keys_are_those_that_are_written(document):
    converter = make_converter()
    assert set(keys(converter, type(document))) == written(converter, document)


def test_renamed_fields_are_told_by_their_keys():
    assert keys(make_converter(), Camel) == {"id": "id", "firstName": "first_name", "kind": "kind"}
    converter = make_converter()
    hook = make_dict_unstructure_fn(
        Country, converter, people=override(rename="n"), id=override(omit=False)
    )
    converter.register_unstructure_hook(Country, hook)
    found = keys(converter, Country)
    assert found is not None
    assert found["n"] == "people"
    assert set(found) - {"area"} == written(converter, Country("x"))  # nobody tells of `area`


def test_a_field_that_is_left_out_is_no_key():
    converter = make_converter()
    hook = make_dict_unstructure_fn(Base, converter, name=override(omit=True))
    converter.register_unstructure_hook(Base, hook)
    assert keys(converter, Base) == {"id": "id"}


def test_a_field_that_is_left_out_at_its_default_is_a_key():
    converter = make_converter()
    hook = make_dict_unstructure_fn(Base, converter, _cattrs_omit_if_default=True)
    converter.register_unstructure_hook(Base, hook)
    assert written(converter, Base(uuid4())) == {"id"}
    assert set(keys(converter, Base)) == {"id", "name"}


@pytest.mark.parametrize("by_converter", [True, False])
def test_a_field_may_stand_under_its_alias(by_converter):
    converter = JsonConverter(use_alias=by_converter)
    converter.register_unstructure_hook(UUID, str)
    hook = make_dict_unstructure_fn(Person, converter, _cattrs_use_alias=True)
    converter.register_unstructure_hook(Person, hook)
    assert {"visible", "secret"} <= written(converter, person()) <= set(keys(converter, Person))


def test_a_hook_that_tells_of_no_alias_may_have_taken_it():
    def hook(each: Person) -> dict[str, Any]:
        return {"id": str(each.id), "visible": each.shown}

    hook.overrides = {}  # as cattrs 25 leaves it
    converter = make_converter()
    converter.register_unstructure_hook(Person, hook)
    assert {"shown", "visible"} <= set(keys(converter, Person))


def test_what_an_annotation_renames_is_told_as_it_is_written():
    @attrs.define
    class Noted:
        id: str
        name: Annotated[str, override(rename="n")] = ""

    converter = make_converter()  # which of the two it is, is cattrs' version's
    assert written(converter, Noted("x")) <= set(keys(converter, Noted))


def test_a_hook_of_an_application_is_not_guessed_at():
    of_its_own, wrapped, tree = make_converter(), make_converter(), make_converter()
    of_its_own.register_unstructure_hook(Base, lambda base: {"id": str(base.id), "n": base.name})
    inner = make_dict_unstructure_fn(Base, wrapped)

    @functools.wraps(inner)
    def more(base: Base) -> dict[str, Any]:
        return inner(base) | {"more": 1}

    wrapped.register_unstructure_hook(Base, more)
    include_subclasses(Branch, tree)
    assert keys(tree, Branch) is None
    tuples = JsonConverter(unstruct_strat=UnstructureStrategy.AS_TUPLE)
    for converter in (of_its_own, wrapped, tuples):
        assert keys(converter, Base) is None
    made = make_converter()
    made.register_unstructure_hook_factory(lambda kind: kind is Camel, lambda _: vars)
    assert keys(made, Camel) is None


def test_a_class_without_fields_is_not_guessed_at():
    assert keys(make_converter(), Plain) is None
    assert keys(make_converter(), Row) is None


def test_a_class_that_cannot_be_converted_has_no_keys():
    @attrs.define
    class Broken:
        id: str
        other: "Nowhere"  # noqa: F821

    assert keys(make_converter(), Broken) is None
