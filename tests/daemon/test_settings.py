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
