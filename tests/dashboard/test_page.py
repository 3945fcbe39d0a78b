"""What the page and the JSON say of statuses."""

import json
from html.parser import HTMLParser

import pytest

from flowstore.daemon import ShardStatus
from flowstore.dashboard._page import Board, read_template, to_html, to_json

EVIL = "<script>alert('x')</script>&\"'"


class Cells(HTMLParser):
    """Gathers the text of table cells, and every tag."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.rows, self.attributes, self._cell = [], [], [], False
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *attribute) for attribute in attrs]
        if tag == "tr":
            self.rows.append([])
        self._cell = self._cell or tag in {"td", "th"}
        if tag in {"td", "th"}:
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        self._cell = self._cell and tag not in {"td", "th"}

    def handle_data(self, data):
        if self._cell:
            self.rows[-1][-1] += data


def page_of(*statuses, mark=0, refreshing=True):
    return to_html(read_template(), Board(mark, statuses), refreshing=refreshing).decode()


def status(name="Issue", state="running", progress=0, mark=0, **more):
    return ShardStatus(name, state, progress, mark, max(mark - progress, 0), **more)


def test_a_shard_has_a_row_with_its_place_and_its_reason():
    page = page_of(status("Issue", "paused", 1500, 3000, reason="waits for 'x'"), mark=3000)
    assert Cells(page).rows[1] == [
        "Issue", "‖ paused", "1,500", "1,500", "50 %", "waits for 'x'"
    ]  # fmt: skip


@pytest.mark.parametrize("where", ["name", "reason", "error"])
def test_nothing_from_outside_becomes_markup(where):
    more = {where: ValueError(EVIL) if where == "error" else EVIL}
    page = page_of(status(**more), status(**more, state="failed"))
    assert "script" not in Cells(page).tags
    assert any(EVIL in cell for row in Cells(page).rows for cell in row)


def test_a_name_cannot_leave_its_attribute():
    found = Cells(page_of(status('x" onclick="alert(1)'))).attributes
    assert not [each for each in found if each[1] == "onclick"]


def test_text_that_has_no_bytes_is_shown_escaped():
    assert "half \\udc80 pair" in page_of(status(reason="half \udc80 pair"))


def test_an_error_is_told_once_where_the_reason_repeats_it():
    error = ValueError("no such thing")
    page = page_of(status(state="failed", error=error, reason="stopped: ValueError: no such thing"))
    assert page.count("no such thing") == 1


def test_the_title_says_that_something_failed():
    assert "<title>1 failed, flowstore</title>" in page_of(status(state="failed"), status("b"))
    assert "<title>Projections, flowstore</title>" in page_of(status())


def test_a_page_without_shards_says_so():
    page = page_of()
    assert "No asynchronous projection is registered." in page
    assert "No shards." in page


def test_an_empty_store_has_been_read_to_its_end():
    assert "100 %" in Cells(page_of(status())).rows[1]


def test_progress_above_the_mark_fills_the_bar():
    assert "100 %" in Cells(page_of(status(progress=9, mark=3), mark=3)).rows[1]


def test_the_page_loads_nothing_and_runs_nothing():
    found = Cells(page_of(status()))
    assert not {"script", "link", "img", "iframe"} & set(found.tags)
    assert not [each for each in found.attributes if each[1] == "src" or each[1].startswith("on")]


def test_refreshing_can_be_paused():
    assert 'http-equiv="refresh"' in page_of()
    assert 'http-equiv="refresh"' not in page_of(refreshing=False)


def test_every_state_differs_by_more_than_its_colour():
    states = ["starting", "running", "stopped", "paused", "failed", "rebuilding"]
    page = page_of(*(status(state, state) for state in states))
    cells = [row[1] for row in Cells(page).rows[1:]]
    assert [cell.split()[1] for cell in cells] == states
    assert len({cell.split()[0] for cell in cells}) == len(states)


def test_the_json_has_every_field_of_a_status():
    failed = status("a", "failed", 2, 5, error=ValueError("x"), reason="y")
    assert json.loads(to_json(Board(5, [failed, status("b")]))) == {
        "high_water_mark": 5,
        "statuses": [
            {"name": "a", "state": "failed", "progress": 2, "high_water_mark": 5, "lag": 3,
             "error": "ValueError: x", "reason": "y"},
            {"name": "b", "state": "running", "progress": 0, "high_water_mark": 0, "lag": 0,
             "error": None, "reason": ""},
        ],
    }  # fmt: skip
