"""The one bilinear resize, against the definition of bilinear interpolation."""

from __future__ import annotations

import torch

from atrous.networks.resize import resize_bilinear


def ramp(height: int, width: int) -> torch.Tensor:
    """Return a plane, [1, 1, height, width], with 0 at one corner and 3 at the opposite one."""
    y, x = torch.linspace(0, 1, height), torch.linspace(0, 2, width)
    return (y[:, None] + x[None, :])[None, None]


def test_aligned_corners_keep_a_plane_a_plane() -> None:
    torch.testing.assert_close(resize_bilinear(ramp(3, 5), (9, 33)), ramp(9, 33))


def test_unaligned_corners_take_pixels_as_areas() -> None:
    x_NCHW = torch.tensor([0.0, 1.0]).reshape(1, 1, 1, 2)
    resized = resize_bilinear(x_NCHW, (1, 4), align_corners=False)
    torch.testing.assert_close(resized.flatten(), torch.tensor([0.0, 0.25, 0.75, 1.0]))


def test_one_value_is_repeated() -> None:
    x_NCHW = torch.randn(2, 3, 1, 1)
    torch.testing.assert_close(resize_bilinear(x_NCHW, (4, 5)), x_NCHW.repeat(1, 1, 4, 5))


def test_the_same_size_is_left_alone() -> None:
    x_NCHW = torch.randn(2, 3, 4, 5)
    assert resize_bilinear(x_NCHW, (4, 5)) is x_NCHW
