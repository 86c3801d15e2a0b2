"""What a command says while it works."""

import pytest

from facsynth.cli.group import _one_line
from facsynth.cli.show import RichProgress, print_json, print_table
from facsynth.errors import DataError
from facsynth.show import visible_text


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return now


def test_long_work_in_a_log_says_where_it_is_every_minute(clock, capsys):
    with RichProgress().task("training", 100, "tokens") as task:
        for second in range(0, 150, 10):
            clock[0] = second
            task.advance(0, note=f"{second} s")
    assert capsys.readouterr().err.splitlines() == [
        "  training: 0 of 100 tokens (70 s)",
        "  training: 0 of 100 tokens (140 s)",
    ]


def test_quick_work_in_a_log_is_a_line_at_every_tenth(clock, capsys):
    with RichProgress().task("reading", 40, "samples") as task:
        for _ in range(40):
            task.advance()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 10
    assert lines[-1] == "  reading: 40 of 40 samples"


def test_texts_of_data_cannot_act_on_the_terminal(capsys):
    hostile = "\x1b]0;owned\x07 \x1b[31mred \u202eevil"
    print_table(hostile, ("name",), [(hostile,)], note=hostile)
    RichProgress().say(hostile)
    shown = "".join(capsys.readouterr())
    assert shown.count(r"\x1b]0;owned\x07 \x1b[31mred \u202eevil") == 4
    assert not {"\x1b", "\x07", "\u202e"} & set(shown)


HOSTILE = "a\x1b[2Jb\x07\x9b31m\u202ec"


def test_controls_of_data_do_not_reach_the_terminal(capsys):
    print_table(HOSTILE, ("x", "y"), [(HOSTILE, 1)], HOSTILE)
    RichProgress().say(HOSTILE)
    print_json({"x": HOSTILE})
    shown = "".join(capsys.readouterr())
    assert not {"\x1b", "\x07", "\x9b"} & set(shown)
    assert "a\\x1b[2Jb" in shown


def test_line_breaks_and_other_scripts_stay():
    assert visible_text("a\n\tb é 東京 عربي 👩‍🔬") == "a\n\tb é 東京 عربي 👩‍🔬"


def test_an_error_of_a_megabyte_is_a_short_line():
    line = _one_line(DataError("x" * 10**6 + "\x1b[2J"))
    assert len(line) < 2100
    assert line.endswith("(998,004 more)")
