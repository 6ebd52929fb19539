"""atrous-report: the table from the store, with the sweep's own command line; trains nothing."""

import csv
import json
import re
from pathlib import Path

import pytest

from .conftest import SMOKE_TABLE, Run, Trained


def test_it_has_to_be_told_which_report(atrous: Run) -> None:
    ended = atrous("report")
    assert ended.code == 2
    (error,) = ended.errors
    for way in ("+experiment=deeplabv3/table1 scale=shapes", "sweep=NAME", "runs='outputs/runs/NAME*'", "site"):
        assert way in error


def test_two_reports_at_once_are_refused(atrous: Run) -> None:
    ended = atrous("report", "+experiment=deeplabv3/table1", "runs=outputs/runs/*")
    assert ended.code == 2
    assert "one report at a time" in ended.errors[0]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("runs=a,b",), "runs=a,b: several are a list, 'runs=[a,b]'"),
        (("sweep=a,b",), "sweep=a,b: one at a time"),
        (("site", "output=a,b"), "output=a,b: one at a time"),
        pytest.param(("site", "store=a,b"), "store=a,b: one at a time", marks=pytest.mark.exhaustive),
    ],
)
def test_what_a_report_has_one_of_is_not_swept(
    atrous: Run, tmp_path: Path, arguments: tuple[str, ...], told: str
) -> None:
    ended = atrous("report", *arguments)
    assert ended.code == 2
    (error,) = ended.errors
    assert error.startswith(f"error: {told}")
    assert not [*tmp_path.iterdir()], "nothing is written elsewhere"


@pytest.mark.parametrize("glob", ["outputs/runs/nothing*", "*"])
def test_a_glob_without_runs_is_named(atrous: Run, tmp_path: Path, glob: str) -> None:
    (tmp_path / "a file").touch()
    ended = atrous("report", f"runs={glob}")
    assert ended.code == 2
    assert ended.errors[0].startswith(f"error: runs={glob!r} finds ")


@pytest.mark.parametrize(
    "arguments",
    [
        ("site",),
        ("+experiment=deeplabv3/table1", "scale=smoke"),
        pytest.param(("runs=runs/*",), marks=pytest.mark.exhaustive),
        pytest.param(("figure4",), marks=pytest.mark.exhaustive),
    ],
)
def test_a_place_that_cannot_be_a_folder_is_refused_by_its_key(
    atrous: Run, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    (tmp_path / "taken").touch()
    ended = atrous("report", *arguments, "output=taken/below")
    assert ended.code == 2
    assert ended.errors == [
        f"error: output='taken/below' cannot be used: {tmp_path / 'taken'} is not a folder; give another folder"
    ]
    assert ended.out == ""


def test_an_unknown_sweep_is_refused(atrous: Run) -> None:
    ended = atrous("report", "sweep=nope")
    assert ended.code == 2
    assert "there are: none" in ended.errors[0]


@pytest.mark.every(2)
@pytest.mark.parametrize("flags", [(), ("-m",)])
def test_it_takes_the_command_line_of_the_sweep_and_trains_nothing(atrous: Run, flags: tuple[str, ...]) -> None:
    ended = atrous("report", *flags, "+experiment=deeplabv3plus/table1", "scale=shapes", "seed=0,1,2", "output=here")
    assert ended.code == 0, ended.err
    assert "5 of 5 rows have no result yet." in ended.out
    assert "Scale shapes: not a reproduction" in ended.out
    assert ended.heavy == []


@pytest.mark.exhaustive
def test_the_papers_scale_is_reported_without_the_data(atrous: Run) -> None:
    ended = atrous("report", "+experiment=deeplabv3/table1", "scale=paper")
    assert ended.code == 0, ended.err
    assert "75.18" in ended.out


@pytest.mark.slow
def test_the_report_holds_the_numbers_of_the_store(trained: Trained) -> None:
    ended = trained.run("report", *SMOKE_TABLE, "output=again")
    assert ended.code == 0, ended.err
    with (trained.folder / "again" / "table.csv").open() as stream:
        rows = {row["output_stride"]: row for row in csv.DictReader(stream)}
    scores = {}
    for run in trained.rows:
        stride = re.findall(r"-os(\d+)-", run.parent.name)[0]
        scores[stride] = 100 * json.loads((run / "results.json").read_text())["evaluations"]["single"]["miou"]
    assert {stride: float(row["measured_mean"]) for stride, row in rows.items()} == pytest.approx(scores)
    page, markdown = ((trained.folder / "again" / name).read_text() for name in ("index.html", "table.md"))
    for score in scores.values():
        assert f"{score:.2f}" in page
        assert f"{score:.2f}" in markdown
    assert not re.search(r"https?:|src=", page)
    (sweeps_own,) = trained.folder.glob("outputs/reports/deeplabv3/table1/smoke-????????/table.csv")
    assert sweeps_own.read_text() == (trained.folder / "again" / "table.csv").read_text()


@pytest.mark.slow
def test_any_runs_are_a_table_of_what_differs(trained: Trained) -> None:
    folders = ",".join(f"'{path.relative_to(trained.folder)}'" for path in trained.rows)
    ended = trained.run("report", f"runs=[{folders}]", "output=set")
    assert ended.code == 0, ended.err
    with (trained.folder / "set" / "table.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert next(iter(rows[0])) == "output_stride"
    strides = dict.fromkeys(row["output_stride"] for row in rows)  # a row per protocol, of which other tests add some
    assert list(strides) == ["256", "8"]
    assert "not a reproduction" in (trained.folder / "set" / "index.html").read_text()
    assert len(list(trained.folder.glob("set/runs/*/seed0/index.html"))) == 2
    assert ended.heavy == []


@pytest.mark.exhaustive
def test_a_cut_run_is_an_unfinished_budget_and_never_a_result(trained: Trained) -> None:
    table = ("+experiment=deeplabv3/table1", "scale=smoke", "rows=[os256]", "store=cut_store")
    assert trained.run("train", "-m", *table, "recipe.max_steps=1").code == 0
    ended = trained.run("report", *table, "output=cut")
    assert "os256: not trained; unfinished budget: seed 0 has 1 of 2 steps" in ended.out
    with (trained.folder / "cut" / "table.csv").open() as stream:
        (row,) = csv.DictReader(stream)
    assert (row["measured_mean"], row["seeds"]) == ("", "0")


@pytest.mark.no_cover  # what it runs is counted in other tests, where it takes half the time
def test_figure_4_is_drawn_without_data_or_a_store(atrous: Run, tmp_path: Path) -> None:
    ended = atrous("report", "figure4", computes=True)
    assert ended.code == 0, ended.err
    (picture,) = tmp_path.rglob("*.png")
    assert picture.name == "figure4.png"
    assert ended.out.split() == ["picture:", str(picture.relative_to(tmp_path))]
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.no_cover  # what it runs is counted in other tests, where it takes half the time
def test_a_diagram_is_drawn_of_the_network_that_is_asked_for(atrous: Run, tmp_path: Path) -> None:
    network = ("model=deeplabv3_cascade", "backbone=tiny", "output_stride=256", "data=voc")
    ended = atrous("report", "diagram", *network, "output=here", computes=True)
    assert ended.code == 0, ended.err
    assert ended.out.split() == ["picture:", "here/diagram.png"]
    assert (tmp_path / "here" / "diagram.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.exhaustive
def test_a_diagram_of_an_impossible_network_says_what_is_possible(atrous: Run) -> None:
    ended = atrous("report", "diagram", "model=deeplabv3", "backbone=xception65", "output_stride=64")
    assert ended.code == 2
    assert len(ended.errors) == 1
    assert re.search(r"output_stride=64 is impossible .* 4, 8, 16, 32", ended.errors[0])


def test_an_unknown_subject_is_refused_with_the_known_ones(atrous: Run) -> None:
    ended = atrous("report", "subject=figure5")
    assert ended.code == 2
    (error,) = ended.errors
    assert re.fullmatch(r"error: subject='figure5': one of table, .*figure4, diagram.*", error)
