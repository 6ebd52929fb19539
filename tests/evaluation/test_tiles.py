"""Tiles: every pixel covered, blended, and the same labels as the whole image where tiles know as much as it does."""

from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from atrous import DeepLabV3
from atrous.data import Shapes
from atrous.errors import ConfigError
from atrous.evaluation.evaluate import evaluate
from atrous.evaluation.protocol import Protocol, load_protocol, protocol_names
from atrous.evaluation.tiles import fade, tile_starts, tiled_labels
from atrous.networks import ResNet


@given(length=st.integers(1, 400), tile=st.integers(2, 120), share=st.floats(0, 0.99))
@settings(deadline=None)
def test_tiles_cover_a_side_overlap_enough_and_stay_inside(length: int, tile: int, share: float) -> None:
    overlap = int(tile * share)
    starts = tile_starts(length, tile=tile, overlap=overlap)
    covered = np.zeros(length, int)
    for start in starts:
        covered[start : start + tile] += 1
    assert covered.min() >= 1
    assert starts[-1] + min(tile, length) == length
    assert all(before + tile - after >= overlap for before, after in pairwise(starts))


def test_neighbours_fade_into_each_other() -> None:
    weights = fade(7, overlap=2)
    np.testing.assert_allclose(weights, [1 / 3, 2 / 3, 1, 1, 1, 2 / 3, 1 / 3], rtol=1e-6)


@pytest.mark.parametrize("size", [(40, 40), (41, 97), (30, 64), (150, 33)])
def test_labels_are_those_of_probabilities_blended_over_the_whole_image(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    height, width, tile, overlap = *size, (40, 33), 9
    parts: dict[tuple[int, int], np.ndarray] = {}

    def probabilities(rows: slice, columns: slice) -> torch.Tensor:
        part = rng.random((2, 4, rows.stop - rows.start, columns.stop - columns.start), np.float32)
        parts[rows.start, columns.start] = part
        return torch.from_numpy(part)

    labels = tiled_labels(probabilities, size, tile=tile, overlap=overlap)
    total = np.zeros((2, 4, height, width))
    for (top, left), part in parts.items():
        ramps = [np.minimum(np.minimum(np.arange(n) + 1, n - np.arange(n)), overlap + 1) for n in part.shape[-2:]]
        total[:, :, top : top + part.shape[2], left : left + part.shape[3]] += part * np.outer(*ramps)
    np.testing.assert_array_equal(labels, total.argmax(1))
    assert labels.dtype == torch.uint8


def _model() -> DeepLabV3:
    torch.manual_seed(0)
    small = partial(ResNet, units=(1, 1, 1, 1), unit="basic", width=4)
    return DeepLabV3(backbone=small, num_classes=11, aspp_channels=8, multi_grid=None).eval()


def test_a_tile_as_large_as_the_image_changes_nothing_and_results_say_that_there_were_tiles() -> None:
    dataset, whole = Shapes(split="val", length=3, size=65), Protocol(output_stride=16)
    tiled = Protocol(output_stride=16, tile=(65, 65), overlap=16)
    results = [
        evaluate(_model(), dataset, protocol, padded_size=None, preprocessing_name="inception")
        for protocol in (whole, tiled)
    ]
    assert results[0] == results[1]
    assert tiled.as_dict() == {"output_stride": 16, "scales": (1.0,), "flip": False, "tile": (65, 65), "overlap": 16}
    assert "tile" not in whole.as_dict()
    assert whole.is_whole_image
    assert not tiled.is_whole_image


def test_tiles_score_every_labelled_pixel_whatever_the_batch() -> None:
    dataset, protocol = Shapes(split="val", length=3, size=97), Protocol(output_stride=16, tile=(49, 65), overlap=20)
    results = [
        evaluate(_model(), dataset, protocol, padded_size=(129, 129), preprocessing_name="inception", batch_size=size)
        for size in (1, 3)
    ]
    assert results[0] == results[1]
    assert results[0]["pixels"] == 3 * 97 * 97


def test_the_papers_protocols_score_whole_images_and_only_those_named_tiles_do_not() -> None:
    assert {name for name in protocol_names() if not load_protocol(name).is_whole_image} == {"tiles_os8", "tiles_os16"}


def test_cityscapes_protocols_pad_whole_images_as_the_released_code_does() -> None:
    assert load_protocol("cityscapes_ms_flip_os8").scales == [0.75, 1.0, 1.25]
    assert load_protocol("cityscapes_test").scales == [0.75, 1.0, 1.25, 1.5, 1.75, 2.0]
    for name in protocol_names():
        if name.startswith("cityscapes"):
            protocol = load_protocol(name)
            assert protocol.padded_size == [1025, 2049]
            protocol.check_sizes(protocol.output_stride or 16, name=name)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"tile": (64, 64), "overlap": 64}, r"overlap=64 .* below both sides of tile=\[64, 64\]"),
        ({"tile": (64,)}, r"tile=\[64\]: height and width"),
        ({"padded_size": (0, 5)}, r"padded_size=\[0, 5\]"),
    ],
)
def test_impossible_sizes_are_refused(arguments: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Protocol(**arguments)  # type: ignore[arg-type]


def test_sizes_that_aligned_corners_do_not_allow_are_refused_with_those_that_are_close() -> None:
    with pytest.raises(ConfigError, match=r"protocol p: tile=\[513, 500\] .* 497 or 513"):
        Protocol(tile=(513, 500)).check_sizes(16, name="p")
