"""The decoder's structure as data. Its numbers are checked against the official graph in tests/oracles."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch

from atrous.errors import ConfigError
from atrous.networks.decoder import Decoder
from atrous.networks.deeplab import DeepLabV3Plus
from atrous.networks.resnet import resnet50

TABLE2 = [((3, 256),), ((3, 256),) * 2, ((3, 256),) * 3, ((3, 128),), ((1, 256),)]


@pytest.mark.parametrize("convolutions", TABLE2)
@pytest.mark.parametrize("low_level_channels", [8, 64])
def test_single_stage_rows_of_tables_1_and_2(
    convolutions: tuple[tuple[int, int], ...], low_level_channels: int
) -> None:
    decoder = Decoder(
        encoder_channels=16,
        low_level_in_channels=[8],
        low_level_channels=low_level_channels,
        convolutions=convolutions,
    ).eval()
    refined = decoder(torch.randn(1, 16, 3, 4), [torch.randn(1, 8, 9, 13)])
    assert refined.shape == (1, convolutions[-1][1], 9, 13)
    kernels = [parameter for parameter in decoder.stages[0].refine.parameters() if parameter.ndim == 4]
    assert [(weight.shape[-1], weight.shape[0]) for weight in kernels] == list(convolutions)
    assert kernels[0].shape[1] == 16 + low_level_channels


def test_conv3_and_conv2_make_two_stages() -> None:
    # DeepLabv3+, Table 2, last row: upsample to stride 8, then to stride 4, one convolution each.
    model = DeepLabV3Plus(
        backbone=partial(resnet50, width=4), low_levels=(8, 4), decoder_convolutions=((3, 16),), aspp_channels=8
    ).eval()
    sizes: list[tuple[int, ...]] = []
    for stage in model.decoder.stages:
        stage.register_forward_hook(lambda _m, _i, output: sizes.append(tuple(output.shape)))
    model(torch.zeros(1, 3, 65, 97))
    assert sizes == [(1, 16, 9, 13), (1, 16, 17, 25)]
    assert [stage.project_low_level.conv.in_channels for stage in model.decoder.stages] == [32, 16]


def test_separable_convolutions_have_the_parameters_of_a_depthwise_and_a_pointwise_one() -> None:
    def parameters(separable: bool) -> int:
        decoder = Decoder(encoder_channels=16, low_level_in_channels=[8], low_level_channels=4, separable=separable)
        return sum(p.numel() for p in decoder.stages[0].refine.parameters() if p.ndim == 4)

    assert parameters(separable=False) == 9 * (20 * 256 + 256 * 256)
    assert parameters(separable=True) == 9 * (20 + 256) + 20 * 256 + 256 * 256


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"low_level_channels": 0}, "low_level_channels=0 must be at least 1"),
        ({"low_level_in_channels": []}, r"low_levels=\(\): a decoder needs at least one"),
        ({"convolutions": ((2, 256),)}, r"decoder_convolutions: \(2, 256\) must be \(odd kernel size, channels\)"),
        ({"convolutions": ((3, 256, 1),)}, r"\(3, 256, 1\) must be"),
    ],
)
def test_what_cannot_be_built_says_what_can(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Decoder(**{"encoder_channels": 4, "low_level_in_channels": [4], **options})


@pytest.mark.parametrize("low_levels", [(2,), (4, 8), (8, 8), (16, 4)])
def test_low_levels_that_no_backbone_has_are_refused(low_levels: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=r"choose \(4,\), \(8,\) or \(8, 4\)"):
        DeepLabV3Plus(backbone=partial(resnet50, width=4), low_levels=low_levels)
