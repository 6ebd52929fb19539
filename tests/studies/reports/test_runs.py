"""Any set of runs as a table: the columns are what differs, seeds are averaged, and only finished runs count."""

import copy
import io
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from atrous.errors import ConfigError
from atrous.html import chip, document, image
from atrous.studies.reports.report import write_report
from atrous.studies.reports.runs import collect_runs

CONFIG: dict[str, Any] = {
    "model": {"_target_": "atrous.DeepLabV3", "multi_grid": None, "image_pooling": True},
    "backbone": {"_target_": "atrous.networks.ResNet", "units": [2, 2]},
    "data": {"root": "/a", "num_workers": 1, "train": {"size": 129}, "val": {"size": 129}},
    "recipe": {"max_steps": 300, "optimizer": {"lr": 0.1}},
    "trainer": {"devices": 1, "accumulate": 1},
    "output_stride": 16,
    "protocols": ["single"],
}


class Runs:
    """Writes run folders."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(
        self, name: str, *, seed: int = 0, miou: float | None = 0.5, protocol: str = "single", **changes: Any
    ) -> Path:
        config = copy.deepcopy(CONFIG)
        for key, value in changes.items():
            *path, last = key.split("__")
            node = config
            for part in path:
                node = node[part]
            node[last] = value
        folder = self.folder / "runs" / name / f"seed{seed}"
        folder.mkdir(parents=True)
        facts = {"name": name, "family": "f", "seed": seed, "max_steps": 300, "command": f"atrous-train {name}"}
        status = {"state": "running" if miou is None else "done", "step": 10}
        results = {} if miou is None else {"evaluations": {protocol: {"miou": miou}}}
        for file, value in (("run.json", facts), ("status.json", status), ("results.json", results)):
            (folder / file).write_text(json.dumps(value))
        (folder / "config.yaml").write_text(yaml.safe_dump({**config, "seed": seed, "store": str(folder)}))
        return folder

    def columns(self) -> list[dict[str, Any]]:
        return [dict(row.row.columns) for row in collect_runs([str(self.folder / "runs" / "*")]).rows]


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    """A store."""
    return Runs(tmp_path)


def test_what_differs_becomes_the_columns(runs: Runs) -> None:
    runs.add("a", output_stride=8, recipe__optimizer__lr=0.1)
    runs.add("b", output_stride=16, recipe__optimizer__lr=0.2)
    assert runs.columns() == [{"output_stride": 8, "lr": 0.1}, {"output_stride": 16, "lr": 0.2}]


def test_place_machine_and_seed_are_no_difference(runs: Runs) -> None:
    runs.add("a", output_stride=8, data__root="/b", trainer__devices=8, data__num_workers=4)
    runs.add("b", output_stride=16)
    assert [list(columns) for columns in runs.columns()] == [["output_stride"]] * 2


def test_seeds_are_averaged(runs: Runs) -> None:
    for seed, miou in enumerate((0.5, 0.6)):
        runs.add("a", seed=seed, miou=miou, output_stride=8)
    runs.add("b", miou=0.7)
    first, second = collect_runs([str(runs.folder / "runs" / "*")]).rows
    assert [first.mean, second.mean] == pytest.approx([55.0, 70.0])
    assert first.spread == pytest.approx(50**0.5)


def test_arguments_that_only_one_kind_of_network_has_are_told_by_its_kind(runs: Runs) -> None:
    other = {"_target_": "atrous.DeepLabV3Plus", "multi_grid": None, "low_level_channels": 48}
    runs.add("a")
    runs.add("b", model=other)
    assert runs.columns() == [{"model": "DeepLabV3"}, {"model": "DeepLabV3Plus"}]


def test_train_and_val_that_change_alike_are_one_column(runs: Runs) -> None:
    runs.add("a")
    runs.add("b", data__train__size=65, data__val__size=65)
    assert runs.columns() == [{"size": 129}, {"size": 65}]


def test_a_run_that_is_not_done_is_no_result(runs: Runs) -> None:
    runs.add("a", miou=None)
    runs.add("b", output_stride=8)
    first, second = collect_runs([str(runs.folder / "runs" / "*")]).rows
    assert first.mean is None
    assert first.state == "seed 0 running at step 10 of 300"
    assert second.mean == pytest.approx(50.0)


def test_protocols_are_rows_of_their_own(runs: Runs) -> None:
    runs.add("a", protocol="single")
    runs.add("b", protocol="ms_os8", output_stride=8)
    rows = collect_runs([str(runs.folder / "runs" / "*")]).rows
    told = [(row.row.columns["output_stride"], row.row.columns["protocol"], row.state) for row in rows]
    assert told[0] == (16, "single", "done")
    assert told[1] == (16, "ms_os8", "seed 0 not evaluated under ms_os8")


def test_run_folders_are_taken_as_they_are_and_once(runs: Runs) -> None:
    folder = runs.add("a")
    runs.add("b", seed=1)
    assert len(collect_runs([str(folder), str(runs.folder / "runs" / "a")]).rows) == 1


def test_the_same_training_in_two_stores_is_a_row_of_each(tmp_path: Path) -> None:
    stores = [Runs(tmp_path / name) for name in ("b", "a")]
    for runs, miou in zip(stores, (0.5, 0.6), strict=True):
        runs.add("x", miou=miou)
        runs.add("x", seed=1, miou=miou)
    stores[0].add("y", miou=0.7, output_stride=8)
    result = collect_runs([str(runs.folder / "runs" / "*") for runs in stores])
    assert [row.mean for row in result.rows] == pytest.approx([60.0, 50.0, 70.0])
    assert [row.row.columns["store"] for row in result.rows] == [str(tmp_path / "a"), str(tmp_path / "b"), ""]
    assert len({row.row.name for row in result.rows}) == 3
    write_report(result, tmp_path / "report", console=Console(file=io.StringIO(), width=200))
    pages = {page.relative_to(tmp_path / "report").as_posix() for page in tmp_path.glob("report/runs/*/*/index.html")}
    assert len(pages) == 5
    assert set(re.findall(r'href="(runs/[^"]*)"', (tmp_path / "report" / "index.html").read_text())) == pages


def test_other_seeds_of_a_training_in_another_store_are_its_seeds(tmp_path: Path) -> None:
    for seed, store in enumerate("ab"):
        Runs(tmp_path / store).add("x", seed=seed)
    (row,) = collect_runs([str(tmp_path / store / "runs" / "*") for store in "ab"]).rows
    assert [seed.seed for seed in row.seeds] == [0, 1]


def test_a_copy_of_a_run_beside_it_is_a_row_and_another_name_of_its_folder_is_not(runs: Runs) -> None:
    folder = runs.add("x")
    shutil.copytree(folder, folder.with_name("seed0-copy"))
    rows = collect_runs([str(folder.parent), str(folder / ".." / "seed0")]).rows
    assert [row.row.columns["store"] for row in rows] == [str(folder), f"{folder}-copy"]


def test_runs_that_nothing_tells_apart_bear_their_names(runs: Runs) -> None:
    runs.add("a")
    runs.add("b")
    assert runs.columns() == [{"run": "a"}, {"run": "b"}]


def test_damaged_runs_are_left_out_and_told(runs: Runs) -> None:
    (runs.add("a") / "config.yaml").write_text("[")
    runs.add("b")
    result = collect_runs([str(runs.folder / "runs" / "*")])
    assert [row.row.name for row in result.rows] == ["b"]
    assert "config.yaml" in result.damaged[0].reason


@pytest.mark.parametrize("gone", ["run.json", "config.yaml"])
def test_a_run_that_has_lost_a_file_is_told_and_not_one_seed_less(runs: Runs, gone: str) -> None:
    (runs.add("a", seed=1) / gone).unlink()
    runs.add("a")
    result = collect_runs([str(runs.folder / "runs" / "*")])
    assert [len(row.seeds) for row in result.rows] == [1]
    assert gone in result.damaged[0].reason


@pytest.mark.parametrize("pattern", ["", "nothing-*", "runs"])
def test_a_glob_without_runs_is_named(runs: Runs, pattern: str) -> None:
    runs.add("a")
    with pytest.raises(ConfigError, match="finds"):
        collect_runs([str(runs.folder / pattern) if pattern else ""])


def test_a_list_without_globs_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^runs=\[\] names no run"):
        collect_runs([])


def test_a_folder_whose_path_holds_brackets_is_itself_and_not_a_pattern(tmp_path: Path) -> None:
    runs = Runs(tmp_path / "fold [1]")
    folder = runs.add("a[b]")
    runs.add("c")
    Runs(tmp_path / "fold 1").add("elsewhere")
    named = {folder: ["a[b]"], folder.parent: ["a[b]"], runs.folder / "runs" / "*": ["a[b]", "c"]}
    for pattern, names in named.items():
        assert [row.row.name for row in collect_runs([str(pattern)]).rows] == names


def test_brackets_that_no_folder_bears_are_a_pattern(runs: Runs) -> None:
    for name in ("a1", "a2", "a3"):
        runs.add(name)
    assert [row.row.name for row in collect_runs([str(runs.folder / "runs" / "a[13]")]).rows] == ["a1", "a3"]


def test_what_is_no_glob_is_refused_with_what_is_one(runs: Runs) -> None:
    runs.add("deeplab")
    pattern = str(runs.folder / "runs" / "deeplab**")
    with pytest.raises(ConfigError, match=r"^runs='.*/runs/deeplab\*\*' is no glob: .* runs='outputs/\*\*/seed0'"):
        collect_runs([pattern])
    assert len(collect_runs([str(runs.folder / "**" / "seed0")]).rows) == 1


def _report(runs: Runs) -> Path:
    """Write the report of all runs; returns the site."""
    site = runs.folder / "deep" / "within" / "site"
    console = Console(file=io.StringIO(), width=100)
    write_report(collect_runs([str(runs.folder / "runs" / "*")]), site, console=console)
    return site


def test_a_folder_whose_name_is_not_utf8_is_reported_with_a_mark_in_its_place(tmp_path: Path) -> None:
    odd = os.fsdecode(b"o\xffd")
    for store in ("a", "b"):
        Runs(tmp_path / store).add("x")
    (tmp_path / "b").rename(tmp_path / odd)
    damaged = Runs(tmp_path / "a").add(odd)
    (damaged / "run.json").unlink()
    result = collect_runs([f"{tmp_path}/*/runs/*"])
    write_report(result, tmp_path / "report", console=Console(file=io.StringIO()))
    texts = {name: (tmp_path / "report" / name).read_text() for name in ("table.csv", "table.md", "index.html")}
    assert all("/o?d" in text for text in texts.values())
    assert f"{tmp_path}/a/runs/o?d/seed0/run.json: missing" in texts["index.html"]
    links = re.findall(r'href="(runs/[^"]+)"', texts["index.html"])
    assert len(links) == 2
    assert all((tmp_path / "report" / link).is_file() for link in links)


@pytest.mark.parametrize("name", ["../../../../../escaped", "s/../../../x", "/elsewhere", "a//b", ".", ""])
def test_a_run_whose_entry_is_named_as_a_place_elsewhere_is_left_out(runs: Runs, name: str) -> None:
    runs.add("sound")
    runs.add("foreign", protocol=name)
    page = runs.folder / "runs/foreign/seed0/evaluation" / name.lstrip("/") / "index.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text("<p>theirs</p>")
    before = {path for path in runs.folder.rglob("*") if path.is_file()}
    site = _report(runs)
    new = {path for path in runs.folder.rglob("*") if path.is_file()} - before
    assert all(path.is_relative_to(site) for path in new)
    assert not any("theirs" in path.read_text() for path in new)
    assert "the entry" in (site / "index.html").read_text()


def test_nothing_that_a_run_links_to_elsewhere_is_in_its_report(runs: Runs) -> None:
    for name in ("secret.txt", "secret.yaml", "kept/index.html"):
        (runs.folder / name).parent.mkdir(exist_ok=True)
        (runs.folder / name).write_text("token: secret")
    linked = {"page": "evaluation/single/index.html", "folder": "evaluation/single", "config": "config.yaml"}
    targets = {"page": "secret.txt", "folder": "kept", "config": "secret.yaml"}
    for name, place in linked.items():
        path = runs.add(name) / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.symlink_to(runs.folder / targets[name])
    site = _report(runs)
    assert not [path for path in site.rglob("*") if path.is_file() and "secret" in path.read_text()]
    assert "config.yaml: a link out of the run&#x27;s folder" in (site / "index.html").read_text()
    assert (site / "runs/page/seed0/index.html").is_file()
    assert not (site / "runs/page/seed0/evaluation").exists()


@pytest.mark.parametrize(
    "name", ["single", "single_os16@best@voc2012@train+val@of.May-1", "ms@my/own@fold 1/val", "a..b"]
)
def test_pages_of_every_name_that_evaluations_have_are_copied(runs: Runs, name: str) -> None:
    page = runs.add("a", protocol=name) / "evaluation" / name / "index.html"
    page.parent.mkdir(parents=True)
    page.write_text("<p>measured</p>")
    assert "<p>measured</p>" in (_report(runs) / "runs/a/seed0/evaluation" / name / "index.html").read_text()


def test_a_copied_page_may_run_no_script_and_fetch_nothing(runs: Runs) -> None:
    page = runs.add("a") / "evaluation" / "single" / "index.html"
    page.parent.mkdir(parents=True)
    page.write_text("<script>first()</script><!doctype html><html><head><title>x</title></head></html>")
    copied = (_report(runs) / "runs/a/seed0/evaluation/single/index.html").read_text()
    policy = re.match(r'<!doctype html><meta http-equiv="Content-Security-Policy" content="([^"]*)"><script>', copied)
    assert policy is not None, "the policy stands before all that it is for"
    assert "default-src 'none'" in policy[1]
    assert "script-src" not in policy[1]


def test_a_page_of_ours_needs_nothing_that_a_copied_page_may_not_have(runs: Runs) -> None:
    page = runs.add("a") / "evaluation" / "single" / "index.html"
    page.parent.mkdir(parents=True)
    ours = document("single", chip((1, 2, 3)) + image(b"", alt="") + "<svg></svg>")
    page.write_text(ours)
    copied = (_report(runs) / "runs/a/seed0/evaluation/single/index.html").read_text()
    assert copied.startswith("<!doctype html><meta")
    assert copied.endswith(ours.removeprefix("<!doctype html>"))
    assert {"img-src data:", "style-src 'unsafe-inline'"} <= set(re.split(r"; |\"", copied[:400]))
