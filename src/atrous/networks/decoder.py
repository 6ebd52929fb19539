"""The decoder of DeepLabv3+: object boundaries from low-level features (DeepLabv3+, section 3.1 and Figure 2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from atrous.errors import ConfigError
from atrous.networks.activation_checkpointing import Checkpointed
from atrous.networks.arguments import truth, whole_number, whole_numbers
from atrous.networks.layers import ConvBatchNorm, concatenated, convolutions_of
from atrous.networks.resize import resize_bilinear


class DecoderStage(nn.Module):
    """Upsample the encoder's map to a low level, concatenate that one, reduced, and refine.

    Args:
        in_channels: Channels of the map from the encoder or the stage before.
        low_level_in_channels: Channels of the backbone's low-level map.
        low_level_channels: Channels that the 1x1 convolution keeps of it.
        convolutions: (kernel size, channels) of each refining convolution.
        separable: Whether the refining convolutions above 1x1 are separable.
        align_corners: As for `resize_bilinear`.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        low_level_in_channels: int,
        low_level_channels: int,
        convolutions: Sequence[Sequence[int]],
        separable: bool,
        align_corners: bool,
    ) -> None:
        super().__init__()
        self.align_corners = align_corners
        self.project_low_level = ConvBatchNorm(
            in_channels=low_level_in_channels, out_channels=low_level_channels, kernel_size=1
        )
        self.refine, self.out_channels = convolutions_of(
            convolutions,
            in_channels=in_channels + low_level_channels,
            name="decoder_convolutions",
            separable=separable,
        )

    def forward(self, x_NCHW: Tensor, low_level_NCHW: Tensor) -> Tensor:
        """Return [N, out_channels, H, W], of the low-level map's size."""
        low_level_NCHW = self.project_low_level(low_level_NCHW)
        x_NCHW = resize_bilinear(x_NCHW, low_level_NCHW.shape[-2:], align_corners=self.align_corners)
        x_NCHW = concatenated([x_NCHW, low_level_NCHW])
        del low_level_NCHW  # not held through what follows, where a step's memory is at its peak
        for convolution in self.refine:
            x_NCHW = convolution(x_NCHW)
        return x_NCHW


class Decoder(Checkpointed):
    """One stage per low level, from the coarsest to the finest; the classifier comes after the last.

    Args:
        encoder_channels: Channels of the encoder's map.
        low_level_in_channels: Channels of each of the backbone's low-level maps, coarsest first.
        low_level_channels: Channels that the 1x1 convolution keeps of each (Table 1 of DeepLabv3+; 48 is best).
        convolutions: (kernel size, channels) of each stage's convolutions (Table 2; two of 3x3, 256 are best).
        separable: Whether those convolutions are separable (section 3.1).
        align_corners: As for `resize_bilinear`.

    Raises:
        ConfigError: A value that cannot be, with the values that can.
    """

    def __init__(
        self,
        *,
        encoder_channels: int,
        low_level_in_channels: Sequence[int],
        low_level_channels: int = 48,
        convolutions: Sequence[Sequence[int]] = ((3, 256), (3, 256)),
        separable: bool = False,
        align_corners: bool = True,
    ) -> None:
        super().__init__()
        low_levels = whole_numbers(low_level_in_channels, name="low_level_in_channels")
        if not low_levels:
            raise ConfigError("low_levels=(): a decoder needs at least one low level, for example (4,)")
        low_level_channels = whole_number(
            low_level_channels, name="low_level_channels", least=1, why="; the paper finds 48 best"
        )
        separable, align_corners = (
            truth(separable, name="decoder_separable"),
            truth(align_corners, name="align_corners"),
        )
        self.stages: Any = nn.ModuleList()
        self.out_channels = whole_number(encoder_channels, name="encoder_channels", least=1)
        for channels in low_levels:
            stage = DecoderStage(
                in_channels=self.out_channels,
                low_level_in_channels=whole_number(channels, name="low_level_in_channels", least=1),
                low_level_channels=low_level_channels,
                convolutions=convolutions,
                separable=separable,
                align_corners=align_corners,
            )
            self.stages.append(stage)
            self.out_channels = stage.out_channels

    def forward(self, encoder_NCHW: Tensor, low_levels_NCHW: Sequence[Tensor]) -> Tensor:
        """Return [N, out_channels, H, W], of the last low-level map's size."""
        x_NCHW = encoder_NCHW
        *coarser, last = zip(self.stages, low_levels_NCHW, strict=True)
        for stage, low_level_NCHW in coarser:
            x_NCHW = self.part(stage, x_NCHW, low_level_NCHW)
        # Not computed twice: the backward pass begins with it, when nothing that it could make room for is gone yet.
        stage, low_level_NCHW = last
        y_NCHW: Tensor = stage(x_NCHW, low_level_NCHW)
        return y_NCHW
