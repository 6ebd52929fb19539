"""The pictures: their curves and bars against numbers counted another way, and files that a viewer opens."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import convolve

from atrous.errors import ConfigError
from atrous.networks.deeplab import DeepLabV3, DeepLabV3Cascade, DeepLabV3Plus
from atrous.networks.dense_prediction_cell import DensePredictionCell
from atrous.networks.receptive_field import stages
from atrous.networks.segmenter import Segmenter
from atrous.studies import figures
from atrous.studies.figures import draw_diagram, draw_figure4


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures that were saved."""
    saved: list[Any] = []
    save = figures._save

    def keep(figure: Any, path: Path) -> Path:
        saved.append(figure)
        return save(figure, path)

    monkeypatch.setattr(figures, "_save", keep)
    return saved


def assert_is_a_picture(path: Path) -> None:
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert min(image.size) > 400
        assert np.asarray(image.convert("L")).std() > 10


def test_figure_4_counts_the_valid_weights_of_a_filter(tmp_path: Path, drawn: list[Any]) -> None:
    path = draw_figure4(tmp_path / "new")
    assert path == tmp_path / "new" / "figure4.png"
    assert_is_a_picture(path)
    (axes,) = drawn[0].axes
    curves = {line.get_label(): line.get_xydata() for line in axes.lines}
    assert list(curves) == ["1 valid weight", "4 valid weights", "9 valid weights"]
    for rate in (1, 6, 18, 31, 33, 64, 65, 100):
        taps = np.zeros(2 * rate + 1)
        taps[::rate] = 1
        along_one_axis = convolve(np.ones(65), taps, mode="constant")
        counts = np.outer(along_one_axis, along_one_axis)
        for weights, curve in zip((1, 4, 9), curves.values(), strict=True):
            assert curve[rate - 1] == pytest.approx((rate, (counts == weights).mean()))


NETWORKS: dict[str, Callable[[], Segmenter]] = {
    "cascade": partial(DeepLabV3Cascade, backbone="resnet50", output_stride=256),
    "v3": partial(DeepLabV3, backbone="resnet18"),
    "xception": partial(DeepLabV3Plus, backbone="xception41", aspp_separable=True),
    "mobilenet": partial(DeepLabV3, backbone="mobilenetv2", aspp_rates=()),
    "cell": partial(DeepLabV3Plus, backbone="xception41", context=DensePredictionCell),
}


@pytest.mark.parametrize("name", ["cascade", "mobilenet", "cell"])
def test_the_diagram_has_every_unit_with_its_stride_rates_and_receptive_field(
    name: str, tmp_path: Path, drawn: list[Any]
) -> None:
    with torch.device("meta"):
        model = NETWORKS[name]()
    path = draw_diagram(model, tmp_path)
    assert path == tmp_path / "diagram.png"
    assert_is_a_picture(path)
    walked = stages(model)
    maps, fields = drawn[0].axes
    assert len(maps.patches) == len(fields.patches) == len(walked)
    assert [bar.get_height() for bar in fields.patches] == [stage.receptive_field for stage in walked]
    heights = {stage.stride: box.get_height() for box, stage in zip(maps.patches, walked, strict=True)}
    assert [heights[stride] for stride in sorted(heights)] == sorted(heights.values(), reverse=True)
    assert len(set(heights.values())) == len(heights)
    texts = [text.get_text() for text in maps.texts]
    assert texts[::2] == [str(stage.stride) for stage in walked]
    rates = [stage.rates for stage in walked]
    assert texts[1::2] == ["" if set(rate) <= {1} else "r" + "/".join(map(str, dict.fromkeys(rate))) for rate in rates]
    assert f"output stride {model.output_stride}" in maps.get_title(loc="left")
    assert len({tick.get_text() for tick in fields.get_xticklabels()}) == len(walked)


def test_units_have_the_names_of_the_papers(tmp_path: Path, drawn: list[Any]) -> None:
    with torch.device("meta"):
        draw_diagram(NETWORKS["v3"](), tmp_path)
        draw_diagram(NETWORKS["xception"](), tmp_path)
    labels = [[tick.get_text() for tick in figure.axes[1].get_xticklabels()] for figure in drawn]
    assert labels[0][:4] == ["stem", "pool", "block1/1", "block1/2"]
    assert labels[0][-4:] == ["block4/2", "context 0", "context 1", "context 2"]
    assert labels[1][:2] == ["stem", "unit 1"]
    assert labels[1][-4:] == ["unit 13", "context 0", "context 1", "context 2"]


def test_the_title_says_what_the_colours_mean(tmp_path: Path, drawn: list[Any]) -> None:
    with torch.device("meta"):
        draw_diagram(NETWORKS["v3"](), tmp_path)
    boxes = drawn[0].axes[0].patches
    assert boxes[0].get_facecolor() != boxes[-1].get_facecolor()  # rate 1, rate 18
    assert "atrous rate" in drawn[0].axes[0].get_title(loc="left")


def test_nothing_is_left_of_a_picture_that_cannot_be_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_model: Segmenter) -> None:
        raise ConfigError("no units")

    monkeypatch.setattr(figures, "stages", refuse)
    with torch.device("meta"), pytest.raises(ConfigError):
        draw_diagram(NETWORKS["v3"](), tmp_path)
    assert list(tmp_path.iterdir()) == []
