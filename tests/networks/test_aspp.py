"""ASPP's branches, rates and sizes. Its numbers are checked against the official graph in tests/oracles."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from atrous.errors import ConfigError
from atrous.networks.aspp import ASPP


@pytest.mark.parametrize("rates", [(), (6,), (6, 12, 18), (6, 12, 18, 24)])
@pytest.mark.parametrize("image_pooling", [True, False])
def test_any_rates_with_or_without_image_pooling(rates: tuple[int, ...], image_pooling: bool) -> None:
    aspp = ASPP(in_channels=8, channels=4, rates=rates, image_pooling=image_pooling).eval()
    assert aspp(torch.randn(2, 8, 5, 7)).shape == (2, 4, 5, 7)
    assert aspp.project.conv.in_channels == 4 * (1 + len(rates) + image_pooling)


def test_rates_double_at_output_stride_8_and_halve_at_32() -> None:
    aspp = ASPP(in_channels=2, channels=2)
    seen = {}
    for output_stride in (8, 16, 32):
        aspp.set_output_stride(output_stride)
        seen[output_stride] = [conv.get_submodule("conv").dilation for conv in aspp.atrous_convs]
    assert seen == {stride: [(k * 96 // stride,) * 2 for k in (1, 2, 3)] for stride in (8, 16, 32)}


def test_image_pooling_gives_every_pixel_the_mean_of_the_map() -> None:
    aspp = ASPP(in_channels=3, channels=4, rates=()).eval()
    assert aspp.image_pooling is not None
    x_NCHW = torch.randn(2, 3, 5, 7)
    pooled = aspp.image_pooling(x_NCHW)
    norm = 1 / (1 + 1e-5) ** 0.5
    weight = aspp.image_pooling.project.conv.weight[:, :, 0, 0]
    expected = F.relu(torch.einsum("nc,kc->nk", x_NCHW.mean((2, 3)), weight) * norm)
    torch.testing.assert_close(pooled, expected[:, :, None, None].expand(-1, -1, 5, 7))


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_image_poolings_gradient_is_of_the_mean_and_lies_in_memory_as_the_map(
    memory_format: torch.memory_format,
) -> None:
    aspp = ASPP(in_channels=6, channels=4, rates=()).eval()
    assert aspp.image_pooling is not None
    x_NCHW = torch.randn(2, 6, 5, 7).contiguous(memory_format=memory_format).requires_grad_()
    (by_x,) = torch.autograd.grad(aspp.image_pooling(x_NCHW).square().sum(), x_NCHW)
    assert by_x.stride() == x_NCHW.stride()
    mean_NC11 = x_NCHW.detach().mean((2, 3), keepdim=True).requires_grad_()
    pooled = F.relu(aspp.image_pooling.project(mean_NC11)).expand(-1, -1, 5, 7)
    (by_mean,) = torch.autograd.grad(pooled.square().sum(), mean_NC11)
    torch.testing.assert_close(by_x, (by_mean / 35).expand_as(by_x))


def test_vmap_maps_over_image_pooling() -> None:
    aspp = ASPP(in_channels=6, channels=4, rates=(2,)).eval()
    x_NCHW = torch.randn(3, 2, 6, 5, 7)
    expected = torch.stack([aspp(each) for each in x_NCHW])
    torch.testing.assert_close(torch.func.vmap(aspp)(x_NCHW), expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rates": (6, -1)}, r"aspp_rates=\(6, -1\)"),
        ({"dropout": 1.0}, "dropout=1.0 must be at least 0 and below 1"),
        ({"channels": 0}, "aspp_channels=0 must be at least 1"),
    ],
)
def test_what_cannot_be_built_says_what_can(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ASPP(in_channels=2, **options)  # type: ignore[arg-type]


def test_rates_that_can_be_read_once_are_as_good_as_a_list() -> None:
    assert ASPP(in_channels=4, channels=4, rates=iter((6, 12))).rates == (6, 12)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "message"), [({"in_channels": "4"}, "in_channels='4'"), ({"output_stride": 0}, "=0 ")]
)
def test_aspp_by_itself_refuses_what_no_map_has(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ASPP(**{"in_channels": 4, "channels": 4, **given})
