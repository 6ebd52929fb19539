"""How far something is: lines now and then where there is no terminal, none of them in the output itself."""

import io

import pytest
from rich.console import Console

from atrous import progress
from atrous.progress import doing
from atrous.progress import progress as shown_progress


@pytest.mark.parametrize(("is_terminal", "seconds", "lines"), [(False, 0.0, 2), (False, 60.0, 0), (True, 0.0, 0)])
def test_what_is_being_done_is_told_by_lines_only_where_there_is_no_terminal(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    is_terminal: bool,
    seconds: float,
    lines: int,
) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", seconds)
    console = Console(file=io.StringIO(), force_terminal=is_terminal)
    with doing("planning", console) as tell:
        tell("planning: table1")
        tell("planning: table2")
    told = capsys.readouterr()
    assert told.err.splitlines() == ["planning: table1", "planning: table2"][:lines]
    assert told.out == ""
    assert isinstance(console.file, io.StringIO)
    assert ("planning" in console.file.getvalue()) == is_terminal


@pytest.mark.parametrize(
    ("arguments", "seconds", "lines"),
    [
        ({}, 0.0, ["images [1/2]: 1 of 2", "images [1/2]: 2 of ?"]),
        ({}, 60.0, []),
        ({"shown": False}, 0.0, []),
        ({"bar": False}, 0.0, ["images [1/2]: 1 of 2", "images [1/2]: 2 of ?"]),
    ],
)
def test_how_far_something_is_is_told_by_lines_on_stderr_where_there_is_no_terminal(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: dict[str, bool],
    seconds: float,
    lines: list[str],
) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", seconds)
    with shown_progress("images [1/2]", **arguments) as report:
        report(1, 2)
        report(2, 0)
    assert capsys.readouterr() == ("", "".join(f"{line}\n" for line in lines))


@pytest.mark.parametrize(("bar", "is_line"), [(True, False), (False, True)])
def test_a_terminal_gets_a_bar_unless_lines_are_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], bar: bool, is_line: bool
) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    monkeypatch.setenv("FORCE_COLOR", "1")
    with shown_progress("images", bar=bar) as report:
        report(1, 2)
    told = capsys.readouterr().err
    assert (told == "images: 1 of 2\n") == is_line
    assert "images" in told


def test_names_in_brackets_are_told_beside_the_spinner_as_they_are() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    with doing("planning [/b]", console) as tell:
        tell("planning: fold [1] [/bold]")
        console.print("")  # draws the spinner anew
    assert isinstance(console.file, io.StringIO)
    assert "planning: fold [1] [/bold]" in console.file.getvalue()
