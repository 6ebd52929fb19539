"""Entries of results.json: what was measured is kept, also where another protocol's outcome has changed."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from atrous import DeepLabV3
from atrous.data.shapes import Shapes
from atrous.errors import StoreError
from atrous.networks import ResNet
from atrous.run_store import RunFolder
from atrous.training.measuring import measure, records_file

_CONFIG: dict[str, Any] = {
    "recipe": {"preprocessing": "imagenet", "precision": "32-true"},
    "data": {
        "val": {"_target_": "atrous.data.Shapes", "split": "val", "length": 1, "size": 33},
        "evaluation_size": None,
        "val_batch_size": 1,
        "num_workers": 0,
    },
    "trainer": {"accelerator": "cpu"},
}


def test_protocols_that_are_sound_are_saved_before_one_that_has_changed_is_refused(tmp_path: Path) -> None:
    torch.manual_seed(0)
    backbone = partial(ResNet, units=(1, 1, 1, 1), unit="basic", width=4)
    model = DeepLabV3(backbone=backbone, aspp_channels=8, multi_grid=None, num_classes=11)
    folder = RunFolder(tmp_path)
    before = {"miou": 1.0, "confusion": [[1]]}
    folder.add_results(evaluations={"single": before})
    entries = {"single": "single", "single_os8": "single_os8"}
    with pytest.raises(StoreError, match=r"single was measured before with another outcome.*overwrite=true"):
        measure(folder, _CONFIG, model, Shapes(split="val", length=1, size=33), entries, overwrite=False)
    evaluations = folder.results()["evaluations"]
    assert evaluations["single"] == before
    assert evaluations["single_os8"]["images"] == 1
    assert [records_file(folder, name).is_file() for name in entries] == [False, True]
