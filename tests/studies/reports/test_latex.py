"""A table as LaTeX: what it escapes, how it is built, and that it compiles where there is a compiler."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from atrous.studies.reports.latex import escape, render_latex
from atrous.studies.reports.rows import OtherBudget, RowResult, SeedResult, TableResult
from atrous.studies.table import Row, Table

TROUBLE = r"50% of a_b & c#1 $x {y} ~ ^ \z <u|v> ±"


@pytest.fixture
def result() -> TableResult:
    """Two rows, one of them with all that LaTeX reads in its own way."""
    rows = []
    for name, scores in ((TROUBLE, (0.5, 0.52)), ("plain", ())):
        seeds = tuple(SeedResult(seed, "done", Path("x"), 2, 2, score) for seed, score in enumerate(scores))
        row = Row(name, (), {"method": name, "output_stride": 16}, {"miou": 60.0})
        others = () if scores else (OtherBudget(0, Path("y"), 1, 2),)
        rows.append(RowResult(row=row, command="x", seeds=seeds, other_budgets=others, parameters=1_000_000))
    table = Table("t", "A title with 100%", (), "Paper_1, Table 1", scale="shapes", scale_label="not a reproduction")
    return TableResult(table, tuple(rows))


def test_nothing_that_latex_reads_in_its_own_way_is_left() -> None:
    assert escape("a_b & 5%") == r"a\_b \& 5\%"
    bare = re.sub(r"\\textbackslash\{\}|\\text\w+\{\}|\$\\pm\$|\\[&%$#_{}]", "", escape(TROUBLE))
    assert not set(bare) & set(r"\&%$#_{}~^<>|±")


def test_a_list_in_the_first_column_is_no_argument_of_the_command_before_it() -> None:
    rows = tuple(RowResult(row=Row(text, (), {"multi_grid": text}), command="x") for text in ("[1,2,4]", "*"))
    lines = [line.strip() for line in render_latex(TableResult(Table("t", "T", ()), rows)).splitlines()]
    first, second = lines[lines.index("\\midrule") + 1 :][:2]
    assert first.startswith("{[}1,2,4] &")
    assert second.startswith("{*} &")


def test_every_row_has_a_cell_for_every_column(result: TableResult) -> None:
    text = render_latex(result)
    (columns,) = re.findall(r"begin\{tabular\}\{([lr]+)\}", text)
    lines = [line for line in text.splitlines() if line.endswith(r"\\") and " & " in line]
    assert len(lines) == 3
    assert [len(re.split(r"(?<!\\)&", line)) for line in lines] == [len(columns)] * 3
    assert columns.startswith("lr")
    assert text.index("toprule") < text.index("midrule") < text.index("bottomrule")


def test_the_caption_says_that_it_is_no_reproduction_and_cut_rows_are_told(result: TableResult) -> None:
    text = render_latex(result)
    assert "not a reproduction" in re.findall(r"\\caption\{(.*)\}", text)[0]
    assert "unfinished budget: seed 0 has 1 of 2 steps" in text


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex with booktabs")
def test_it_compiles(result: TableResult, tmp_path: Path) -> None:
    document = "\\documentclass{article}\\usepackage{booktabs}\\begin{document}%s\\end{document}"
    (tmp_path / "t.tex").write_text(document % render_latex(result))
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
