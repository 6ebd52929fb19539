"""The live view of a sweep: a grid on a terminal, a line per event elsewhere, and how long it still takes."""

import io
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from atrous.studies.jobs import Job
from atrous.studies.live import LiveView
from atrous.studies.pace import Pace

from .conftest import FakeJobs

Jobs = Callable[..., list[Job]]


@pytest.fixture
def jobs(fake_jobs: FakeJobs) -> Jobs:
    """Rows x seeds, first all rows at the first seed, as a sweep has them; their folders are there."""

    def todo(rows: int, seeds: int) -> list[Job]:
        found = [fake_jobs.job(f"r{row:02d}", seed=seed) for seed in range(seeds) for row in range(rows)]
        for job in found:
            job.folder.path.mkdir(parents=True)
        return found

    return todo


def _terminal(*, width: int = 120, height: int = 40) -> Console:
    return Console(width=width, height=height, force_terminal=True, color_system=None, file=io.StringIO())


def _shown(view: LiveView, console: Console) -> list[str]:
    with console.capture() as capture:
        console.print(view.render())
    return [line.rstrip() for line in capture.get().splitlines()]


def _end(view: LiveView, todo: list[Job], index: int, miou: float) -> None:
    todo[index].folder.set_status("done", step=2)
    todo[index].folder.add_results(evaluations={"single": {"miou": miou}})
    view.on_change(index, "done")


def _run(view: LiveView, todo: list[Job], index: int, **status: float | str) -> None:
    view.on_change(index, "running")
    todo[index].folder.set_status("running", **status)


def test_every_state_is_told_in_the_cell_of_its_row_and_seed(jobs: Jobs) -> None:
    todo, console = jobs(4, 2), _terminal()
    view = LiveView(todo, console, slots=2)
    _end(view, todo, 0, 0.4321)
    _run(view, todo, 1, step=1, loss=0.625, images_per_second=40.12)
    todo[2].folder.set_status("failed", reason="the loss is nan at step 1")
    view.on_change(2, "failed")
    todo[3].folder.set_status("stopped", step=1)
    view.on_change(3, "stopped")
    with todo[4].folder.lock():
        _run(view, todo, 4, step=2, loss=0.5)
        view.on_change(4, "elsewhere")
        lines = _shown(view, console)
    cells = {line.split()[0]: re.split(r"\s{2,}", line)[1:] for line in lines[1:5]}
    assert cells["r00"] == ["43.21", "elsewhere 100%"]
    assert cells["r01"] == ["running 50%", "queued"]
    assert cells["r02"] == ["failed", "queued"]
    assert cells["r03"] == ["stopped 50%", "queued"]
    assert re.fullmatch(r"r01 seed 0  1/2 +loss 0\.625  40\.1 images/s.*", lines[5])
    assert re.fullmatch(rf"r00 seed 1  evaluating +loss 0\.500  by {re.escape(todo[4].folder.holder())}", lines[6])
    assert lines[7] == "1 of 8 runs done; 3 queued, 1 running, 1 trained elsewhere, 1 failed, 1 stopped"


def test_a_long_evaluation_says_how_far_it_is(jobs: Jobs) -> None:
    todo, console = jobs(1, 1), _terminal()
    view = LiveView(todo, console)
    _run(view, todo, 0, step=2, loss=0.5, evaluating="40/1449")
    assert re.fullmatch(r"r00 seed 0  evaluating 40/1449  loss 0\.500", _shown(view, console)[2])
    _run(view, todo, 0, step=2)
    assert re.fullmatch(r"r00 seed 0  evaluating  loss 0\.500", _shown(view, console)[2]), "it began anew"


def test_why_a_finished_run_could_not_be_measured_again_is_told(jobs: Jobs) -> None:
    todo, text = jobs(1, 1), io.StringIO()
    todo[0].folder.set_status("done", step=2, last_failure="out of memory in an evaluation")
    LiveView(todo, Console(file=text, width=80)).on_change(0, "failed")
    assert text.getvalue().startswith("failed  r00 seed 0  out of memory in an evaluation  ")


@pytest.mark.parametrize(("rows", "height"), [(20, 40), (20, 24), (60, 24)])
def test_a_large_table_fits_the_terminal_and_what_runs_is_always_in_it(jobs: Jobs, rows: int, height: int) -> None:
    todo, console = jobs(rows, 3), _terminal(height=height)
    view = LiveView(todo, console, slots=4)
    for index in range(rows - 2):
        _end(view, todo, index, 0.5)
    for index in range(rows - 2, rows + 2):
        _run(view, todo, index, step=1)
    lines = _shown(view, console)
    assert len(lines) < height
    names = [line.split()[0] for line in lines if re.match(r"r\d\d .*running 50%", line)]
    assert names == ["r00", "r01", f"r{rows - 2}", f"r{rows - 1}"], "in the order of the table"
    shown = {line.split()[0] for line in lines if re.match(r"r\d\d  ", line)}
    hidden = [line for line in lines if line.startswith("and ")]
    if rows + 8 <= height:
        assert len(shown) == rows
        assert hidden == []
    else:
        assert hidden[0].startswith(f"and {rows - len(shown)} more rows: ")


def test_a_row_with_brackets_in_its_name_is_shown_by_its_name(fake_jobs: FakeJobs) -> None:
    todo, console = [fake_jobs.job("rates [6,12] [a] [/b]")], _terminal()
    todo[0].folder.path.mkdir(parents=True)
    view = LiveView(todo, console)
    _run(view, todo, 0, step=1)
    shown = _shown(view, console)
    assert [line.count("rates [6,12] [a] [/b]") for line in shown if "rates" in line] == [1, 1]


def test_lines_are_cut_where_the_terminal_is_narrow(jobs: Jobs) -> None:
    todo, console = jobs(3, 1), _terminal(width=40)
    view = LiveView(todo, console)
    _run(view, todo, 0, step=1, loss=0.5, images_per_second=1234.5)
    lines = _shown(view, console)
    assert len(lines) == 6, "no line is folded"
    assert max(map(len, lines)) <= 40


def test_without_a_terminal_every_event_is_a_line(jobs: Jobs) -> None:
    todo, text = jobs(4, 1), io.StringIO()
    view = LiveView(todo, Console(file=text, width=80))
    with view, todo[1].folder.lock():
        view.on_change(0, "running")
        _end(view, todo, 0, 0.4321)
        view.on_change(1, "elsewhere")
        todo[2].folder.set_status("failed", reason="the loss is nan at step 1\nand more")
        view.on_change(2, "failed")
        view.on_stop()
        view.on_change(3, "cancelled")
    done, elsewhere, failed, stopping, cancelled = text.getvalue().splitlines()
    assert done == f"done  r00 seed 0  mIoU 43.21%  {todo[0].folder.path}"
    assert elsewhere.startswith(
        f"trained elsewhere  r01 seed 0  by {todo[1].folder.holder()}; its result is waited for"
    )
    assert failed == f"failed  r02 seed 0  the loss is nan at step 1  {todo[2].folder.path}"
    assert "Ctrl-C again" in stopping
    assert cancelled.startswith("cancelled  r03 seed 0")


def test_on_a_terminal_a_failure_is_told_above_the_grid(jobs: Jobs, tmp_path: Path) -> None:
    todo, console = jobs(2, 1), _terminal()
    with LiveView(todo, console) as view:
        _end(view, todo, 0, 0.5)
        todo[1].folder.set_status("failed", reason="no space left in /x")
        view.on_change(1, "failed")
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert "failed  r01 seed 0  no space left in /x" in text
    assert "done  r00" not in text, "the grid says so"
    assert "1 of 2 runs done; 1 failed" in text


def test_a_status_that_is_damaged_while_it_is_watched_does_not_end_the_view(jobs: Jobs) -> None:
    todo, console = jobs(1, 1), _terminal()
    view = LiveView(todo, console)
    _run(view, todo, 0, step=1)
    (todo[0].folder.path / "status.json").write_text("{")
    assert _shown(view, console)[1].split() == ["r00", "running", "0%"]


def test_the_time_left_follows_the_steps_that_were_seen() -> None:
    now = [100.0]
    pace = Pace(["a", "b", "a", "b"], [10, 10, 10, 10], clock=lambda: now[0])
    assert pace.left(0) is None
    assert pace.left_in_all(dict.fromkeys(range(4), True), 2) is None
    pace.see(0, 2)
    pace.see(1, 0)
    now[0] = 108.0
    pace.see(0, 6)  # 2 seconds a step
    pace.see(1, 2)  # 4 seconds a step
    assert pace.left(0) == 4 * 2.0
    assert pace.left(1) == 8 * 4.0
    assert pace.left(2) == 10 * 2.0, "as the other seed of its row"
    assert pace.left_in_all(dict.fromkeys(range(4), True), 2) == (8 + 32 + 20 + 40) / 2
    assert pace.left_in_all(dict.fromkeys(range(4), True), 4) == 40, "not sooner than its longest"
    assert pace.left_in_all({1: False, 2: True}, 1) == 32, "what runs elsewhere takes no slot"
