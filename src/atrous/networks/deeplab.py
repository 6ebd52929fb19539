"""The networks of both papers: DeepLabv3 with ASPP, DeepLabv3 in cascade, and DeepLabv3+.

All take RGB images that were preprocessed for their backbone, [N, 3, H, W], and return logits [N, num_classes, H, W].
They work best on sides of k * output_stride + 1 pixels (513, 769), where the corners of all maps coincide.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from atrous.networks.aspp import ASPP
from atrous.networks.backbone import BackboneFactory
from atrous.networks.decoder import Decoder
from atrous.networks.segmenter import BackboneName, Segmenter, build_backbone


class DeepLabV3(Segmenter):
    """DeepLabv3 with ASPP (section 3.3, Figure 5): backbone, ASPP, classifier.

    Args:
        backbone: "resnet18", "resnet34", "resnet50", "resnet101", or a factory (see `BackboneFactory`).
        num_classes: Classes, background included.
        output_stride: Ratio of the image's size to that of the last map: 16 to train, 8 to evaluate in the paper.
        multi_grid: Factors on the atrous rates of block4's units; None = all 1.
        aspp_rates: ASPP's atrous rates, written for output stride 16; they follow the output stride.
        aspp_channels: Channels of every ASPP branch and of its result.
        image_pooling: Whether ASPP has image-level features.
        dropout: Dropout after ASPP.
        align_corners: How every bilinear resize aligns its grids; the official code says True.

    Raises:
        ConfigError: A value that cannot be, with the values that can.
    """

    def __init__(
        self,
        *,
        backbone: BackboneName | BackboneFactory = "resnet50",
        num_classes: int = 21,
        output_stride: int = 16,
        multi_grid: Sequence[int] | None = (1, 2, 4),
        aspp_rates: Sequence[int] = (6, 12, 18),
        aspp_channels: int = 256,
        image_pooling: bool = True,
        dropout: float = 0.1,
        align_corners: bool = True,
    ) -> None:
        built = build_backbone(backbone, output_stride=output_stride, multi_grid=multi_grid)
        aspp = ASPP(
            in_channels=built.feature_info["high"].channels,
            channels=aspp_channels,
            rates=aspp_rates,
            image_pooling=image_pooling,
            dropout=dropout,
            output_stride=output_stride,
            align_corners=align_corners,
        )
        super().__init__(
            backbone=built,
            aspp=aspp,
            head_channels=aspp.out_channels,
            num_classes=num_classes,
            align_corners=align_corners,
        )
        self.aspp: ASPP

    def head(self, features: dict[str, Tensor]) -> Tensor:
        """Return ASPP of the last map."""
        context_NCHW: Tensor = self.aspp(features["high"])
        return context_NCHW


class DeepLabV3Cascade(Segmenter):
    """DeepLabv3 with blocks in cascade (section 3.2, Figure 3): backbone with up to block7, classifier.

    Args:
        backbone: As for DeepLabV3.
        num_classes: Classes, background included.
        output_stride: Ratio of the image's size to that of the last map, up to 256 with block7 (Table 1).
        blocks: Blocks of the backbone, 4 to 7 (Table 2).
        multi_grid: Factors on the atrous rates of the units of block4 and of every added block (Table 3); None = all 1.
        align_corners: As for DeepLabV3.

    Raises:
        ConfigError: A value that cannot be, with the values that can.
    """

    def __init__(
        self,
        *,
        backbone: BackboneName | BackboneFactory = "resnet50",
        num_classes: int = 21,
        output_stride: int = 16,
        blocks: int = 7,
        multi_grid: Sequence[int] | None = (1, 1, 1),
        align_corners: bool = True,
    ) -> None:
        built = build_backbone(backbone, output_stride=output_stride, multi_grid=multi_grid, blocks=blocks)
        channels = built.feature_info["high"].channels
        super().__init__(
            backbone=built, aspp=None, head_channels=channels, num_classes=num_classes, align_corners=align_corners
        )

    def head(self, features: dict[str, Tensor]) -> Tensor:
        """Return the last map as it is: the classifier sits on the last block."""
        return features["high"]


class DeepLabV3Plus(Segmenter):
    """DeepLabv3+ (Figure 2): DeepLabv3's ASPP as the encoder, a decoder that reads low-level features, classifier.

    Args:
        backbone: As for DeepLabV3.
        num_classes: Classes, background included.
        output_stride: As for DeepLabV3.
        multi_grid: As for DeepLabV3.
        aspp_rates: As for DeepLabV3.
        aspp_channels: As for DeepLabV3.
        image_pooling: As for DeepLabV3.
        dropout: As for DeepLabV3.
        low_level_channels: Channels that the decoder keeps of the low-level features (Table 1).
        decoder_convolutions: (kernel size, channels) of each convolution of the decoder (Table 2).
        align_corners: As for DeepLabV3.

    Raises:
        ConfigError: A value that cannot be, with the values that can.
    """

    def __init__(
        self,
        *,
        backbone: BackboneName | BackboneFactory = "resnet50",
        num_classes: int = 21,
        output_stride: int = 16,
        multi_grid: Sequence[int] | None = (1, 2, 4),
        aspp_rates: Sequence[int] = (6, 12, 18),
        aspp_channels: int = 256,
        image_pooling: bool = True,
        dropout: float = 0.1,
        low_level_channels: int = 48,
        decoder_convolutions: Sequence[Sequence[int]] = ((3, 256), (3, 256)),
        align_corners: bool = True,
    ) -> None:
        built = build_backbone(backbone, output_stride=output_stride, multi_grid=multi_grid)
        aspp = ASPP(
            in_channels=built.feature_info["high"].channels,
            channels=aspp_channels,
            rates=aspp_rates,
            image_pooling=image_pooling,
            dropout=dropout,
            output_stride=output_stride,
            align_corners=align_corners,
        )
        decoder = Decoder(
            encoder_channels=aspp.out_channels,
            low_level_in_channels=built.feature_info["low_level"].channels,
            low_level_channels=low_level_channels,
            convolutions=decoder_convolutions,
            align_corners=align_corners,
        )
        super().__init__(
            backbone=built,
            aspp=aspp,
            head_channels=decoder.out_channels,
            num_classes=num_classes,
            align_corners=align_corners,
        )
        self.aspp: ASPP
        self.decoder = decoder

    def head(self, features: dict[str, Tensor]) -> Tensor:
        """Return the decoder's map, of the low-level features' size."""
        decoded_NCHW: Tensor = self.decoder(self.aspp(features["high"]), features["low_level"])
        return decoded_NCHW
