"""A small network, a run folder of it as atrous-train leaves one, and images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from atrous.data.shapes import SHAPES_SPEC, Shapes
from atrous.networks.segmenter import Segmenter
from atrous.prediction.description import Description

CONFIG: dict[str, Any] = {
    "model": {
        "_target_": "atrous.DeepLabV3Plus",
        "aspp_channels": 16,
        "low_level_channels": 8,
        "decoder_convolutions": [[3, 16]],
        "multi_grid": None,
    },
    "backbone": {
        "_target_": "atrous.networks.ResNet",
        "_partial_": True,
        "units": [2, 1, 1, 1],
        "unit": "basic",
        "width": 8,
    },
    "output_stride": 16,
    "data": {"val": {"_target_": "atrous.data.Shapes", "split": "val"}, "evaluation_size": None},
    "recipe": {"preprocessing": "inception"},
}


@pytest.fixture(scope="session")
def description() -> Description:
    return Description(
        model=CONFIG["model"],
        backbone=CONFIG["backbone"],
        output_stride=16,
        spec=SHAPES_SPEC,
        preprocessing="inception",
    )


@pytest.fixture(scope="session")
def network(description: Description) -> Segmenter:
    torch.manual_seed(3)
    model = description.build()
    torch.nn.init.normal_(model.classifier.weight, std=1.0)  # so that classes differ from pixel to pixel
    return model.eval()


@pytest.fixture
def run(tmp_path: Path, network: Segmenter) -> Path:
    """The folder of a finished run; best.ckpt has other weights than last.ckpt."""
    folder = tmp_path / "run"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    (folder / "run.json").write_text(json.dumps({"format": 1, "command": "atrous-train seed=7"}))
    (folder / "status.json").write_text(json.dumps({"format": 1, "state": "done", "step": 9, "max_steps": 9}))
    state = {f"model.{name}": value for name, value in network.state_dict().items()}
    torch.save({"state_dict": state, "global_step": 9}, folder / "checkpoints" / "last.ckpt")
    state["model.classifier.bias"] = torch.linspace(0, 9, 11)
    torch.save({"state_dict": state, "global_step": 5}, folder / "checkpoints" / "best.ckpt")
    return folder


def scene(height: int, width: int, *, seed: int = 0) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A part of a scene of `shapes`."""
    return Shapes(split="val", length=seed + 1, size=257).read(seed)[0][:height, :width]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four images of three sizes, one of them in a sub-folder, and one that is cut off."""
    images = tmp_path / "images"
    (images / "sub").mkdir(parents=True)
    for name, size in (("a.png", (60, 90)), ("b.png", (60, 90)), ("c.png", (100, 41)), ("sub/d.jpg", (33, 50))):
        Image.fromarray(scene(*size)).save(images / name)
    (images / "broken.png").write_bytes((images / "a.png").read_bytes()[:200])
    (images / "notes.txt").write_text("not an image")
    return images
