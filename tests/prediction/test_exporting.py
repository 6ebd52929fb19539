"""Exported files compute what the network computes, at sizes and batches that the exporter has not seen."""

from __future__ import annotations

import copy
import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from atrous import DeepLabV3, DeepLabV3Plus
from atrous.data.preprocessing import INCEPTION
from atrous.errors import CheckpointError, ConfigError
from atrous.networks import ResNet, mobilenetv2
from atrous.networks.segmenter import Segmenter
from atrous.prediction import Description
from atrous.prediction.exporting import export_network
from atrous.prediction.loading import load_network
from atrous.prediction.parity import check_parity, samples_of

from .conftest import scene

SIZES = ((1, 65, 97), (3, 64, 80), (2, 33, 50), (1, 17, 17))  # odd, even, and the smallest
SMALL = partial(ResNet, units=(2, 1, 1, 1), unit="basic", width=8)


def _samples() -> list[Tensor]:
    return samples_of(scene(120, 120), INCEPTION, side=65, smallest=17)


def _mobile() -> Segmenter:
    """Pads as TensorFlow does, where even and odd sizes differ."""
    torch.manual_seed(0)
    return DeepLabV3(backbone=partial(mobilenetv2, width=0.35), num_classes=11, aspp_rates=(), multi_grid=None).eval()


def _unaligned() -> Segmenter:
    torch.manual_seed(0)
    return DeepLabV3Plus(backbone=SMALL, num_classes=11, aspp_channels=8, align_corners=False, low_levels=(8, 4)).eval()


@torch.no_grad()
def _assert_same(network: Segmenter, run: Any) -> None:
    torch.manual_seed(1)
    for n, height, width in SIZES:
        images = torch.randn(n, 3, height, width)
        expected = network(images)
        measured = torch.as_tensor(run(images))
        assert measured.shape == expected.shape
        assert (measured - expected).abs().max() <= 1e-4 * expected.abs().max()


@pytest.mark.exhaustive  # what the command writes is checked in tests/commands/test_export.py
@pytest.mark.parametrize("make", [None, _mobile, _unaligned])
def test_a_reloaded_pt2_computes_the_networks_logits(
    make: Any, network: Segmenter, description: Description, tmp_path: Path
) -> None:
    model, path = network if make is None else make(), tmp_path / "n.pt2"
    assert export_network(model, description, path, kind="pt2", samples=_samples()) <= 1e-4
    extra = {"atrous.json": ""}
    program = torch.export.load(path, extra_files=extra)
    _assert_same(model, program.module())
    assert json.loads(extra["atrous.json"])["classes"] == list(description.spec.classes)


@pytest.mark.exhaustive
@pytest.mark.parametrize("make", [None, _mobile])
def test_onnxruntime_computes_the_networks_logits(
    make: Any, network: Segmenter, description: Description, tmp_path: Path
) -> None:
    for package in ("onnx", "onnxscript"):
        pytest.importorskip(package)
    onnxruntime = pytest.importorskip("onnxruntime")
    model, path = network if make is None else make(), tmp_path / "n.onnx"
    assert export_network(model, description, path, kind="onnx", samples=_samples()) <= 1e-4
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (given,), (result,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.shape) == ("image", ["batch", 3, "height", "width"])
    assert (result.name, result.shape) == ("logits", ["batch", 11, "height", "width"])
    _assert_same(model, lambda images: session.run(None, {"image": images.numpy()})[0])
    described = session.get_modelmeta().custom_metadata_map["atrous"]
    assert Description.from_json(described, source="n.onnx").spec == description.spec


def test_safetensors_are_read_again(network: Segmenter, description: Description, tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    path = tmp_path / "n.safetensors"
    assert export_network(network, description, path, kind="safetensors", samples=_samples()) == 0
    assert [file.name for file in tmp_path.iterdir()] == ["n.safetensors"]
    loaded, _ = load_network(path)
    _assert_same(network, loaded)


@pytest.mark.exhaustive
@pytest.mark.no_cover  # what it runs is counted in other tests, where it takes half the time
def test_a_file_that_computes_something_else_never_appears(
    network: Segmenter, description: Description, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoilt(model: Segmenter) -> Segmenter:
        from atrous.evaluation.preparation import folded

        copy = folded(model)
        assert copy.classifier.bias is not None
        copy.classifier.bias[3] += 0.01 * 30
        return copy

    monkeypatch.setattr("atrous.prediction.exporting.folded", spoilt)
    with pytest.raises(
        CheckpointError, match=r"n\.pt2 computes something else.*1 images of 65x65.*nothing was written"
    ):
        export_network(network, description, tmp_path / "n.pt2", kind="pt2", samples=_samples())
    assert list(tmp_path.iterdir()) == []


def test_numbers_that_are_no_numbers_do_not_pass_as_parity(network: Segmenter) -> None:
    with pytest.raises(CheckpointError, match="nan"):
        check_parity(network, lambda images: network(images) * float("nan"), _samples(), what="n")


@pytest.mark.parametrize("kind", ["pt2", "safetensors"])
def test_weights_that_are_no_numbers_are_named(
    kind: str, network: Segmenter, description: Description, tmp_path: Path
) -> None:
    broken = copy.deepcopy(network)
    broken.classifier.weight.data[3, 0] = float("nan")
    broken.backbone.get_buffer("stem.conv1.norm.running_var")[0] = float("inf")
    match = r"weights hold NaN or infinity, in backbone\.stem.*running_var, classifier\.weight:.*nothing was written"
    with pytest.raises(CheckpointError, match=match):
        export_network(broken, description, tmp_path / f"n.{kind}", kind=kind, samples=_samples())
    assert list(tmp_path.iterdir()) == []


def test_logits_that_overflow_are_not_called_another_computation(network: Segmenter) -> None:
    with pytest.raises(CheckpointError, match=r"own logits of 1 images of 65x65 hold NaN or infinity"):
        check_parity(lambda images: network(images) * float("inf"), network, _samples(), what="n")


def test_logits_that_are_all_0_are_parity_with_themselves(network: Segmenter) -> None:
    assert check_parity(lambda images: network(images) * 0, lambda x: network(x) * 0, _samples(), what="n") == 0
    with pytest.raises(CheckpointError, match="differ"):
        check_parity(lambda images: network(images) * 0, network, _samples(), what="n")


def test_a_missing_package_is_named_with_its_extra(
    network: Segmenter, description: Description, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"format=onnx needs the package onnx: pip install 'atrous\[export\]'"):
        export_network(network, description, tmp_path / "n.onnx", kind="onnx", samples=_samples())
    monkeypatch.setitem(__import__("sys").modules, "safetensors", None)
    with pytest.raises(ConfigError, match=r"safetensors: pip install 'atrous\[export\]'"):
        export_network(network, description, tmp_path / "n.safetensors", kind="safetensors", samples=_samples())


def test_samples_are_the_image_at_three_sizes() -> None:
    image = scene(120, 120)
    samples = samples_of(image, INCEPTION, side=120, smallest=17)
    assert [tuple(sample.shape) for sample in samples] == [(1, 3, 120, 120), (2, 3, 90, 150), (3, 3, 72, 48)]
    expected = torch.from_numpy(image.astype(np.float32) * (2 / 255) - 1).permute(2, 0, 1)
    torch.testing.assert_close(samples[0][0], expected, atol=1e-5, rtol=0)
