"""Checkpoints that TensorFlow writes here and now, read as TensorFlow reads them; one of a whole official network."""

from __future__ import annotations

import importlib.util
import json
import os
import runpy
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from atrous.networks.deeplab import DeepLabV3
from atrous.weights.released import load_preset
from atrous.weights.tensorflow import from_tensorflow
from atrous.weights.tf_checkpoint import read_checkpoint

FOLDER = Path(__file__).parents[1] / "tensorflow"
NETWORK = "deeplabv3_mobilenetv2_os16"


def run_tensorflow(script: str, *arguments: str) -> None:
    """Run a script that needs TensorFlow in a process of its own: beside PyTorch, two copies of a library may clash."""
    if importlib.util.find_spec("tensorflow") is None and os.environ.get("ATROUS_ORACLES") != "required":
        pytest.skip("tensorflow is absent; make test-oracles writes checkpoints with it")
    command = [sys.executable, str(FOLDER / script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of new small checkpoints."""
    path = tmp_path_factory.mktemp("small")
    run_tensorflow("write_checkpoint.py", str(path), "--large")
    return path


@pytest.mark.slow
@pytest.mark.parametrize("name", ["official", "sharded", "object_graph", "large"])
def test_every_value_is_what_tensorflow_reads(folder: Path, name: str) -> None:
    checkpoint, expected = read_checkpoint(folder / name), np.load(folder / f"{name}.npz")
    assert set(checkpoint) == set(expected.files)
    for variable, value in expected.items():
        np.testing.assert_array_equal(checkpoint[variable], value, strict=True)


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training checkpoint of DeepLabv3 with MobileNetV2."""
    path = tmp_path_factory.mktemp("network") / "model.ckpt-1"
    run_tensorflow("write_network.py", NETWORK, str(path))
    return path


def values() -> Any:
    return runpy.run_path(str(FOLDER / "values.py"))


@pytest.mark.slow
def test_a_training_checkpoint_of_an_official_network_loads_by_its_path(prefix: Path) -> None:
    checkpoint, reference = read_checkpoint(prefix), json.loads((FOLDER / f"{NETWORK}.json").read_text())
    slots = [name for name in checkpoint if name.endswith("/Momentum")]
    assert len(slots) > 150
    assert any(checkpoint[name].any() for name in slots)
    assert int(checkpoint["global_step"]) == 1

    model, expected = DeepLabV3(backbone="mobilenetv2", aspp_rates=()), DeepLabV3(backbone="mobilenetv2", aspp_rates=())
    report = from_tensorflow(model, prefix)
    assert report.left == ()
    assert set(report.loaded) == {name for name, _ in reference["variables"]}
    from_tensorflow(expected, {name: values()["value_for"](name, shape) for name, shape in reference["variables"]})
    for (name, loaded), wanted in zip(model.state_dict().items(), expected.state_dict().values(), strict=True):
        assert torch.equal(loaded, wanted), name


@pytest.mark.slow
def test_the_archive_of_a_release_gives_the_official_logits(prefix: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATROUS_CACHE", str(prefix.parent / "cache"))
    archive = prefix.parent / "deeplabv3_mnv2.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for path in sorted(prefix.parent.glob("model.ckpt-1.*")):
            tar.add(path, f"deeplabv3_mnv2/{path.name}")
    model = load_preset("mobilenetv2_coco_voc_trainaug", source=archive)
    expected = np.load(FOLDER / f"{NETWORK}.npz")
    shape = json.loads((FOLDER / f"{NETWORK}.json").read_text())["image_shape"]
    image_NCHW = torch.from_numpy(values()["test_image"](*shape[1:3])).permute(0, 3, 1, 2).float() * (2 / 255) - 1
    with torch.inference_mode():
        logits = model.low_resolution_logits(image_NCHW).permute(0, 2, 3, 1).numpy()
    assert np.abs(logits - expected["logits"]).max() <= 1e-5 * np.abs(expected["logits"]).max()
