"""The zoo's rows: complete, unique, of the right types, and written for constructors that exist."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections import Counter
from typing import get_args
from urllib.parse import urlsplit

import pytest

from atrous.data.preprocessing import Preprocessing
from atrous.errors import ConfigError
from atrous.networks import deeplab, mobilenet, resnet, xception
from atrous.networks.segmenter import BackboneName
from atrous.weights.urls import cached_path
from atrous.weights.zoo import Preset, preset, presets

ALL = [preset(name) for name in presets()]
SCORED = [row for row in ALL if row.expected]
BACKBONES = {"resnet": resnet.ResNet, "xception": xception.Xception, "mobilenet": mobilenet.MobileNetV2}


def official(dataset: str) -> list[Preset]:
    return [row for row in SCORED if row.dataset == dataset and row.format == "tensorflow"]


def test_names_aliases_and_urls_are_unique() -> None:
    names = [name for row in ALL for name in (row.name, *row.aliases)]
    assert [name for name, count in Counter(names).items() if count > 1] == []
    assert len({row.url for row in ALL}) == len({cached_path(row.url, cache="x") for row in ALL}) == len(ALL)


def test_aliases_are_the_zoos_older_names() -> None:
    for alias in ("xception_coco_voc_trainaug", "xception_coco_voc_trainval", "xception_cityscapes_trainfine"):
        assert preset(alias) == preset(alias.replace("xception", "xception65"))
        assert alias not in presets()


def test_unknown_names_bring_close_ones() -> None:
    with pytest.raises(
        ConfigError, match=r"weights 'xception65_voc_trainaug' .*did you mean xception65_coco_voc_train"
    ):
        preset("xception65_voc_trainaug")
    with pytest.raises(ConfigError, match=r"weights '123' are unknown; there are mobilenetv2_coco_voc_trainaug, "):
        preset("123")


@pytest.mark.parametrize(
    ("dataset", "rows", "miou", "multiply_adds"),
    [("voc2012", 6, 486.48, 6472.80), ("cityscapes", 4, 303.49, 9551.07)],
)
def test_the_sums_are_those_of_the_published_tables(dataset: str, rows: int, miou: float, multiply_adds: float) -> None:
    # Sums of the columns of model_zoo.md, which has no Xception-71.
    scores = [score for row in official(dataset) if row.network.backbone != "xception71" for score in row.expected]
    assert len(scores) == rows
    assert sum(score.miou for score in scores) == pytest.approx(miou)
    assert sum(score.multiply_adds or 0 for score in scores) == pytest.approx(multiply_adds)


@pytest.mark.parametrize("row", SCORED, ids=lambda row: row.name)
def test_more_work_scores_higher(row: Preset) -> None:
    by_work = sorted(row.expected, key=lambda score: len(score.scales))
    assert [score.miou for score in by_work] == sorted(score.miou for score in by_work)
    for score in row.expected:
        assert 0 < score.miou < 100
        assert score.output_stride in (8, 16)
        assert list(score.scales) == sorted(score.scales)
        assert 1.0 in score.scales
        assert score.flip == (len(score.scales) > 1)
        assert score.split in ("val", "test")


def test_the_same_network_at_the_same_work_has_the_same_multiply_adds() -> None:
    known: dict[tuple[object, ...], float | None] = {}
    for row in SCORED:
        for score in row.expected:
            work = (row.dataset, row.network.backbone, score.output_stride, score.scales, score.flip)
            assert known.setdefault(work, score.multiply_adds) == score.multiply_adds


@pytest.mark.parametrize("row", ALL, ids=lambda row: row.name)
def test_a_row_agrees_with_itself(row: Preset) -> None:
    file = urlsplit(row.url).path.rsplit("/", 1)[-1]
    host = {"tensorflow": "download.tensorflow.org", "torchvision": "download.pytorch.org"}[row.format]
    assert urlsplit(row.url).hostname == host
    assert file.endswith({"tensorflow": ".tar.gz", "torchvision": ".pth"}[row.format])
    if row.format == "torchvision":
        assert row.sha256 is not None
        assert file.removesuffix(".pth").endswith(f"-{row.sha256}")
    classes = {"voc2012": 21, "coco_voc": 21, "cityscapes": 19, "ade20k": 151, "imagenet": 1001}
    assert row.classes == classes[row.dataset] - (row.dataset == "imagenet" and row.format == "torchvision")
    assert (row.network.model is None) == (row.dataset == "imagenet") == (not row.expected)
    Preprocessing.named(row.preprocessing)
    backbone_of_file = {"mnv2": "mobilenetv2", "mobilenet": "mobilenetv2", "xception71": "xception71"}
    for part, backbone in backbone_of_file.items():
        assert (part in file) <= (row.network.backbone == backbone)


@pytest.mark.parametrize("row", ALL, ids=lambda row: row.name)
def test_the_network_is_written_for_constructors_that_exist(row: Preset) -> None:
    network = row.network
    assert network.backbone in get_args(BackboneName)
    backbone = next(kind for start, kind in BACKBONES.items() if network.backbone.startswith(start))
    assert set(network.backbone_options) <= set(inspect.signature(backbone).parameters)
    if network.model is None:
        assert not network.arguments
    else:
        assert set(network.arguments) <= set(inspect.signature(getattr(deeplab, network.model)).parameters)


def test_reading_the_zoo_costs_no_heavy_library() -> None:
    script = (
        "import sys, atrous.weights.zoo as z; assert 'yaml' not in sys.modules; z.presets(); "
        "print(*({'torch', 'numpy', 'lightning', 'hydra', 'omegaconf'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
