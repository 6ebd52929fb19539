"""The JSON files of a run: what is valid JSON but in another shape is damaged, as what is no JSON."""

import json
from pathlib import Path

import pytest

from atrous.run_files import DamagedError, read
from atrous.run_store import RunFolder

EVALUATED = '{{"evaluations": {{"single": {{"miou": 0.5, {entry}}}}}}}'
MISSHAPEN = [
    ("results.json", '{"evaluations": []}', "evaluations is no section"),
    ("results.json", '{"evaluations": null}', "evaluations is no section"),
    ("results.json", '{"evaluations": {"a/../b": {"miou": 0.5}}}', "evaluations has the entry 'a/../b', which cannot"),
    ("results.json", '{"training": 3}', "training is no section"),
    ("results.json", '{"evaluations": {"single": {}}}', "evaluations.single has no mIoU"),
    ("results.json", '{"evaluations": {"single": 0.5}}', "evaluations.single has no mIoU"),
    ("results.json", '{"evaluations": {"single": {"miou": true}}}', "evaluations.single has no mIoU"),
    ("results.json", EVALUATED.format(entry='"pixel_accuracy": "high"'), "evaluations.single.pixel_accuracy='high'"),
    ("results.json", EVALUATED.format(entry='"confusion": 3'), "evaluations.single.confusion=3 is not list"),
    ("results.json", EVALUATED.format(entry='"boundary": null'), "evaluations.single.boundary=None is not dict"),
    ("results.json", EVALUATED.format(entry='"iou": {"a": "x"}'), "evaluations.single.iou="),
    ("results.json", EVALUATED.format(entry='"checkpoint": 3'), "evaluations.single.checkpoint=3 is not str"),
    ("results.json", EVALUATED.format(entry='"confidence": 3'), "evaluations.single.confidence=3 is not dict or null"),
    (
        "results.json",
        EVALUATED.format(entry='"confidence": {"miou": [0.5]}'),
        "evaluations.single.confidence.miou=[0.5]",
    ),
    (
        "results.json",
        EVALUATED.format(entry='"boundary": {"trimap_miou": 3}'),
        "evaluations.single.boundary.trimap_miou",
    ),
    (
        "results.json",
        EVALUATED.format(entry='"boundary": {"trimap_miou": [0.5]}'),
        "evaluations.single.boundary has not",
    ),
    (
        "results.json",
        '{"evaluations": {"single": {"miou": Infinity}}}',
        "evaluations.single.miou=inf is not a number that",
    ),
    ("results.json", '{"model": {"parameters": "x"}}', "model.parameters='x' is not a number of at least 0"),
    ("results.json", '{"model": {"size": [129]}}', "model.size=[129] is not a list of 2 times int"),
    ("results.json", '{"training": {"seconds": NaN}}', "training.seconds=nan is not a number of at least 0"),
    ("results.json", '{"training": {"atrous": 1}}', "training.atrous=1 is not str"),
    ("status.json", '{"state": "done", "updated": 1e20}', "updated=1e+20 is not a time in seconds since 1970"),
    ("status.json", '{"state": "done", "step": 99999999999999999999999}', "step=99999999999999999999999 is not int"),
    ("status.json", '{"format": 1}', "state=None is not a state of a run"),
    ("status.json", '{"state": "dome"}', "state='dome' is not a state of a run"),
    ("status.json", '{"state": "failed", "reason": 3}', "reason=3 is not str"),
    ("status.json", '{"state": "running", "step": "3"}', "step='3' is not int"),
    ("run.json", '{"name": 3}', "name=3 is not str"),
    ("run.json", '{"seed": true}', "seed=True is not int"),
    ("run.json", '{"format": true}', "not a file of a run"),
]


@pytest.mark.parametrize(("name", "content", "told"), MISSHAPEN)
def test_a_misshapen_file_is_damaged_named_and_set_aside(tmp_path: Path, name: str, content: str, told: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DamagedError) as caught:
        read(tmp_path / name)
    assert str(caught.value).startswith(f"{tmp_path / name}: {told}")
    folder = RunFolder(tmp_path)
    assert folder.missing_protocols(["single"]) == ["single"]
    assert not folder.is_done
    assert folder.set_damaged_aside() == [tmp_path / f"{name}.damaged-1"]
    assert folder.damaged() == {}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("results.json", '{"evaluations": {"single": {"miou": NaN, "confidence": null, "of a later version": 1}}}'),
        ("results.json", '{"model": {"parameters": 2}}'),
        ("status.json", '{"state": "running", "step": 3, "loss": NaN, "updated": 3}'),
        ("run.json", '{"name": "net", "parent": null, "row": null}'),
        ("run.json", "{}"),
    ],
)
def test_a_file_with_more_or_less_than_readers_need_is_read(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    assert json.dumps(read(tmp_path / name)) == content
    assert RunFolder(tmp_path).damaged() == {}


def test_a_file_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert read(tmp_path / "results.json") == {}
    assert read(tmp_path / "run.json" / "results.json") == {}
