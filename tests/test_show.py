"""What the command line prints: tables that lose nothing, JSON that every reader takes."""

import json
import math
import re
import subprocess
import sys
from typing import Any

import pytest
from rich.console import Console

from bantamnet.cli import show

COLUMNS = ["picture", "rank", "class", "probability"]
ROWS = [
    ["/home/somebody/pictures of the summer/IMG_20240712_183045_edited_twice.jpg", "1", "airplane", "93.12%"],
    ["猫.png", "2", "a class with a long name and anunbrokenwordofmanyletters", "3.00%"],
]


@pytest.mark.parametrize(("width", "is_terminal"), [(40, True), (80, True), (200, True), (160, False)])
def test_a_table_is_never_cut(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], width: int, is_terminal: bool
) -> None:
    monkeypatch.setattr(show, "console", lambda: Console(width=width, force_terminal=is_terminal, color_system=None))
    show.table(COLUMNS, ROWS, ["rank", "probability"])
    lines = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()
    # The words of a column stand below each other; all else is in one line.
    place = lines[0].index("class")
    first = next(number for number, line in enumerate(lines) if "猫" in line)
    wide = 1  # 猫 takes two places
    folded = [lines[first][place - wide : -len("  probability  ")], *(line[place:] for line in lines[first + 1 :])]
    assert re.sub(r"\s", "", "".join(folded)) == ROWS[1][2].replace(" ", "")
    assert any(all(cell in line for cell in ROWS[0]) for line in lines)
    assert "3.00%" in lines[first] and "…" not in "".join(lines)
    if not is_terminal:
        assert len(lines) == 3


def test_numbers_that_json_has_not_are_null(capsys: pytest.CaptureFixture[str]) -> None:
    facts: dict[str, Any] = {"a": math.nan, "b": [math.inf, 1.5], "c": {"d": (-math.inf, "NaN", None, True, 3)}}
    show.either(True, facts, lambda facts: None)
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": [None, 1.5], "c": {"d": [None, "NaN", None, True, 3]}}


def test_a_bar_that_an_error_leaves_behind_gives_the_cursor_back() -> None:
    code = (
        "from rich.console import Console; from bantamnet.data.listener import ConsoleListener\n"
        "ConsoleListener(Console(force_terminal=True)).progress(0, 10)\nraise KeyboardInterrupt"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "\x1b[?25l" in done.stdout and done.stdout.rindex("\x1b[?25h") > done.stdout.rindex("\x1b[?25l")
