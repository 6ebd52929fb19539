"""How far something is: lines now and then where there is no terminal, none of them in the output itself."""

import io

import pytest
from rich.console import Console

from atrous import progress
from atrous.progress import doing


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
