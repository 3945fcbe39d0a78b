"""Making an event field by field gives what making it by its class gives."""

from datetime import UTC, datetime
from uuid import UUID

import attrs
import pytest

from flowstore.events import Event, recorded_event

AT = datetime(2026, 11, 23, tzinfo=UTC)
WHOLE = Event(
    data={"a": 1},
    sequence=1,
    id=UUID(int=2),
    stream_id=UUID(int=3),
    version=4,
    type_name="five",
    timestamp=AT,
    headers={"six": 6},
    correlation_id="seven",
    causation_id="eight",
    tenant_id="nine",
    user_name="ten",
)


@pytest.fixture
def made():
    return recorded_event(
        {"a": 1}, 1, UUID(int=2), (UUID(int=3), 4), "five", AT, {"six": 6},
        ("seven", "eight", "nine", "ten"),
    )  # fmt: skip


def test_every_field_is_what_it_would_be(made):
    assert type(made) is Event
    assert made == WHOLE
    assert attrs.asdict(made) == attrs.asdict(WHOLE)
    assert hash(made) == hash(WHOLE)
    assert repr(made) == repr(WHOLE)


def test_it_is_as_frozen_as_any(made):
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        made.version = 5
