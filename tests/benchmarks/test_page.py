"""Sections and the page: what a reader sees, what the JSON keeps."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from benchmarks.__main__ import main, sections_in
from benchmarks.figures import Spread
from benchmarks.page import page
from benchmarks.section import Goal, Section, markdown_table
from hypothesis import given
from hypothesis import strategies as st

from ..conftest import ReadDamaged

KEPT = Goal("a step in steps of the other", Spread(1.01, 0.99, 1.02), at_most=1.03)
MISSED = Goal("times as fast", Spread(2.0, 1.9, 2.3), at_least=2.2)


def _section(key: str = "evaluation", *goals: Goal) -> Section:
    return Section(
        key=key,
        title="Evaluation",
        text="Ours and theirs.",
        columns=("way", "s"),
        rows=[["ours", "1.00"], ["theirs", "2.00"]],
        goals=goals,
        notes=["nothing is missing"],
        figures={"measured": {"ours": [{"seconds": [1.0]}]}},
    )


@pytest.mark.parametrize(
    ("goal", "bound", "verdict"),
    [
        (KEPT, "at most 1.03x", "yes"),
        (MISSED, "at least 2.2x", "**no**"),
        (Goal("share", Spread(61, 60, 64), at_least=60, unit="%"), "at least 60%", "yes"),
        (Goal("seconds", Spread(5.1, 5, 6), at_most=5, unit=" s"), "at most 5 s", "**no**"),
        (Goal("x", Spread(1, 1, 1), at_least=2.2, moot="no bf16"), "at least 2.2x", "not asked here: no bf16"),
    ],
)
def test_a_goal_says_whether_the_median_keeps_its_bound(goal: Goal, bound: str, verdict: str) -> None:
    assert (goal.bound, goal.verdict) == (bound, verdict)


def test_a_table_is_markdown_and_keeps_bars_inside_of_cells() -> None:
    assert markdown_table(["way", "s"], [["a|b", "1"]]) == "| way | s |\n| --- | ---: |\n| a\\|b | 1 |"


def test_a_section_comes_back_from_its_file(tmp_path: Path) -> None:
    section = _section("evaluation", KEPT, MISSED)
    section.write(tmp_path)
    back = Section.read(tmp_path / "evaluation.json")
    assert back.markdown() == section.markdown()
    assert back.figures == section.figures


def test_a_page_opens_with_the_machine_and_all_goals_once() -> None:
    text = page([_section("evaluation", KEPT), _section("loader", MISSED)], {"cores": "2"}, notes=["a quick run"])
    machine, goals, tables = text.index("| cores | 2 |"), text.index("## Goals"), text.index("## Evaluation")
    assert machine < text.index("- a quick run") < goals < tables
    assert text.index(KEPT.what) < text.index(MISSED.what) < tables
    assert text.count(KEPT.what) == text.count(MISSED.what) == 1
    assert text.endswith("- nothing is missing\n")


def test_a_table_says_what_it_was_measured_with(tmp_path: Path) -> None:
    stamp = "on 2026-11-26 at 5a02607 with `python -m benchmarks`"
    section = replace(_section("evaluation", KEPT), origin=stamp, machine="2 cores of A")
    section.write(tmp_path)
    assert Section.read(tmp_path / "evaluation.json").markdown().endswith(f"Measured {stamp}, on 2 cores of A.")
    assert "Evaluation, on 2 cores of A:" in page([section], {})


def test_a_page_without_figures_says_so() -> None:
    assert "Nothing has been measured yet." in page([], {"cores": "2"})


def test_sections_stand_in_the_order_of_the_benchmarks(tmp_path: Path) -> None:
    for key in ("scaling", "loader_voc2012_1", "training_step_resnet50_cpu", "unknown"):
        _section(key).write(tmp_path)
    (tmp_path / "machine.json").write_text("{}")
    sections, damaged = sections_in(tmp_path)
    found = [section.key for section in sections]
    assert not damaged
    assert found == ["training_step_resnet50_cpu", "loader_voc2012_1", "scaling"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff{}", b'{"key": "loader", "goals": []}', b"[" * 9000])
def test_a_file_that_cannot_be_read_is_named_beside_the_others_tables(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _section("evaluation", KEPT).write(tmp_path)
    (tmp_path / "loader_voc2012_1.json").write_bytes(content)
    (tmp_path / "scaling.json").mkdir()
    (tmp_path / "machine.json").write_bytes(content)
    assert main(["--page-only", "--out", str(tmp_path)]) == 1
    text = (tmp_path / "index.md").read_text()
    assert "## Evaluation" in text
    for told in (text, capsys.readouterr().out):
        assert "loader_voc2012_1.json cannot be read" in told
        assert "scaling.json cannot be read (IsADirectoryError" in told
    assert "cores" in json.loads((tmp_path / "machine.json").read_text())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("title", None),
        ("text", "half of a letter: \ud83d"),
        ("\ud83d", None),
        ("rows", [["ours", 5]]),
        ("columns", 7),
        ("notes", 3),
        ("goals", [{"what": "x"}]),
        ("figures", []),
        ("goals", [{"what": "x", "value": {"median": None, "low": 1, "high": 2}, "at_most": 2}]),
        ("goals", [{"what": "x", "value": {"median": 1, "low": 1, "high": 2}}]),
    ],
)
def test_odd_values_are_no_section(key: str, value: Any, tmp_path: Path) -> None:
    _section("evaluation", KEPT).write(tmp_path)
    file = tmp_path / "evaluation.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), key: value}))
    sections, (damaged,) = sections_in(tmp_path)
    assert not sections
    assert damaged.encode().startswith(b"evaluation.json cannot be read (")


@given(st.data())
def test_a_damaged_section_can_be_shown_or_is_refused(
    tmp_path_factory: pytest.TempPathFactory, read_damaged: ReadDamaged, data: st.DataObject
) -> None:
    folder = tmp_path_factory.getbasetemp()
    _section("evaluation", KEPT, MISSED).write(folder)
    file = folder / "evaluation.json"

    def read(damaged: bytes) -> bytes:
        file.write_bytes(damaged)
        return page([Section.read(file)], {}).encode()

    read_damaged(data, file.read_bytes(), read)
