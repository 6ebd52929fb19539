"""A run whose files are damaged, or sound and odd, costs the report of the other runs nothing."""

import copy
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from atrous.errors import AtrousError
from atrous.studies.reports import run_page
from atrous.studies.reports.index import render_index
from atrous.studies.reports.report import write_report
from atrous.studies.reports.runs import collect_runs
from atrous.studies.reports.site import _write_runs, table_page
from atrous.studies.reports.store import StoredRun, read_store

from ...conftest import ReadDamaged

SOUND: dict[str, Any] = {
    "run.json": {
        "format": 1,
        "name": "odd",
        "key": "1a",
        "family": "f",
        "seed": 0,
        "max_steps": 300,
        "command": "atrous-train row=odd",
        "parent": None,
    },
    "status.json": {
        "format": 1,
        "state": "done",
        "step": 300,
        "max_steps": 300,
        "reason": "",
        "loss": 0.5,
        "images_per_second": 3.25,
        "updated": 1700000000.5,
    },
    "results.json": {
        "format": 1,
        "evaluations": {
            "single": {
                "miou": 0.5,
                "pixel_accuracy": 0.75,
                "iou": {"a": 0.5, "b": None},
                "images": 4,
                "pixels": 64,
                "confidence": {"level": 0.95, "miou": [0.25, 0.75], "iou": [[0.25, 0.75], None]},
                "boundary": {"trimap_widths": [1, 2], "trimap_miou": [0.25, None]},
                "checkpoint": "last",
                "protocol": {"flip": False},
            }
        },
        "model": {"parameters": 2_000_000, "multiply_adds": 3_000_000_000, "size": [129, 129]},
        "training": {"seconds": 61.5, "images_per_second": 3.25, "atrous": "0.1 at abc", "steps": 300},
    },
}
CONFIG = {"output_stride": 16, "recipe": {"max_steps": 300}, "protocols": ["single"]}
ODD_VALUES = [
    None,
    True,
    -1,
    1e20,
    10**30,
    float("inf"),
    float("nan"),
    "x",
    "\ud800",
    "../x",
    [],
    [None, "x"],
    {},
    {"": 3},
]
NEITHER = ("its page cannot be made", "cannot be read")  # both are told of what no check has foreseen


def _add(store: Path, name: str, contents: dict[str, Any]) -> Path:
    folder = store / "runs" / name / "seed0"
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in contents.items():
        (folder / file).write_text(json.dumps(content))
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    (folder / "metrics.csv").write_text("step,train/loss\n1,0.5\n2,0.25\n")
    return folder


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a sound run beside the odd one."""
    folder = tmp_path_factory.mktemp("odd")
    _add(
        folder,
        "sound",
        {**SOUND, "run.json": {**SOUND["run.json"], "name": "sound", "command": "atrous-train row=sound"}},
    )
    return folder


def _report(store: Path) -> str:
    """Write the report of both runs; returns what it says of them."""
    stream = io.StringIO()
    site = store / "site"
    try:
        write_report(collect_runs([str(store / "runs" / "*")]), site, console=Console(file=stream, width=200))
    except AtrousError as error:
        raise AssertionError("the sound run is not shown") from error
    text = (site / "index.html").read_text()
    assert "atrous-train row=sound" in text
    assert "50.00" in (site / "runs/sound/seed0/index.html").read_text()
    return stream.getvalue() + text


def _places(node: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where a value stands in a file, all of them."""
    entries = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in entries:
        yield (*place, key)
        yield from _places(value, (*place, key))


@given(st.data())
def test_whatever_happened_to_a_file_of_one_run_the_others_are_reported(
    store: Path, read_damaged: ReadDamaged, data: st.DataObject
) -> None:
    folder, file = _add(store, "odd", SOUND), data.draw(st.sampled_from(list(SOUND)))

    def read(damaged: bytes) -> str:
        (folder / file).write_bytes(damaged)
        return _report(store)

    told = read_damaged(data, json.dumps(SOUND[file]).encode(), read)
    assert not any(text in told for text in NEITHER)


@given(st.data())
def test_an_odd_value_in_a_file_of_one_run_is_told_or_shown_beside_the_others(store: Path, data: st.DataObject) -> None:
    file = data.draw(st.sampled_from(list(SOUND)))
    *above, key = data.draw(st.sampled_from([*_places(SOUND[file])]))
    content = copy.deepcopy(SOUND)
    node = content[file]
    for step in above:
        node = node[step]
    node[key] = data.draw(st.sampled_from(ODD_VALUES))
    _add(store, "odd", content)
    assert not any(text in _report(store) for text in NEITHER)


def _break_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    render = run_page._render

    def fail_on_one(run: StoredRun, *rest: Any) -> str:
        if run.name == "odd":
            raise TypeError("nobody <foresaw> [this]")
        return render(run, *rest)

    monkeypatch.setattr(run_page, "_render", fail_on_one)


def test_a_run_whose_page_fails_for_a_reason_that_nobody_foresaw_is_told_and_has_a_page_that_says_so(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = _add(store, "odd", SOUND)
    _break_pages(monkeypatch)
    reason = f"{folder}: its page cannot be made (TypeError: nobody <foresaw> [this])"
    assert reason in _report(store)
    assert "nobody &lt;foresaw&gt; [this]" in (store / "site/runs/odd/seed0/index.html").read_text()


def test_the_index_of_a_site_tells_the_run_that_has_no_page(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _add(store, "odd", SOUND)
    _break_pages(monkeypatch)
    stored = read_store(store)
    written, odd = _write_runs(stored, store / "whole", {})
    index = render_index(stored, {}, {}, odd, table_page=table_page)
    assert "Runs without a page" in index
    assert "its page cannot be made (TypeError: nobody &lt;foresaw&gt;" in index
    assert sum((store / "whole" / path).is_file() for path in written) == 2


def test_a_run_that_cannot_be_read_for_a_reason_that_nobody_foresaw_is_told(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _add(store, "odd", SOUND)
    config = type(StoredRun.read(store / "runs/odd/seed0").folder).config

    def fail_on_one(folder: Any) -> Any:
        if folder.path.parent.name == "odd":
            raise TypeError("nobody foresaw this")
        return config(folder)

    monkeypatch.setattr("atrous.run_store.RunFolder.config", fail_on_one)
    assert "runs/odd/seed0: cannot be read (TypeError: nobody foresaw this)" in _report(store)
