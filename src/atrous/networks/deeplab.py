"""The networks of both papers: DeepLabv3 with ASPP, DeepLabv3 in cascade, and DeepLabv3+.

All take RGB images that were preprocessed for their backbone, [N, 3, H, W], and return logits [N, num_classes, H, W].
They work best on sides of k * output_stride + 1 pixels (513, 769), where the corners of all maps coincide.

They can be differentiated twice, and transformed by torch.func; in a training on a CPU once, where batch norms take
kernels of this package (`trainer.cpu_kernels`).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from atrous.networks.aspp import Context, ContextFactory
from atrous.networks.backbone import BackboneFactory, low_level_names
from atrous.networks.decoder import Decoder
from atrous.networks.layers import convolutions_of
from atrous.networks.segmenter import BackboneName, Segmenter, build_backbone, build_context


class DeepLabV3(Segmenter):
    """DeepLabv3 with ASPP (section 3.3, Figure 5): backbone, ASPP, classifier.

    Args:
        backbone: A name ("resnet18" to "resnet152", "xception41", "xception65", "xception71", "mobilenetv2") or a
            factory (see `BackboneFactory`).
        num_classes: Classes, background included.
        output_stride: Ratio of the image's size to that of the last map: 16 to train, 8 to evaluate in the paper.
        blocks: Blocks of a ResNet: 5 to 7 puts ASPP behind the cascade (DeepLabv3, section 4.3).
        multi_grid: Factors on the atrous rates of the units of block4 and of every added block (in Xception, of the
            convolutions of the last unit). None = the papers' for a backbone given by name: (1, 2, 4) for ResNet-50,
            101 and 152, all 1 for the others; all 1 for a factory, which a config's backbone is. The weights of
            a run load under a name all the same: give (1, 1, 1) to those that were trained with model.multi_grid=null.
        aspp_rates: ASPP's atrous rates, written for output stride 16; they follow the output stride. The released
            MobileNetV2 models have none.
        aspp_channels: Channels of every ASPP branch and of its result.
        aspp_separable: Whether ASPP's 3x3 convolutions are separable.
        image_pooling: Whether ASPP has image-level features.
        dropout: Dropout after ASPP.
        context: What to build in place of ASPP, such as `DensePredictionCell`; the ASPP arguments are unused then.
        head_convolutions: (kernel size, channels) of convolutions between ASPP and the classifier: none in the paper,
            one of 3x3, 256 in torchvision's DeepLabv3.
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
        blocks: int = 4,
        multi_grid: Sequence[int] | None = None,
        aspp_rates: Sequence[int] = (6, 12, 18),
        aspp_channels: int = 256,
        aspp_separable: bool = False,
        image_pooling: bool = True,
        dropout: float = 0.1,
        context: ContextFactory | None = None,
        head_convolutions: Sequence[Sequence[int]] = (),
        align_corners: bool = True,
    ) -> None:
        built = build_backbone(backbone, output_stride=output_stride, multi_grid=multi_grid, blocks=blocks)
        built.read_low_levels(())
        built_context = build_context(
            context,
            backbone=built,
            channels=aspp_channels,
            rates=aspp_rates,
            separable=aspp_separable,
            image_pooling=image_pooling,
            dropout=dropout,
            align_corners=align_corners,
        )
        refine, channels = convolutions_of(
            head_convolutions, in_channels=built_context.out_channels, name="head_convolutions"
        )
        super().__init__(
            backbone=built,
            context=built_context,
            head_channels=channels,
            num_classes=num_classes,
            align_corners=align_corners,
        )
        self.context: Context
        self.refine = refine

    def head(self, features: dict[str, Tensor]) -> Tensor:
        """Return ASPP of the last map, refined where the head has convolutions."""
        return self.refine(self.context(features["high"]))  # type: ignore[no-any-return]


class DeepLabV3Cascade(Segmenter):
    """DeepLabv3 with blocks in cascade (section 3.2, Figure 3): backbone with up to block7, classifier.

    Args:
        backbone: A ResNet, by name or factory.
        num_classes: Classes, background included.
        output_stride: Ratio of the image's size to that of the last map, up to 256 with block7 (Table 1).
        blocks: Blocks of the backbone, 4 to 7 (Table 2).
        multi_grid: Factors on the atrous rates of the units of block4 and of every added block (Table 3); None = all 1,
            for a name and for a factory.
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
        multi_grid: Sequence[int] | None = None,
        align_corners: bool = True,
    ) -> None:
        built = build_backbone(backbone, output_stride=output_stride, multi_grid=multi_grid, blocks=blocks, aspp=False)
        built.read_low_levels(())
        super().__init__(
            backbone=built,
            context=None,
            head_channels=built.out_channels,
            num_classes=num_classes,
            align_corners=align_corners,
        )

    def head(self, features: dict[str, Tensor]) -> Tensor:
        """Return the last map: the classifier sits on the last block."""
        return features["high"]


class DeepLabV3Plus(Segmenter):
    """DeepLabv3+ (Figure 2): DeepLabv3's ASPP as the encoder, a decoder that reads low-level features, classifier.

    Args:
        backbone: As for DeepLabV3.
        num_classes: Classes, background included.
        output_stride: As for DeepLabV3.
        multi_grid: As for DeepLabV3, None included.
        aspp_rates: As for DeepLabV3.
        aspp_channels: As for DeepLabV3.
        aspp_separable: As for DeepLabV3; the papers' "SC" is this together with `decoder_separable`.
        image_pooling: As for DeepLabV3.
        dropout: As for DeepLabV3.
        context: As for DeepLabV3.
        low_levels: Strides of the low-level features that the decoder reads, from coarse to fine: (4,) is Conv2,
            (8, 4) is Conv3, then Conv2 (Table 2, last row).
        low_level_channels: Channels that the decoder keeps of each low level (Table 1).
        decoder_convolutions: (kernel size, channels) of the convolutions of each stage of the decoder (Table 2).
        decoder_separable: Whether those convolutions are separable.
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
        multi_grid: Sequence[int] | None = None,
        aspp_rates: Sequence[int] = (6, 12, 18),
        aspp_channels: int = 256,
        aspp_separable: bool = False,
        image_pooling: bool = True,
        dropout: float = 0.1,
        context: ContextFactory | None = None,
        low_levels: Sequence[int] = (4,),
        low_level_channels: int = 48,
        decoder_convolutions: Sequence[Sequence[int]] = ((3, 256), (3, 256)),
        decoder_separable: bool = False,
        align_corners: bool = True,
    ) -> None:
        built = build_backbone(backbone, output_stride=output_stride, multi_grid=multi_grid)
        built_context = build_context(
            context,
            backbone=built,
            channels=aspp_channels,
            rates=aspp_rates,
            separable=aspp_separable,
            image_pooling=image_pooling,
            dropout=dropout,
            align_corners=align_corners,
        )
        names = low_level_names(low_levels)
        built.read_low_levels(names)
        decoder = Decoder(
            encoder_channels=built_context.out_channels,
            low_level_in_channels=[built.feature_info[name].channels for name in names],
            low_level_channels=low_level_channels,
            convolutions=decoder_convolutions,
            separable=decoder_separable,
            align_corners=align_corners,
        )
        super().__init__(
            backbone=built,
            context=built_context,
            head_channels=decoder.out_channels,
            num_classes=num_classes,
            align_corners=align_corners,
        )
        self.context: Context
        self.decoder, self._low_levels = decoder, names

    def head(self, features: dict[str, Tensor]) -> Tensor:
        """Return the decoder's map, of the finest low level's size."""
        low_levels_NCHW = list(map(features.__getitem__, self._low_levels))  # torch.compile takes no closure and `del`
        context_NCHW = self.context(features["high"])
        del features  # and with them what no decoder reads: a step's memory is at its peak there
        return self.decoder(context_NCHW, low_levels_NCHW)  # type: ignore[no-any-return]
