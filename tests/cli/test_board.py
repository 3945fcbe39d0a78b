"""How progress is shown, and what is compared."""

import io

import pytest
import trio

from flowstore.cli._board import Bar, PlainBoard, open_board
from flowstore.cli._rich_board import RichBoard
from flowstore.cli._watch import Rate, watched


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_plain_board_prints_one_line_a_look_and_none_twice():
    out = io.StringIO()
    board = PlainBoard(out)
    board.show([Bar("published", 1200, 4523, "800 events/s"), Bar("applied", 7, 4523)])
    board.show([Bar("published", 1200, 4523, "800 events/s"), Bar("applied", 7, 4523)])
    assert out.getvalue() == "published 1,200 of 4,523 (800 events/s)  applied 7 of 4,523\n"


def test_bars_are_drawn_in_place_and_the_last_picture_stays():
    out = Terminal()
    with RichBoard(out) as board:
        board.show([Bar("published", 10, 100, "fast")])
        board.show([Bar("published", 100, 100, "slow"), Bar("applied", 50, 100)])
    last = out.getvalue().rpartition("published")[2]
    assert "100 of       100 slow" in last
    assert "50 of       100" in last


def test_bars_need_a_terminal_that_can_redraw(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    with open_board(io.StringIO()) as board:
        assert isinstance(board, PlainBoard)
    with open_board(Terminal()) as board:
        assert isinstance(board, RichBoard)
    monkeypatch.setenv("TERM", "dumb")
    with open_board(Terminal()) as board:
        assert isinstance(board, PlainBoard)


async def test_figures_are_shown_on_the_way_and_at_the_end(autojump_clock, capsys):

    begin = trio.current_time()
    async with watched(lambda: [Bar("done", int(trio.current_time() - begin), 3)]):
        await trio.sleep(2.5)
        begin -= 0.5
    assert capsys.readouterr().out.splitlines() == [f"done {n} of 3" for n in (0, 1, 2, 3)]


async def test_what_the_figures_raise_ends_the_body(autojump_clock):

    def broken():
        raise ValueError("no figures")

    with pytest.RaisesGroup(pytest.RaisesExc(ValueError, match="no figures")):
        async with watched(broken):
            await trio.sleep_forever()


def test_a_rate_looks_two_seconds_back():
    rate = Rate()
    assert rate.of(0, 10.0) == 0
    assert rate.of(100, 11.0) == 100
    assert rate.of(200, 12.0) == 100
    assert rate.of(1200, 13.0) == pytest.approx(550)
    assert [rate.of(1200, moment) for moment in (20.0, 21.0, 22.0)][-1] == 0
