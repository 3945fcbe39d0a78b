"""How progress is shown, and what is compared."""

import io

import pytest
import trio

from flowstore.cli._board import Bar, PlainBoard, open_board
from flowstore.cli._phases import RebuildFigures
from flowstore.cli._rich_board import RichBoard
from flowstore.cli._watch import Rate, watched
from flowstore.daemon import ShardStatus


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


def looked_at(*statuses):
    """Give what a rebuild's bars look at: one status a look."""
    return iter(statuses).__next__


def shard(progress, state="stopped", mark=1_000):
    return ShardStatus("projects", state, progress, mark, max(0, mark - progress))


async def test_a_rebuild_that_ends_at_once_has_the_rate_of_all_of_it(autojump_clock):
    status = looked_at(shard(1_000, mark=0), shard(1_000), shard(1_000))
    figures = RebuildFigures(status, trio.current_time())
    assert figures() == [Bar("rebuilt", 0, 0, "")]
    await trio.sleep(0.25)
    assert figures() == [Bar("rebuilt", 0, 1_000, "")]
    await trio.sleep(0.25)
    figures.is_over = True
    assert figures() == [Bar("rebuilt", 1_000, 1_000, "2,000 events/s")]


async def test_a_rebuild_has_no_rate_before_it_has_moved(autojump_clock):
    status = looked_at(shard(1_000), shard(0, "rebuilding"), shard(500, "rebuilding"), shard(1_000))
    figures = RebuildFigures(status, trio.current_time())
    assert figures() == [Bar("rebuilt", 0, 1_000, "")]
    assert figures() == [Bar("rebuilt", 0, 1_000, "")]
    await trio.sleep(1)
    assert figures() == [Bar("rebuilt", 500, 1_000, "500 events/s")]
    await trio.sleep(0.25)
    figures.is_over = True
    assert figures() == [Bar("rebuilt", 1_000, 1_000, "800 events/s")]


async def test_a_rebuild_of_nothing_in_no_time_has_no_rate(autojump_clock):
    figures = RebuildFigures(looked_at(shard(0, mark=0)), trio.current_time())
    figures.is_over = True
    assert figures() == [Bar("rebuilt", 0, 0, "")]
