"""atrous-evaluate: other protocols on a finished run, without training."""

import html
import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atrous.evaluation.records import ImageRecords

from .conftest import Run, Trained


@pytest.mark.every(3)
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), ("run has no value", "run=VALUE")),
        (("run=.",), ("run='.'", "config.yaml")),
        (("runn=.",), ("'runn'", "did you mean run?")),
        (("run=.", "protocol=nope"), ("config.yaml",)),
        (("weights=xception65",), ("'xception65'", "did you mean xception")),
        (("weights=xception_65_imagenet",), ("backbone for ImageNet",)),
        (("weights=xception65_coco_voc_trainaug",), ("on which data?", "data=voc data.root=FOLDER")),
        (("weights=mobilenetv2_coco_voc_trainaug", "run=."), ("run=.", "one of them at a time")),
        (("run=.", "data.root=."), ("'data.root'", "did you mean data_root?")),
        (("run=a, b=c",), ("run='a, b=c' is not the folder of a run",)),
    ],
)
def test_a_mistake_is_one_line(atrous: Run, arguments: tuple[str, ...], words: tuple[str, ...]) -> None:
    ended = atrous("evaluate", *arguments)
    assert ended.code == 2
    (line,) = ended.errors
    for word in words:
        assert word in line
    assert ended.heavy == []


def _entries(run: Path) -> dict[str, dict[str, Any]]:
    entries: dict[str, dict[str, Any]] = json.loads((run / "results.json").read_text())["evaluations"]
    return entries


@pytest.mark.slow
def test_other_protocols_are_added_with_their_pages_and_what_is_there_is_not_done_again(trained: Trained) -> None:
    run = trained.rows[0]
    before = _entries(run)
    command = ("evaluate", f"run={run}", "protocol=single,single_os8", "threads=1")
    ended = trained.run(*command, computes=True)
    assert ended.code == 0, ended.err
    after = _entries(run)
    assert after["single"] == before["single"]
    assert after["single_os8"]["protocol"] == {"output_stride": 8, "scales": [1.0], "flip": False}
    assert after["single_os8"]["images"] == 4
    low, high = after["single_os8"]["confidence"]["miou"]
    assert low <= after["single_os8"]["miou"] <= high
    assert [line.split(":")[0] for line in ended.out.splitlines() if "mIoU" in line] == ["single", "single_os8"]
    for name in ("single", "single_os8"):
        page = (run / "evaluation" / name / "index.html").read_text()
        assert f"<b>{100 * after[name]['miou']:.1f}%</b>" in page
        assert page.count("<img") == 3 * 4  # one image of four is the best, one in the middle, one the worst
        np.testing.assert_array_equal(
            ImageRecords.load(run / "evaluation" / name / "images.npz").matrix, after[name]["confusion"]
        )
    times = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file() and path.name != "lock"}
    again = trained.run(*command)
    assert (again.code, again.heavy) == (0, [])
    assert {path: path.stat().st_mtime_ns for path in times} == times
    (run / "lock").rename(run / "taken")
    (run / "lock").mkdir()  # as of a run that is somebody else's: root, too, cannot take it
    assert trained.run(*command).code == 0
    refused = trained.run(*command, "overwrite=true")
    assert (refused.code, "cannot be locked, to write into it" in refused.err) == (2, True)
    (run / "lock").rmdir()
    (run / "taken").rename(run / "lock")


@pytest.mark.slow
def test_outlines_are_added_to_an_entry_without_changing_it(trained: Trained) -> None:
    run = trained.rows[0]
    before = _entries(run)["single"]
    ended = trained.run(
        "evaluate", f"run={run}", "protocol=single", "boundary=true", "page=false", "threads=1", computes=True
    )
    assert ended.code == 0, ended.err
    after = _entries(run)["single"]
    assert after.pop("boundary")["f_score"] is not None
    assert after == before


@pytest.mark.exhaustive
def test_an_entry_that_would_change_is_kept_unless_overwriting_is_asked_for(trained: Trained) -> None:
    run = trained.rows[1]
    results = json.loads((run / "results.json").read_text())
    true = results["evaluations"]["single"]
    results["evaluations"]["single"] = {**true, "confusion": [[1]], "miou": 1.0}
    (run / "results.json").write_text(json.dumps(results))
    (run / "evaluation" / "single" / "images.npz").unlink()
    command = ("evaluate", f"run={run}", "protocol=single", "threads=1")
    ended = trained.run(*command)
    assert ended.code == 2
    assert "overwrite=true replaces it" in ended.errors[0]
    assert _entries(run)["single"]["miou"] == 1.0
    ended = trained.run(*command, "overwrite=true")
    assert ended.code == 0, ended.err
    assert _entries(run)["single"]["confusion"] == true["confusion"]


@pytest.mark.slow
def test_another_precision_has_an_entry_of_its_own_whose_page_says_how_to_measure_it_again(trained: Trained) -> None:
    run = trained.rows[0]
    before = _entries(run)["single"]
    other = {"32-true": "bf16-mixed", "bf16-mixed": "32-true"}[before["precision"]]
    words = ("protocol=[single]", f"precision={other}", "batch_size=1", "threads=1")
    ended = trained.run("evaluate", f"run={run}", *words, "overwrite=true", computes=True)
    assert ended.code == 0, ended.err
    after = _entries(run)
    assert after["single"] == before
    assert after[f"single@{other}"]["precision"] == other
    page = (run / "evaluation" / f"single@{other}" / "index.html").read_text()
    wanted = ["atrous-evaluate", f"run={run}", "protocol=single", f"precision={other}", "batch_size=1", "threads=1"]
    assert f"{html.escape(shlex.join(wanted))}<" in page
    again = trained.run("evaluate", f"run={run}", *words)
    assert (again.code, again.heavy) == (0, [])


@pytest.mark.slow
def test_two_runs_are_compared_on_one_page(trained: Trained) -> None:
    first, second = trained.rows
    ended = trained.run("evaluate", f"run={first}", f"compare={second}", "protocol=single", "threads=1", computes=True)
    assert ended.code == 0, ended.err
    (page,) = (first / "evaluation" / "single").glob("against-*.html")
    assert f"comparison: {page}" in ended.out
    difference = 100 * (_entries(second)["single"]["miou"] - _entries(first)["single"]["miou"])
    assert f"<b>{difference:+.2f}</b>" in page.read_text()


@pytest.mark.exhaustive
def test_another_split_has_an_entry_of_its_own(trained: Trained) -> None:
    run = trained.rows[0]
    before = _entries(run)["single"]
    ended = trained.run("evaluate", f"run={run}", "protocol=single", "split=train", "page=false", "threads=1")
    assert ended.code == 0, ended.err
    assert _entries(run)["single"] == before
    assert _entries(run)["single@train"]["confusion"] != before["confusion"]


@pytest.mark.every(6)
@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("protocol=nope",), ("nope", "single_os8")),
        (("checkpoint=first",), ("'first'", "last or best")),
        (("submission=kitti",), ("'kitti'", "one of voc, cityscapes, plain")),
        (("submission=voc",), ("takes its 21 classes", "'shapes' with 11")),
        (("submission=voc", "protocol=single,single_os8"), ("under one protocol",)),
        (("compare=.",), ("compare='.'", "config.yaml")),
        (("compare=${run}",), ("is the run itself",)),
        (("batch_size=0",), ("batch_size=0", "at least 1")),
        (("threads=-2",), ("threads=-2", "at least 0")),
        (("accelerator=nonsense",), ("accelerator='nonsense'", "one of auto, cpu, gpu, cuda")),
        (("accelerator=gpu",), ("accelerator='gpu'", "no GPU", "accelerator=cpu")),
        (("protocol=tiles_os8", "split=nowhere"), ("nowhere", "train, val")),
        (("data=camvid", "data.root=gone"), ("gone",)),
        (("+data.root=.",), ("data.root without data=NAME", "data_root=FOLDER")),
    ],
)
def test_what_it_cannot_do_is_refused(trained: Trained, arguments: tuple[str, ...], words: tuple[str, ...]) -> None:
    ended = trained.run("evaluate", f"run={trained.rows[0]}", *arguments, computes=True)
    assert ended.code == 2
    for word in words:
        assert word in ended.errors[0]


@pytest.mark.exhaustive
def test_a_data_set_with_other_classes_is_refused(trained: Trained, real_data: Path) -> None:
    ended = trained.run("evaluate", f"run={trained.rows[0]}", "data=voc", f"data.root={real_data}")
    assert ended.code == 2
    assert "tells 11 classes apart, but the data set 'voc2012' has 21" in ended.errors[0]


@pytest.mark.slow
def test_a_checkpoint_that_is_not_there_is_named(trained: Trained, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained.rows[0], run)
    (run / "checkpoints" / "best.ckpt").unlink()
    ended = trained.run("evaluate", f"run={run}", "checkpoint=best")
    assert (ended.code, ended.heavy) == (2, [])
    assert "best.ckpt is not there" in ended.errors[0]


@pytest.mark.slow
def test_a_folder_that_cannot_be_written_is_told_before_anything_is_loaded(trained: Trained, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained.rows[0], run, ignore=shutil.ignore_patterns("evaluation"))
    (run / "evaluation").write_text("a file where a folder should be")
    ended = trained.run("evaluate", f"run={run}", "protocol=single_os16")
    assert (ended.code, ended.heavy) == (2, [])
    assert "evaluation cannot be written" in ended.errors[0]


def test_an_unfinished_run_is_refused_with_the_command_that_finishes_it(atrous: Run, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("{}")
    (tmp_path / "status.json").write_text('{"format": 1, "state": "stopped", "step": 3, "max_steps": 9}')
    (tmp_path / "run.json").write_text('{"format": 1, "command": "atrous-train seed=7"}')
    ended = atrous("evaluate", "run=.")
    assert ended.code == 2
    for word in ("stopped at step 3 of 9", "atrous-train seed=7"):
        assert word in ended.errors[0]


def test_an_unfinished_run_without_its_identity_is_refused_in_words(atrous: Run, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("{}")
    ended = atrous("evaluate", "run=.")
    assert ended.code == 2
    (line,) = ended.errors
    assert "the command that began it, which run.json does not tell" in line
