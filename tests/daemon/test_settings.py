"""What a daemon is told is checked when it is said."""

import attrs
import pytest

from flowstore.daemon import DaemonSettings

SECONDS = [
    "leading_edge_buffer",
    "fast_polling_time",
    "slow_polling_time",
    "stop_and_drain_timeout",
    "retry_time",
    "longest_retry_time",
    "lease_time",
]
FROM_0 = {"leading_edge_buffer", "stop_and_drain_timeout"}


@pytest.mark.parametrize("name", SECONDS)
@pytest.mark.parametrize("value", [-1, -0.001, float("nan"), "1", True, None])
def test_a_time_is_a_number_of_seconds(name, value):
    with pytest.raises(ValueError, match=f"DaemonSettings.{name} is"):
        DaemonSettings(**{name: value})


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "2"])
def test_pages_ahead_is_a_whole_number(value):
    with pytest.raises(ValueError, match="pages_ahead"):
        DaemonSettings(pages_ahead=value)


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match="'warm'"):
        DaemonSettings(mode="warm")


WHOLE = ["page_bytes", "span_bytes", "held_bytes", "max_loads", "max_commits"]


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("value", [0, -1, 1.5, True, "2", None])
def test_bytes_and_bounds_are_whole_numbers(name, value):
    with pytest.raises(ValueError, match=f"DaemonSettings.{name} is"):
        DaemonSettings(**{name: value})


@pytest.mark.parametrize(
    ("name", "value", "remedy"),
    [
        *((name, -1, "give a number of seconds, from 0") for name in SECONDS if name in FROM_0),
        *((name, 0, "give a number of seconds above 0") for name in SECONDS if name not in FROM_0),
        *((name, 0.5, "give a whole number, from 1") for name in WHOLE),
        ("pages_ahead", 0, "give a whole number of pages, from 1"),
        ("mode", "warm", "give 'solo' or 'hot_cold'"),
    ],
)
def test_a_refusal_names_the_setting_its_value_and_what_to_give(name, value, remedy):
    with pytest.raises(ValueError, match="DaemonSettings") as refusal:
        DaemonSettings(**{name: value})
    assert str(refusal.value) == f"DaemonSettings.{name} is {value!r}: {remedy}"


def test_there_is_no_buffer_by_default_and_notifications_are_on():
    settings = DaemonSettings()
    assert (settings.leading_edge_buffer, settings.notifications, settings.mode) == (
        0,
        True,
        "solo",
    )


def test_settings_are_frozen():
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        DaemonSettings().notifications = False
