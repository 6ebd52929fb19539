"""The decoder of DeepLabv3+: object boundaries from low-level features (DeepLabv3+, section 3.1 and Figure 2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from atrous.errors import ConfigError
from atrous.networks.layers import ConvBatchNorm
from atrous.networks.resize import resize_bilinear


class Decoder(nn.Module):
    """Upsample the encoder's map, concatenate the reduced low-level map, refine; the classifier comes after it.

    Args:
        encoder_channels: Channels of the encoder's map.
        low_level_in_channels: Channels of the backbone's low-level map.
        low_level_channels: Channels that the 1x1 convolution keeps of it (Table 1 of DeepLabv3+; 48 is best).
        convolutions: (kernel size, channels) of each refining convolution (Table 2; two of 3x3, 256 are best).
        align_corners: As for `resize_bilinear`.
    """

    def __init__(
        self,
        *,
        encoder_channels: int,
        low_level_in_channels: int,
        low_level_channels: int = 48,
        convolutions: Sequence[Sequence[int]] = ((3, 256), (3, 256)),
        align_corners: bool = True,
    ) -> None:
        super().__init__()
        _check(low_level_channels, convolutions)
        self.align_corners = align_corners
        self.project_low_level = ConvBatchNorm(
            in_channels=low_level_in_channels, out_channels=low_level_channels, kernel_size=1
        )
        self.refine = nn.Sequential()
        channels = encoder_channels + low_level_channels
        for kernel_size, out_channels in convolutions:
            conv = ConvBatchNorm(in_channels=channels, out_channels=out_channels, kernel_size=kernel_size)
            self.refine.append(conv)
            channels = out_channels
        self.out_channels = channels

    def forward(self, encoder_NCHW: Tensor, low_level_NCHW: Tensor) -> Tensor:
        """Return [N, out_channels, H, W], of the low-level map's size."""
        low_level_NCHW = self.project_low_level(low_level_NCHW)
        encoder_NCHW = resize_bilinear(encoder_NCHW, low_level_NCHW.shape[-2:], align_corners=self.align_corners)
        y_NCHW: Tensor = self.refine(torch.cat([encoder_NCHW, low_level_NCHW], dim=1))
        return y_NCHW


def _check(low_level_channels: int, convolutions: Sequence[Sequence[int]]) -> None:
    if low_level_channels < 1:
        raise ConfigError(f"low_level_channels={low_level_channels!r} must be at least 1; the paper finds 48 best")
    for convolution in convolutions:
        if len(convolution) != 2 or convolution[0] % 2 == 0 or min(convolution) < 1:
            raise ConfigError(
                f"decoder_convolutions: {tuple(convolution)!r} must be (odd kernel size, channels), "
                "for example (3, 256)"
            )
