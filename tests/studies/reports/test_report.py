"""A table beside its measurements, as text, as data and as a page that needs nothing but itself."""

import csv
import io
import re
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path, PurePosixPath

import pytest
from rich.console import Console

from atrous.studies.reports.charts import trend_chart
from atrous.studies.reports.forms import render_csv, render_markdown
from atrous.studies.reports.report import write_report
from atrous.studies.reports.rows import OtherBudget, RowResult, SeedResult, TableResult
from atrous.studies.reports.store import DamagedRun
from atrous.studies.reports.table_page import render_page
from atrous.studies.reports.words import agreement_of, headline
from atrous.studies.table import Row, Table
from atrous.studies.table_changes import changed_by

PAGE = PurePosixPath("index.html")


def _row(
    name: str, stride: int, paper: float, scores: tuple[float, ...], others: tuple[OtherBudget, ...] = ()
) -> RowResult:
    seeds = tuple(SeedResult(i, "done", Path(f"runs/x/seed{i}"), 2, 2, score) for i, score in enumerate(scores))
    return RowResult(
        row=Row(name, (f"output_stride={stride}",), {"output_stride": stride}, {"miou": paper}),
        command=f"atrous-train 'output_stride={stride}' <&> seed=0",
        seeds=seeds,
        other_budgets=others,
        parameters=1_234_567 if scores else None,
        multiply_adds=2_345_678_900 if scores else None,
        size=(129, 129) if scores else None,
        seconds=3723.4 if scores else None,
    )


@pytest.fixture
def result() -> TableResult:
    """Two seeds of one row, one of another, and one with another budget."""
    table = Table(
        name="paper/table1",
        title="Strides & <rates>",
        rows=(),
        paper="A paper, Table 1",
        trend="The smaller, the better.",
        scale="shapes",
        scale_label="not a reproduction",
        deviations=("One thing differs.",),
    )
    others = (OtherBudget(0, Path("runs/y/seed0"), 1, 2),)
    rows = (_row("os8", 8, 75.18, (0.66, 0.68)), _row("os16", 16, 73.88, (0.5,)), _row("os32", 32, 70.06, (), others))
    return TableResult(table, rows)


def test_markdown_has_a_line_per_row_with_paper_measurement_and_difference(result: TableResult) -> None:
    text = render_markdown(result)
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    assert lines[0][:5] == ["output_stride", "paper", "measured", "difference", "seeds"]
    assert lines[2][:5] == ["8", "75.18", "67.00 ± 1.41", "-8.18", "2"]
    assert lines[2][5:] == ["1.23M", "2.346B", "1:02:03"]
    assert lines[3][:5] == ["16", "73.88", "50.00", "-23.88", "1"]
    assert lines[4][:5] == ["32", "70.06", "", "", "0"]
    assert "* os32: not trained; unfinished budget: seed 0 has 1 of 2 steps" in text.splitlines()


def test_every_form_says_the_scale_the_agreement_and_what_is_missing(result: TableResult) -> None:
    said = headline(result)
    assert said == [
        "Scale `shapes`: not a reproduction.",
        "Agreement of the row order with the paper: Kendall tau = +1.00: "
        "1 of 1 pairs of rows are in the paper's order.",
        "1 of 3 rows have no result yet.",
    ]
    for text in (render_markdown(result), render_page(result, page=PAGE)):
        assert "not a reproduction" in text
        assert "Kendall tau = +1.00" in text
        assert "The smaller, the better." in text
        assert "One thing differs." in text


def test_every_form_says_what_the_user_changed_and_how_many_rows_were_chosen(
    result: TableResult, tmp_path: Path
) -> None:
    shown = tuple(row.row for row in result.rows)
    own = replace(result.table, scale="paper", scale_label="the paper's own", is_reproduction=True)
    reproduction = replace(own, rows=shown, left_out=3)
    changed = replace(result, table=changed_by(reproduction, ["recipe.crop_size=65"]))
    stream = io.StringIO()
    write_report(changed, tmp_path, console=Console(file=stream, width=140))
    forms = [(tmp_path / name).read_text() for name in ("index.html", "table.md", "table.tex")]
    for text in (stream.getvalue(), *forms):
        assert "changed by recipe.crop_size=65" in text.replace("\\_", "_")
        assert "not a reproduction" in text
        assert "the paper's own" not in text
        assert "Chosen: 3 of the table's 6 rows." in unescape(text)
    (changes,) = {row["changes"] for row in csv.DictReader(io.StringIO(render_csv(changed)))}
    assert changes == "recipe.crop_size=65"


def test_csv_keeps_the_numbers_unrounded(result: TableResult) -> None:
    rows = list(csv.DictReader(io.StringIO(render_csv(result))))
    assert [row["output_stride"] for row in rows] == ["8", "16", "32"]
    assert float(rows[0]["measured_mean"]) == pytest.approx(67.0)
    assert float(rows[0]["measured_std"]) == pytest.approx(2**0.5)
    assert [float(score) for score in rows[0]["scores"].split()] == pytest.approx([66.0, 68.0])
    assert (rows[2]["measured_mean"], rows[2]["seeds"]) == ("", "0")
    assert rows[0]["command"] == "atrous-train 'output_stride=8' <&> seed=0"


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.attributes: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in ("meta", "path", "polyline", "circle"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("path", "polyline", "circle"):
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += f"{data} "


def test_the_page_is_well_formed_and_needs_nothing_but_itself(result: TableResult) -> None:
    page, html = _Page(), render_page(result, page=PAGE)
    page.feed(html)
    assert page.open == []
    assert not re.search(r"https?://|\bsrc\s*=|@import|url\(|<script|<link", html)
    assert not [name for name, _ in page.attributes if name == "src"]
    for address in (value for name, value in page.attributes if name == "href"):
        assert re.fullmatch(r"table\.(md|csv|tex)|runs/[xy]/seed\d/index\.html", address)


def test_the_page_shows_numbers_commands_and_escapes_what_it_shows(result: TableResult) -> None:
    page = _Page()
    page.feed(render_page(result, page=PAGE))
    for shown in ("75.18", "67.00 ± 1.41", "Strides & <rates>", "atrous-train 'output_stride=8' <&> seed=0"):
        assert shown in page.text


def test_the_chart_has_a_point_per_number(result: TableResult) -> None:
    wide, narrow = trend_chart(result).split("</svg>")[:2]
    assert wide.count("<circle") == narrow.count("<circle") == 3 + 2
    assert ">256<" not in wide


def test_a_chart_of_many_rows_numbers_them_as_the_table_does(result: TableResult) -> None:
    rows = tuple(_row(f"a-long-name-of-a-row-{i}", 8, 70.0 + i, (0.5 + i / 100,)) for i in range(20))
    named = tuple(RowResult(**{**row.__dict__, "row": Row(row.row.name, (), {}, row.row.paper)}) for row in rows)
    many = TableResult(result.table, named)
    wide, narrow = trend_chart(many).split("</svg>")[:2]
    assert re.findall(r'middle">(\d+)<', wide) == [str(number) for number in range(1, 21)]
    assert re.findall(r'middle">(\d+)<', narrow) == [str(number) for number in range(1, 21, 2)]
    assert re.findall(r'<td class="soft">(\d+)</td>', render_page(many, page=PAGE)) == [str(n) for n in range(1, 21)]


def test_tau_is_told_as_the_pairs_of_rows_that_are_in_order(result: TableResult) -> None:
    rows = tuple(_row(str(i), 8, paper, (ours,)) for i, (paper, ours) in enumerate([(70, 0.5), (71, 0.6), (72, 0.55)]))
    (said,) = agreement_of(TableResult(result.table, rows))
    assert said.endswith("Kendall tau = +0.33: 2 of 3 pairs of rows are in the paper's order and 1 is reversed.")


def test_a_gain_over_another_row_is_that_of_the_seeds_that_both_have(result: TableResult) -> None:
    base, better = _row("base", 16, 0, (0.5, 0.7)), _row("better", 16, 4.8, (0.56, 0.74, 0.9))
    row = Row("better", (), {}, {"miou": 4.8}, against="base")
    gain = RowResult(**{**better.__dict__, "row": row, "baseline": base.seeds})
    assert gain.scores == pytest.approx([6.0, 4.0])
    assert gain.difference == pytest.approx(0.2)
    assert "+5.00 ± 1.41" in render_markdown(TableResult(result.table, (base, gain)))


def test_agreement_never_orders_a_gain_among_scores(result: TableResult) -> None:
    base, better = _row("base", 16, 70.0, (0.5,)), _row("better", 16, 0, (0.56,))
    gain = replace(better, row=Row("better", (), {}, {"miou": 4.8}, against="base"), baseline=base.seeds)
    assert TableResult(result.table, (base, gain)).agreement is None


def test_a_gain_that_no_paper_has_and_no_seed_shows_yet_leaves_the_page_whole(result: TableResult) -> None:
    base, better = _row("base", 16, 0, (0.5,)), _row("better", 16, 0, ())
    gain = replace(better, row=Row("better", (), {}, against="base"), baseline=base.seeds)
    page = render_page(TableResult(result.table, (base, gain)), page=PAGE)
    assert "No gain measured yet." in page
    assert "50.00" in page


def test_wide_cells_are_shortened_in_markdown_and_whole_in_csv(result: TableResult) -> None:
    wide = "|".join(str(number) for number in range(60))
    row = RowResult(row=Row("wide", (), {"setting": wide}), command="x", seeds=result.rows[0].seeds)
    line = next(line for line in render_markdown(TableResult(result.table, (row,))).splitlines() if line[:3] == "| 0")
    assert len(re.split(r"(?<!\\)\|", line)[1]) < 60
    assert next(csv.DictReader(io.StringIO(render_csv(TableResult(result.table, (row,))))))["setting"] == wide


def test_damaged_folders_are_told_with_their_reason_in_every_form(result: TableResult) -> None:
    hurt = TableResult(result.table, result.rows, (DamagedRun(Path("z"), "z/run.json: not readable"),))
    for text in (render_markdown(hurt), render_page(hurt, page=PAGE), "\n".join(headline(hurt))):
        assert "z/run.json: not readable" in text


def test_nothing_measured_still_makes_a_report(result: TableResult, tmp_path: Path) -> None:
    rows = tuple(_row(name, 8, 75.18, ()) for name in ("a", "b"))
    for empty in (
        TableResult(result.table, rows),
        TableResult(Table(name="s", title="t", rows=()), _unpublished(rows)),
    ):
        write_report(empty, tmp_path / "report", console=Console(file=io.StringIO(), width=100))
        assert {path.name for path in (tmp_path / "report").iterdir()} == {
            "table.md",
            "table.csv",
            "table.tex",
            "index.html",
        }


def _unpublished(rows: tuple[RowResult, ...]) -> tuple[RowResult, ...]:
    return tuple(RowResult(**{**row.__dict__, "row": Row(row.row.name, (), {})}) for row in rows)


def test_names_in_brackets_are_shown_in_the_terminal_as_they_are(result: TableResult, tmp_path: Path) -> None:
    stream, folder = io.StringIO(), tmp_path / "of [bold] :car: [/]"
    table = replace(result.table, title="Strides [bold] of [/nothing]")
    columns = {"[red]stride[/red]": "[/b]", "fold [1,2]": "[a] :car:"}
    rows = tuple(replace(row, row=replace(row.row, columns=columns)) for row in result.rows)
    write_report(replace(result, table=table, rows=rows), folder, console=Console(file=stream, width=160))
    shown = stream.getvalue()
    for text in (table.title, *columns, *columns.values(), str(folder / "index.html")):
        assert text in shown


def test_the_terminal_shows_every_row_and_where_the_page_is(result: TableResult, tmp_path: Path) -> None:
    stream = io.StringIO()
    write_report(result, tmp_path, console=Console(file=stream, width=140))
    shown = stream.getvalue()
    for word in (
        "75.18",
        "67.00 ± 1.41",
        "os32: not trained; unfinished budget",
        "+1.00",
        str(tmp_path / "index.html"),
    ):
        assert word in shown
