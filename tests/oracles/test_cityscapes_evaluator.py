"""The scores of Cityscapes' own evaluator (cityscapesScripts) on the very files that a submission holds."""

import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from atrous.data.cityscapes_labels import CITYSCAPES_SPEC, LABELS, train_id_table
from atrous.evaluation.scores import count_matrices, scores
from atrous.evaluation.submission import SERVERS, write_submission


@pytest.fixture(scope="module")
def evaluator() -> Any:
    """The evaluator's module; what it imports for 3D boxes alone may be absent."""
    pytest.importorskip("cityscapesscripts", reason="pip install --no-deps cityscapesscripts")
    name = "pyquaternion"
    if name not in sys.modules:
        try:
            __import__(name)
        except ImportError:
            stand_in = types.ModuleType(name)
            stand_in.Quaternion = object  # type: ignore[attr-defined]
            sys.modules[name] = stand_in
    return pytest.importorskip("cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling")


def _scenes(number: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Label ids with void among them, and predictions that are right about half the time."""
    rng = np.random.default_rng(0)
    ids = [label.id for label in LABELS if label.id >= 0]
    scenes = []
    for _ in range(number):
        truth = np.kron(rng.choice(ids, (6, 9)), np.ones((8, 8))).astype(np.uint8)
        labels = np.where(rng.random(truth.shape) < 0.5, train_id_table()[truth], rng.integers(0, 19, truth.shape))
        labels[labels == 255] = 3
        scenes.append((truth, labels))
    return scenes


def test_every_class_and_the_mean_are_those_of_cityscapes_own_evaluator(evaluator: Any, tmp_path: Path) -> None:
    scenes = _scenes(5)
    ids = [f"aachen_{number:06d}_000019" for number in range(len(scenes))]
    predictions = [(name, labels.shape, labels) for name, (_, labels) in zip(ids, scenes, strict=True)]
    write_submission(tmp_path / "submission.zip", predictions, server=SERVERS["cityscapes"], ids=ids)
    import zipfile

    zipfile.ZipFile(tmp_path / "submission.zip").extractall(tmp_path / "results")
    for name, (truth, _) in zip(ids, scenes, strict=True):
        Image.fromarray(truth).save(tmp_path / f"{name}_gtFine_labelIds.png")
    args = evaluator.args
    args.quiet, args.JSONOutput, args.evalInstLevelScore = True, False, False
    args.predictionPath, args.predictionWalk = str(tmp_path / "results"), None
    truths = [str(tmp_path / f"{name}_gtFine_labelIds.png") for name in ids]
    theirs = evaluator.evaluateImgLists([evaluator.getPrediction(args, path) for path in truths], truths, args)

    matrix = sum(
        count_matrices(
            torch.from_numpy(train_id_table()[truth]),
            torch.from_numpy(labels),
            torch.zeros((), dtype=torch.int64),
            num_classes=19,
            num_groups=1,
        )[0]
        for truth, labels in scenes
    )
    ours = scores(np.asarray(matrix), CITYSCAPES_SPEC.classes)
    for name, value in ours["iou"].items():
        assert value == pytest.approx(theirs["classScores"][name], abs=1e-12), name
    assert ours["miou"] == pytest.approx(theirs["averageScoreClasses"], abs=1e-12)
